#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A real Prometheus scrapes dmm-policyd; promtool finds nothing to complain about; an alert fires while a
# stack is down, and ends.
# shellcheck source=tests/net/lib.sh
. "$(dirname "$0")/lib.sh"
need nginx prometheus promtool
setup "$@"
[ "$DMM_BASELINE" != 1 ] || skip_all "no metrics in the baseline"
far_nginx
{
	echo 'daemon: {http: "127.0.0.1:9464"}'
	config | sed 's|^rules:|  edge7: {engine: lwip, port: {driver: xsk, interface: near7}}\nrules:|'
} | start_policyd
check "the metrics port listens" wait_for near_listens 9464
run_managed web curl -sS -m 30 -o "$TMP/got" "http://$FAR4:8080/big" || not_ok "traffic"

in_near curl -sS -m 5 -D "$TMP/head" -o "$TMP/metrics" http://127.0.0.1:9464/metrics
check "the content type is text" grep -qi '^content-type: text/plain' "$TMP/head"
check "promtool finds no fault" eval 'promtool check metrics <"$TMP/metrics" >"$TMP/lint" 2>&1'
sed 's/^/# /' "$TMP/lint"
check "promtool says nothing" test ! -s "$TMP/lint"
health() { in_near curl -sS -m 5 http://127.0.0.1:9464/healthz; }
check "/healthz names the stack that is down" eval 'health | grep -q "^stack edge7: down"'

cat >"$TMP/prometheus.yml" <<YAML
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [alerts.yaml]
scrape_configs:
  - job_name: dmm
    static_configs: [{targets: ["127.0.0.1:9464"]}]
YAML
# as they are, but for the minute that they wait
sed 's/for: .*/for: 2s/' "$root/docs/alerts.yaml" >"$TMP/alerts.yaml"
spawn prometheus in_near prometheus --config.file="$TMP/prometheus.yml" \
	--storage.tsdb.path="$TMP/tsdb" --web.listen-address=127.0.0.1:9090
query() {
	in_near curl -sS -m 5 -G http://127.0.0.1:9090/api/v1/query --data-urlencode "query=$1" |
		jq -r '[.data.result[].value[1] | tonumber] | add // empty'
}
is_up() { [ "$(query 'up{job="dmm"}')" = 1 ]; }
check "Prometheus scrapes it" eval 'WAIT_S=30 wait_for is_up'
name=$(grep -oE '^dmm_[a-z_]*port_receive_bytes[a-z_]*' "$TMP/metrics" | head -n1)
check "the bytes of the port are there" at_least "$(printf %.0f "$(query "${name:-none}")")" 20000000

alerts() { # alerts STATE: those of a stack
	in_near curl -sS -m 5 http://127.0.0.1:9090/api/v1/alerts |
		jq -r --arg s "$1" '[.data.alerts[] | select(.labels.alertname == "DmmStackDown" and .state == $s) | .labels.stack] | join(" ")'
}
fires() { [ "$(alerts firing)" = edge7 ]; }
quiet() { [ -z "$(alerts firing)$(alerts pending)" ]; }
check "an alert fires for the stack that is down, and for no other" eval 'WAIT_S=20 wait_for fires'
ip link add near7 netns "$NEAR" type veth peer name far7 netns "$FAR"
ip -n "$NEAR" link set near7 up
ip -n "$FAR" link set far7 up
check "it ends when the stack is up" eval 'WAIT_S=40 wait_for quiet'
check "/healthz is well" eval '[ "$(health)" = ok ]'
for metric in $(grep -oE '^# TYPE dmm_[a-z0-9_]+ [a-z]+' "$TMP/metrics" | awk '$4 == "counter" { print $3 }'); do
	case $metric in
	*_total) ;;
	*) not_ok "$metric: a counter ends in _total" ;;
	esac
done
finish
