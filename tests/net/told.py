# SPDX-License-Identifier: Apache-2.0
"""A far side that sends more than anybody reads, and resets the connection.

  told.py flood ADDRESS PORT    sends until that is not taken any more, then resets; prints how many
                                bytes were acknowledged
  told.py writes ADDRESS PORT   the same, but waits to be told, and reads nothing
  told.py reads ADDRESS PORT    after three seconds, all there is
  told.py slow ADDRESS PORT     after three seconds writes a little, then reads 20 KB/s for four, nothing
                                for seven, then all there is
"""
import contextlib
import errno
import fcntl
import select
import socket
import struct
import sys
import time

ABORT = struct.pack("ii", 1, 0)
SIOCOUTQ = 0x5411


def fill(s):
    """Send until nothing has been taken for half a second. How much the socket took."""
    n = 0
    s.setblocking(False)
    while select.select([], [s], [], 0.5)[1]:
        n += s.send(bytes(65536))
    return n


def unacked(s):
    return struct.unpack("i", fcntl.ioctl(s, SIOCOUTQ, bytes(4)))[0]


def read_all(s):
    s.settimeout(20)
    n = 0
    try:
        while data := s.recv(1 << 20):
            n += len(data)
    except OSError as e:
        return n, errno.errorcode.get(e.errno, "TIMEOUT")
    return n, "EOF"


def read_slowly(s):
    n = 0
    for _ in range(40):
        n += len(s.recv(2000))
        time.sleep(0.1)
    return n


def flood(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, port), family=family)
    print("ready", flush=True)
    while True:
        s = listener.accept()[0]
        n = fill(s)
        time.sleep(1)
        print(n - unacked(s), flush=True)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        s.close()


def writes(address, port):
    s = socket.create_connection((address, port))
    fill(s)
    poll = select.poll()
    poll.register(s, 0)
    print("told" if poll.poll(15000) else "not told")


def reads(address, port):
    s = socket.create_connection((address, port))
    time.sleep(3)
    print(*read_all(s))


def slow(address, port):
    s = socket.create_connection((address, port))
    time.sleep(3)
    with contextlib.suppress(OSError):  # the kernel tells of the reset already
        s.sendall(bytes(1000))
    n = read_slowly(s)
    time.sleep(7)
    rest, end = read_all(s)
    print(n + rest, end)


globals()[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
