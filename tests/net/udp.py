# SPDX-License-Identifier: Apache-2.0
"""A UDP server and clients that say what they see. What they print has no port and no time in it, so
the same client on the kernel's stack and through an instance prints the same.

  udp.py serve ADDRESS PORT     answers: echo, who, sum, put KEY, has KEY
  udp.py client FAR OTHER_PORT SILENT_PORT NEAR
"""
import ctypes
import errno
import hashlib
import os
import select
import socket
import sys
import time

PORT = 7007


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve(address, port):
    s = socket.socket(family(address), socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
    s.bind((address, port))
    print("serving", flush=True)
    keys = set()
    while True:
        data, peer = s.recvfrom(65536)
        word, _, rest = data.partition(b" ")
        answer = data
        if word == b"who":
            answer = f"{peer[0]} {peer[1]} {port}".encode()
        elif word == b"sum":
            answer = f"{len(data)} {hashlib.sha256(data).hexdigest()}".encode()
        elif word == b"put":
            keys.add(rest)
            continue
        elif word == b"has":
            answer = b"yes" if rest in keys else b"no"
        s.sendto(answer, peer)


def outcome(call, *args):
    try:
        return call(*args)
    except OSError as e:
        return errno.errorcode[e.errno]


def new(fam):
    s = socket.socket(fam, socket.SOCK_DGRAM)
    s.settimeout(3)
    return s


def disconnect(s):
    """connect() with AF_UNSPEC, which Python cannot say."""
    sa = ctypes.create_string_buffer(b"\0" * 28)
    ctypes.CDLL(None, use_errno=True).connect(s.fileno(), sa, 28)


def ask(s, request):
    s.send(request)
    return s.recv(65536)


class Client:
    def __init__(self, far, other, silent, near):
        self.far, self.other, self.silent, self.near = far, other, silent, near
        self.fam = family(far)

    def dial(self, port=PORT, fam=None, far=None):
        s = new(fam or self.fam)
        s.connect((far or self.far, port))
        return s

    def names(self):
        s = self.dial()
        seen = ask(s, b"who").decode().split()
        print("peer", s.getpeername()[:2])
        print("own address", s.getsockname()[0])
        print("seen as it is named", seen[:2] == [s.getsockname()[0], str(s.getsockname()[1])])
        s.send(b"echo")
        print("source", s.recvfrom(100)[1][:2], flush=True)

    def mapped(self):
        if ":" in self.far:
            return
        s = self.dial(fam=socket.AF_INET6, far="::ffff:" + self.far)
        ask(s, b"echo")
        s.send(b"echo")
        print("mapped", s.getpeername()[:2], s.getsockname()[0], s.recvfrom(100)[1][:2])

    def lengths(self):
        s = self.dial()
        for n in list(range(0, 40)) + [1000, 1452]:
            data = (b"echo " + bytes(i & 255 for i in range(n)))[:n]
            s.send(data)
            print("echo", n, s.recv(65536) == data)
        most = 65507 if self.fam == socket.AF_INET else 65527
        for n in (1453, 1472, 1473, 4000, 30000, most):
            data = b"sum " + os.urandom(n - 4)
            want = f"{n} {hashlib.sha256(data).hexdigest()}".encode()
            print("sum", n, ask(s, data) == want)
        print("too long", outcome(s.send, b"x" * (most + 1)))
        for i in range(20):  # boundaries and order
            s.send(b"echo %d" % i)
        print("order", [s.recv(100) for _ in range(20)] == [b"echo %d" % i for i in range(20)])

    def bound(self):
        for address in (":: 0.0.0.0".split()[self.fam == socket.AF_INET], self.near):
            for _ in range(2):  # and again at once
                s = new(self.fam)
                s.bind((address, 20123))
                s.connect((self.far, PORT))
                print("bound", address, ask(s, b"who").decode())
                s.connect((self.far, self.other))
                print("elsewhere", ask(s, b"who").decode())
                s.connect((self.far, self.other))
                print("there again", ask(s, b"who").decode())
                s.close()

    def refused(self):
        s = self.dial(self.silent)
        s.send(b"x")
        print("refused", outcome(s.recv, 10))
        print("goes on", outcome(s.send, b"x"))
        print("refused again", outcome(s.recv, 10))

    def reconnect(self):
        s = self.dial()
        ask(s, b"echo")
        s.connect((self.far, self.other))
        print("other", s.getpeername()[:2], ask(s, b"who").decode().split()[2])
        disconnect(s)
        print("disconnected", outcome(s.getpeername))
        s.connect((self.far, PORT))
        print("back", s.getpeername()[:2], ask(s, b"who").decode().split()[2])
        s.connect((self.far, PORT))
        print("there again", s.getpeername()[:2], ask(s, b"who").decode().split()[2])
        s.connect((self.near, self.other))  # an address of this host
        print("own host", ask(s, b"who").decode().split()[2])
        disconnect(s)
        s.sendto(b"echo", (self.far, PORT))
        print("unconnected", s.recvfrom(100)[1][:2])

    def failing(self):
        """A connect() that fails leaves the socket where it was."""
        nowhere = ["255.255.255.255", "192.0.2.1"]
        if self.fam == socket.AF_INET6:
            nowhere = ["2001:db8::1"]
        s = self.dial()
        for far in nowhere:
            ask(s, b"echo")
            print("cannot", outcome(s.connect, (far, PORT)))
            print("still", s.getpeername()[:2], ask(s, b"who").decode().split()[2])
            s.send(b"echo")
            print("source", s.recvfrom(100)[1][:2])
        s.connect((self.far, self.other))
        print("in the end", s.getpeername()[:2], ask(s, b"who").decode().split()[2])

    def shared(self):
        """Two sockets of the same two ends: both send, one gets what comes, then the other."""
        socks = [new(self.fam) for _ in range(2)]
        for s in socks:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            s.bind((self.near, 20124))
        for s in socks:
            s.connect((self.far, PORT))
        for s in socks:
            s.send(b"echo")
            ready = select.select(socks, [], [], 3)[0]
            print("shared", [r.recv(10) for r in ready])
        socks.remove(ready[0])
        ready[0].close()
        for _ in range(20):  # its end is told a little later
            socks[0].send(b"echo")
            if select.select(socks, [], [], 0.2)[0]:
                break
        print("shared no more", outcome(socks[0].recv, 10))

    def left(self):
        """Who gets the port of a socket that was disconnected gets its own datagrams."""
        s = self.dial()
        ask(s, b"echo")
        port = s.getsockname()[1]
        disconnect(s)
        time.sleep(3.5)
        t = new(self.fam)
        t.bind(("", port))
        t.connect((self.far, PORT))
        print("port of another", ask(t, b"echo"))

    def has(self, port, key):
        for _ in range(50):
            if ask(self.dial(port), b"has " + key) == b"yes":
                return True
            time.sleep(0.05)
        return False

    def forget(self):
        """Each datagram goes where its socket was connected when it was sent."""
        right = True
        for i in range(50):
            key = b"%d-%d" % (os.getpid(), i)
            s = self.dial()
            s.send(b"put a" + key)
            s.connect((self.far, self.other))
            s.send(b"put b" + key)
            s.close()
            right &= self.has(PORT, b"a" + key) and self.has(self.other, b"b" + key)
            right &= ask(self.dial(self.other), b"has a" + key) == b"no"
        print("sent and closed", right)

    def nowhere(self):
        """The same, disconnected then and with another port: the one it had is nobody's."""
        right = True
        for i in range(50):
            key = b"n%d-%d" % (os.getpid(), i)
            s = self.dial()
            disconnect(s)
            s.connect((self.far, PORT))
            s.send(b"put a" + key)
            disconnect(s)
            s.sendto(b"put b" + key, (self.far, self.other))
            right &= self.has(PORT, b"a" + key) and self.has(self.other, b"b" + key)
            s.close()
        print("sent and disconnected", right)

    def many(self):
        socks = []
        for i in range(300):  # each is served before the next: how many wait is bounded
            socks.append(self.dial())
            ask(socks[i], b"echo")
        for i, s in enumerate(socks):
            s.send(b"echo %d" % i)
        print("many", all(s.recv(100) == b"echo %d" % i for i, s in enumerate(socks)))

    def run(self):
        for part in (self.names, self.mapped, self.lengths, self.bound, self.refused,
                     self.reconnect, self.failing, self.shared, self.left, self.forget, self.nowhere,
                     self.many):
            try:
                part()
            except OSError as e:
                print(part.__name__, "failed:", e)


if sys.argv[1] == "serve":
    serve(sys.argv[2], int(sys.argv[3]))
else:
    Client(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]).run()
