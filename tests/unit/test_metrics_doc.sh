#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The tables of docs/metrics.md are those of the program. --write: make them so. A row stays where it
# is, a new one comes behind the one that it follows in the program, what is gone there goes here.
# test_metrics_doc.sh TEST_METRICS [--write]
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
doc=$root/docs/metrics.md
tmp=$(mktemp)
trap 'rm -f "$tmp"' EXIT
"$1" --table | awk -F'`' '
	FNR == NR { row[$2] = $0; next_of[last] = $2; last = $2; next }
	/^\| `(dmm|process)_/ { in_doc[$2] = 1 }
	{ line[++n] = $0 }
	END {
		for (i = 1; i <= n; i++) {
			if (line[i] !~ /^\| `(dmm|process)_/) { print line[i]; continue }
			split(line[i], part, "`")
			name = part[2]
			if (!(name in row)) continue
			print row[name]
			while ((name = next_of[name]) != "" && !(name in in_doc)) print row[name]
		}
	}' - "$doc" >"$tmp"
if [ "${2:-}" = --write ]; then
	cat "$tmp" >"$doc"
elif ! diff -u "$doc" "$tmp"; then
	echo "not ok - docs/metrics.md is not what the program says: run $0 $1 --write"
	exit 1
fi
