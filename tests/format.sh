#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every C file is as clang-format 14 leaves it, and has one SPDX line.
set -u
cd "$(dirname "$0")/.." || exit 1
format=$(command -v clang-format-14 || command -v clang-format) || {
	echo "SKIP: no clang-format"
	exit 77
}
mapfile -t files < <(git ls-files '*.c' '*.h' 2>/dev/null || find bpf lib loader userstack policyd tests -name '*.[ch]')
bad=0
for f in "${files[@]}"; do
	"$format" --dry-run -Werror "$f" 2>/dev/null || { echo "$f: run $format -i"; bad=1; }
	[ "$(grep -c 'SPDX-License-Identifier' "$f")" = 1 ] || { echo "$f: one SPDX line"; bad=1; }
done
exit $bad
