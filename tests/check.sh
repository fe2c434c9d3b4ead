#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every test: the build and all suites, then the unit tests again under ASan and UBSan, of which only
# what they need is built.
# Ends with the sum over both; a skip is counted as a skip, with its reason above.
set -u
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0

setup() { # setup DIR SETUP_ARGS...
	local dir=$1
	shift
	[ -e "$dir/build.ninja" ] || CC=gcc meson setup "$dir" "$@" >"$dir.setup.log" 2>&1 || {
		cat "$dir.setup.log"
		exit 1
	}
	rm -f "$dir.setup.log"
}
run() { # run DIR TEST_ARGS...
	local dir=$1
	shift
	rm -f "$dir/meson-logs/testlog.json"
	meson test -C "$dir" --print-errorlogs "$@" || status=1
	cat "$dir/meson-logs/testlog.json" >>"$log" || exit 1
}
asan_units() { # the programs that the unit tests need, as ninja calls them
	meson introspect build-asan --tests --targets | jq -r --arg dir "$PWD/build-asan/" '
		([.tests[] | select(.suite | index("dmm:unit")) | .depends[]]) as $ids |
		.targets[] | select(.id | IN($ids[])) | .filename[] | ltrimstr($dir)'
}

setup build
ninja -C build || exit 1
run build --no-rebuild --no-suite net --no-suite late
setup build-asan -Db_sanitize=address,undefined -Db_lundef=false
asan_units | nice -n 19 xargs -d '\n' ninja -C build-asan -j 1 >/dev/null & # in the gaps of what follows
built=$!
run build --no-rebuild --suite net --num-processes $((2 * $(nproc))) # which wait most of the time
(run build --no-rebuild --suite late && exit $status) & # beside what follows
late=$!
wait $built # what fails is said again
run build-asan --suite unit
wait $late || status=1

jq -rs '
	(map(select(.result == "SKIP"))[] | "skipped: \(.name): \(.stdout | split("\n") | map(select(test("SKIP|skip")))[0] // "no reason given")"),
	(map(select(.result != "OK" and .result != "SKIP" and .result != "EXPECTEDFAIL"))[] |
		"failed: \(.name) (\(.result))",
		(.stdout // "" | split("\n") | map(select(test("^not ok|[.]{3}FAILED|^ *[0-9]+[.] .*:[0-9]+ +- |gave up"))) as $why |
			(if $why == [] then .[-5:] else $why[:20] end)[] | "  \(.)")),
	"\(map(select(.result == "OK" or .result == "EXPECTEDFAIL")) | length) passed, \(map(select(.result != "OK" and .result != "SKIP" and .result != "EXPECTEDFAIL")) | length) failed, \(map(select(.result == "SKIP")) | length) skipped"' "$log"
exit $status
