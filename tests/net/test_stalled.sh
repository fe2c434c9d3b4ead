#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Who writes to an end that does not read is stopped about as early as over the kernel's stack, whichever end
# it is: what instance and carrier hold is in proportion to what the two kernels do.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need python3
setup "$@"
[ "$DMM_BASELINE" != 1 ] || skip_all "the kernel is what it is compared with"
config | start_policyd

# pile.py serve ADDRESS PORT; pile.py to|from ADDRESS PORT SIZE: how many bytes could be written to the
# server, or by it, in pieces of SIZE, before the two ends and all between them were full. What is still in
# the queue of a server that writes does not count: that is not this host's.
cat >"$TMP/pile.py" <<'PY'
import array, fcntl, queue, select, socket, sys, termios, threading

STILL = 2  # seconds in which nothing is taken any more
piled = queue.Queue()


def pile(s, size):
    s.setblocking(False)
    n = 0
    while select.select([], [s], [], STILL)[1]:
        n += s.send(bytes(size))
    return n


def unsent(s):
    n = array.array("i", [0])
    fcntl.ioctl(s, termios.TIOCOUTQ, n)
    return n[0]


def serve(s):
    word = s.recv(100).decode().split()
    if word[0] == "from":
        n = pile(s, int(word[1]))
        piled.put(n - unsent(s))
    elif word[0] == "count":
        s.send(b"%d" % piled.get())
    threading.Event().wait()


way, address = sys.argv[1], (sys.argv[2], int(sys.argv[3]))
if way == "serve":
    listener = socket.create_server(address, family=socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
s = socket.create_connection(address)
s.send(f"{way} {sys.argv[4]}".encode())
if way == "to":
    print(pile(s, int(sys.argv[4])))
else:
    with socket.create_connection(address) as count:
        count.send(b"count")
        print(count.recv(100).decode())
PY
for far in $FAR4 $FAR6; do
	spawn "serve$far" in_far python3 "$TMP/pile.py" serve $far 7100
done
wait_for far_listens 7100

for far in $FAR4 $FAR6; do
	plain=$(in_near python3 "$TMP/pile.py" to $far 7100 65536)
	for way in "to $far 7100 40" "to $far 7100 65536" "from $far 7100 65536"; do
		# shellcheck disable=SC2086
		managed=$(run_managed web python3 "$TMP/pile.py" $way)
		check "$way: $managed bytes, over the kernel $plain" at_least $((5 * plain / 2)) "$managed"
	done
done
check "they were carried" at_least "$(counter connections_established)" 8
finish
