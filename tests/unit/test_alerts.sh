#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The alerts fire when they should and not before, and alerts and dashboard name metrics that there are.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
for p in promtool jq; do
	command -v $p >/dev/null || { echo "SKIP: needs $p; see tests/packages.txt"; exit 77; }
done
TMP=$(mktemp -d)
trap 'rm -rf "$TMP"' EXIT
cp "$root/docs/alerts.yaml" "$root/tests/data/alerts.test.yaml" "$TMP"
cd "$TMP"
promtool check rules alerts.yaml
promtool test rules alerts.test.yaml

grep -oE '^\| `(dmm|process)_[a-z0-9_]+`' "$root/docs/metrics.md" | tr -d '|` ' | sort -u >known
for file in alerts.yaml grafana.json; do
	expr=$root/docs/$file
	if [ $file = grafana.json ]; then
		jq -r '.panels[].targets[].expr, .annotations.list[].expr, .templating.list[].query' "$expr"
	else
		sed -n 's/^ *expr: //p' "$expr"
	fi | grep -oE '\bdmm_[a-z0-9_]+' | sort -u >named
	[ -s named ] || { echo "not ok - $file names no metrics"; exit 1; }
	comm -23 named known >unknown
	[ ! -s unknown ] || { echo "not ok - $file names what docs/metrics.md does not: $(tr '\n' ' ' <unknown)"; exit 1; }
	echo "ok - $file: $(wc -l <named) metrics"
done
