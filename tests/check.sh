#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every test: the build and all suites, then the unit tests and fuzzers again under ASan and UBSan.
# Ends with the sum over both; a skip is counted as a skip, with its reason above.
set -u
cd "$(dirname "$0")/.."

builds=()
run() { # run BUILD_DIR SUITES... -- SETUP_ARGS...
	local dir=$1 suites=() r
	shift
	while [ "$1" != -- ]; do suites+=(--suite "$1"); shift; done
	shift
	[ -e "$dir/build.ninja" ] || CC=gcc meson setup "$dir" "$@" >"$dir.setup.log" 2>&1 || {
		cat "$dir.setup.log"
		exit 1
	}
	rm -f "$dir.setup.log"
	ninja -C "$dir" || exit 1
	rm -f "$dir/meson-logs/testlog.json"
	meson test -C "$dir" --no-rebuild --print-errorlogs "${suites[@]}"
	r=$?
	builds+=("$dir")
	return $r
}

status=0
run build -- || status=1
run build-asan unit -- -Db_sanitize=address,undefined -Db_lundef=false || status=1

for b in "${builds[@]}"; do
	cat "$b/meson-logs/testlog.json"
done | jq -rs '
	(map(select(.result == "SKIP"))[] | "skipped: \(.name): \(.stdout | split("\n") | map(select(test("SKIP|skip")))[0] // "no reason given")"),
	(map(select(.result != "OK" and .result != "SKIP" and .result != "EXPECTEDFAIL"))[] | "failed: \(.name) (\(.result))"),
	"\(map(select(.result == "OK" or .result == "EXPECTEDFAIL")) | length) passed, \(map(select(.result != "OK" and .result != "SKIP" and .result != "EXPECTEDFAIL")) | length) failed, \(map(select(.result == "SKIP")) | length) skipped"'
exit $status
