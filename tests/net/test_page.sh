#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The web page in a real browser, without a screen, while the instance carries traffic: it shows what the
# API says, loads nothing from elsewhere, and fits a phone. DMM_SHOT=DIRECTORY keeps what it looked like.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx chromium
setup "$@"
[ "$DMM_BASELINE" != 1 ] || skip_all "no page in the baseline"
far_nginx
{
	echo 'daemon: {http: "127.0.0.1:9464"}'
	config | sed -e "s|^stacks:|  other: {cgroup: $CGROUP/other}\nstacks:|" -e 's|^rules:|  edge7: {engine: lwip, port: {driver: xsk, interface: near7}}\n  bulk: {kind: kernel, mark: 7}\nrules:|' \
		-e 's|^default:|  - {name: chosen, match: {group: other, proto: tcp}, use: {auto: [kernel, bulk], dwell: 1s, cooldown: 1s, canary: 50%}}\ndefault:|'
} | start_policyd
check "the port listens" wait_for near_listens 9464
page=http://127.0.0.1:9464/
status() { in_near curl -sS -m 5 -o "$TMP/said" -w '%{http_code}' "$@"; }
check "a name that only leads here is refused" equal "$(status -H 'Host: evil.example' "$page")" 421
for limit in 0 -1 1x 100001 99999999999999999999999 ""; do
	check "flows?limit=$limit is refused" equal "$(status "${page}v1/flows?limit=$limit")" 400
done
check "and said why" grep -q 'a number from 1 to 100000' "$TMP/said"
check "flows?limit=1 is not" equal "$(status "${page}v1/flows?limit=1")" 200
in_near curl -sS -m 5 -D "$TMP/head" -o /dev/null "$page"
check "nothing but its own is allowed" grep -qi "^content-security-policy: default-src 'none'" "$TMP/head"
spawn held run_managed web sh -c "while curl -sS -o /dev/null --limit-rate 5M http://$FAR4:8080/big; do :; done"
for n in 1 2 3; do
	spawn "kernel$n" run_managed other curl -sS -o /dev/null --limit-rate 300k "http://$FAR4:8080/big"
done
spawn short run_managed other sh -c "while curl -sS -o /dev/null http://$FAR4:8080/small; do sleep 0.05; done"
wait_for eval '[ "$(flows ".stack == \"edge0\"")" = 1 ]'

grown() { # bytes of the instance, between the first and the last sample of its history
	in_near curl -sS -m 5 "${page}v1/history" |
		jq -e '[.samples[].stacks.edge0.bytes] | length >= 3 and .[-1] > .[0]'
}
check "the history has bytes of the instance" eval 'WAIT_S=25 wait_for grown'

decided() { policy -j nrd history | jq -e '.decisions | length > 0'; }
check "nRD has decided something" eval 'WAIT_S=25 wait_for decided'

browse() { # browse OPTION...: the page, some of its seconds later
	in_near timeout 60 chromium --headless --no-sandbox --disable-gpu --user-data-dir="$TMP/chromium" \
		--virtual-time-budget=12000 --enable-logging=stderr --hide-scrollbars "$@" "$page" 2>>"$TMP/browser.log"
}
browse --dump-dom >"$TMP/dom" || true
text() { sed 's/<[^>]*>/ /g' "$TMP/dom" | tr -s ' '; }
check "it names the stack that is down" eval 'text | grep -q "edge7 down"'
check "its table has the stack that is up" grep -qE '<td class="">edge0</td>.*<td class="good">up</td>' "$TMP/dom"
check "and its bytes" grep -qE '<td class="">edge0</td>.*<td class="number">[0-9.]+[kM]</td>.*<td class="">edge7' "$TMP/dom"
check "and the rule with its hit" grep -qE '<td class="">web-tcp</td><td class="number">[1-9]' "$TMP/dom"
check "and what nRD decided" grep -qE '<td class="">chosen</td>.*<td class="text">chosen' "$TMP/dom"
check "and bytes of measured connections of the kernel" grep -qE '<td class="">kernel</td>.*<td class="number">[0-9.]+k?</td><td class="number">[0-9.]+k?</td></tr>.*<td class="">edge0' "$TMP/dom"
if grep -q 'class="uplot' "$TMP/dom"; then
	check "three charts are drawn" equal "$(grep -o 'class="u-wrap"' "$TMP/dom" | wc -l)" 3
else
	check "without the library it says so" eval 'text | grep -q "without the chart library"'
fi
check "the browser refused and missed nothing" eval '! grep -iE "CONSOLE.*(refused|error|failed)" "$TMP/browser.log"'
shots=${DMM_SHOT:-$TMP}
browse --window-size=1100,1180 --screenshot="$shots/page.png" >/dev/null || true
browse --window-size=500,1700 --force-dark-mode --screenshot="$shots/phone.png" >/dev/null || true
check "pictures of it" test -s "$shots/page.png" -a -s "$shots/phone.png"
finish
