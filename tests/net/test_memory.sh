#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The programs under valgrind: no wrong access, nothing undefined decides, no leak. dmm-stackd is
# started by hand, for this valgrind has no pidfd_open(): under it the daemon cannot start it.
# DMM_SEED: of the garbage.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx wrk valgrind
setup "$@"
[ "$DMM_BASELINE" != 1 ] || skip_all "no program of ours in the baseline"
far_nginx
config >"$TMP/dmm.yaml"
stackd=$(program dmm-stackd)
garbage=$(program garbage)

# checked NAME PROGRAM...: under valgrind, whose own text goes to $TMP/NAME.vg
checked() {
	local name=$1
	shift
	in_near valgrind --log-file="$TMP/$name.vg" --error-exitcode=99 --leak-check=full \
		--show-leak-kinds=definite,indirect,possible --errors-for-leak-kinds=definite,possible \
		--num-callers=25 --suppressions="$root/tests/data/valgrind.supp" "$@"
}
# clean NAME STATUS TEXT: what was checked ended so, and valgrind has nothing to say
clean() {
	if [ "$2" != 99 ] && grep -q 'ERROR SUMMARY: 0 errors' "$TMP/$1.vg"; then
		ok "$3"
		return
	fi
	echo "# exit $2"
	grep -v -e '^--' -e 'README_MISSING' "$TMP/$1.vg" | head -n 60 | sed 's/^/# /'
	not_ok "$3"
}
verb() { # verb STATUS ARGUMENT...: a verb of dmm-policy ends so and is clean
	local want=$1 r=0
	shift
	checked verb "$DMM_POLICY" "$@" >"$TMP/verb.log" 2>&1 </dev/null || r=$?
	clean verb "$r" "dmm-policy $*"
	[ "$r" = "$want" ] || check "it ends with $want" equal "$r" "$want"
}

# 1. dmm-policy: each verb, and what it refuses
verb 0 validate -f "$root/tests/data/good.yaml"
for f in "$root"/tests/data/bad-*.yaml; do
	case $f in *-warnings.yaml) continue ;; esac
	checked verb "$DMM_POLICY" validate -f "$f" >"$TMP/verb.log" 2>&1 || r=$?
	clean verb "${r:-0}" "dmm-policy validate -f ${f##*/}"
done
verb 0 apply -f "$TMP/dmm.yaml"
verb 0 add web-out group web remote 10.77.0.0/16,fd77::/64 use kernel before web-tcp
verb 2 add web-out remot 10.0.0.0/8 use kernel
verb 0 -j show
verb 0 show --yaml
verb 0 explain group web remote 10.77.0.1 remote_port 80
verb 0 group list

# 2. dmm-policyd, with an instance that is not its own
spawn policyd checked policyd "$DMM_POLICYD" -c "$TMP/dmm.yaml" --stackd "$TMP/none"
POLICYD_PID=$SPAWNED
http() { curl -sS -m 10 --unix-socket "$DMM_RUN/policyd.sock" "$@"; }
check "dmm-policyd answers" eval 'WAIT_S=30 wait_for http http://dmm/healthz'
spawn stackd checked stackd "$stackd" --name edge0 --interface near0
stackd_pid=$SPAWNED
check "dmm-stackd comes up" eval 'WAIT_S=30 wait_for stack_up'

# 3. traffic: both roles and families, what fails, many connections, garbage
url=http://$FAR4:8080
for host in "$FAR4" "[$FAR6]"; do
	run_managed web curl -sS -g -m 30 -o "$TMP/got" "http://$host:8080/big" || true
	check "GET of 20 MB from $host" equal "$(sum "$TMP/got")" "$(sum "$TMP/www/big")"
done
run_managed web curl -sS -m 30 -T "$TMP/www/big" "$url/put/up" || true
check "PUT of 20 MB" equal "$(sum "$TMP/www/put/up")" "$(sum "$TMP/www/big")"
for to in "$FAR4:9" 10.66.0.1:80 10.55.0.88:80; do
	run_managed web curl -sS -m 4 "http://$to/" 2>/dev/null && not_ok "a request to $to failed"
done
run_managed web timeout 1 curl -sS -o /dev/null --limit-rate 1M "$url/big" || true
nginx_config near-nginx "$TMP/www" "0.0.0.0:8081" "[::]:8081 ipv6only=on"
spawn near-nginx run_managed web nginx -c "$TMP/near-nginx.conf"
near_nginx=$SPAWNED
wait_for near_listens 8081
served() {
	mark
	in_far curl -sS -m 5 -o /dev/null "http://$NEAR4:8081/small" &&
		[ "$(since connections_accepted)" -ge 1 ]
}
check "the instance serves" wait_for served
in_far timeout 20 wrk -t 1 -c 100 -d 2 --timeout 10 "http://$NEAR4:8081/small" >"$TMP/wrk" || true
check "under load" at_least "$(sed -nE 's/^ *([0-9]+) requests in.*/\1/p' "$TMP/wrk")" 100
mac=$(ip -n "$NEAR" -j link show near0 | jq -r '.[0].address')
check "10000 frames of garbage" in_far "$garbage" far0 "$mac" 10000 "${DMM_SEED:-2}" \
	"$FAR4,0" "$NEAR4,8081" "$FAR6,0" "$NEAR6,8081" "$FAR4,8080" "$NEAR4,0"
check "the instance serves after it" wait_for served
verb 0 stack list
verb 0 -j flows
verb 0 stats
verb 0 probe

# 4. requests to the daemon, and what is no request
for path in "" page.js metrics healthz v1/policy v1/flows v1/stacks v1/groups v1/stats v1/history nowhere; do
	http -o /dev/null "http://dmm/$path" || not_ok "GET /$path"
done
http -o /dev/null -X POST http://dmm/v1/reload || not_ok "POST /v1/reload"
http -o /dev/null -X DELETE http://dmm/metrics || not_ok "DELETE /metrics"
http -o /dev/null --data-binary "@$TMP/www/big" http://dmm/v1/reload || true
echo 'groups: [' >"$TMP/dmm.yaml"
kill -HUP "$POLICYD_PID"
check "a bad file is not taken" wait_for grep -q 'the policy in force stays' "$TMP/policyd.log"

# 5. the end of each, the instance first, with a live connection and a listener
spawn held run_managed web "$HAZARD" connect -k 30 "$FAR4" 8080
sleep 0.5
r=0
kill "$stackd_pid"
wait "$stackd_pid" || r=$?
clean stackd "$r" "dmm-stackd: no error, no leak"
check "it ended as asked" equal "$r" 0
r=0
kill "$POLICYD_PID"
wait "$POLICYD_PID" || r=$?
POLICYD_PID=
clean policyd "$r" "dmm-policyd: no error, no leak"
check "it ended as asked" equal "$r" 0
end "$near_nginx"
verb 0 detach
finish
