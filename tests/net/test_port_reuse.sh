#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A client that has few ports and no TIME-WAIT of its own: every connection comes from a port whose
# last one ended just now, whichever end closed first. And a managed client that binds one port for
# all of its connections, as FTP servers do in active mode.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need
setup "$@"
iterations=${DMM_HAZARD_ITER:-200}
config | start_policyd
spawn serve run_managed web "$HAZARD" serve -N 0.0.0.0 7200
wait_for grep -q ready "$TMP/serve.log"
ip netns exec "$FAR" sysctl -qw net.ipv4.ip_local_port_range="40000 40015" \
	net.ipv4.tcp_max_tw_buckets=0
# the near end closes first and the far one has sent much; the far end closes first; one resets
for row in readv half-close splice-in recv-to-close send-close early-data reset-in reset-out names; do
	for mode in -b -N; do
		in_far timeout 120 "$HAZARD" reverse $mode -n "$iterations" -t 60 $NEAR4 7200 $row \
			>"$TMP/out" 2>&1 || true
		sed 's/^/# /' "$TMP/out"
		check "$row $mode" grep -q '^ok ' "$TMP/out"
	done
done

# from_one_port: connections to two servers at once, not one more to the same, and at once again when
# they are closed
from_one_port() { # from_one_port PORT COMMAND...
	local port=$1
	shift
	"$@" python3 - "$port" $NEAR4 $FAR4 <<-'PYTHON'
		import errno, socket, sys
		port, near, far = int(sys.argv[1]), *sys.argv[2:]
		def connect(to):
		    s = socket.socket()
		    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
		    s.settimeout(5)
		    s.bind((near, port))
		    s.connect((far, to))
		    return s
		for turn in range(2):
		    both = [connect(7300), connect(7301)]
		    print([s.getsockname()[1] - port for s in both], [s.getpeername()[1] for s in both])
		    try:
		        connect(7300)
		    except OSError as e:
		        print(errno.errorcode.get(e.errno, e))
		    for s in both:
		        s.shutdown(socket.SHUT_WR)
		        s.close()
	PYTHON
}
for port in 7300 7301; do
	spawn far-$port in_far "$HAZARD" serve -b 0.0.0.0 $port
	wait_for grep -q ready "$TMP/far-$port.log"
done
one=$(printf '[0, 0] [7300, 7301]\nEADDRNOTAVAIL\n%.0s' 1 2)
check "one port for all connections" equal "$(from_one_port 21000 run_managed web 2>&1)" "$one"
finish
