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
"$format" --dry-run -Werror "${files[@]}" 2>&1 | grep -o '^[^:]*:[0-9]*:.*error: .*' && bad=1
[ "${PIPESTATUS[0]}" = 0 ] || bad=1
grep -c 'SPDX-License-Identifier' "${files[@]}" | grep -v ':1$' && bad=1
[ $bad = 0 ] || echo "run $format -i; one SPDX line a file"
exit $bad
