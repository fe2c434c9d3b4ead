#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What shall work on a kernel other than this machine's, run inside boot.sh: every BPF program loads, the
# tree is built, decisions are right, and curl is carried, byte by byte, also over links that netem makes.
# Tests that need speed are not for an emulated machine.
set -u
cd "$(dirname "$0")/../.." || exit
build=${DMM_BUILD:-build}
status=0
uname -r
"$build/policyd/dmm-policy" probe || status=1
export DMM_MATCH_POLICIES=100 # of 600, which take a minute
for t in "$build"/tests/bpf/test_bpf_*; do
	[ -f "$t" ] || continue
	[ "${t##*/}" != test_bpf_commit ] || continue # thousands of commits
	echo "== ${t##*/}"
	DMM_BPFFS=/sys/fs/bpf/dmm-smoke timeout 300 "$t" || status=1
done
export DMM_NETEM=1 SIZE=200000
export CASES='netem,loss=10 reorder=20 duplicate=10 corrupt=5
netem and no options,loss=10 reorder=20,sack=0 timestamps=0 window_scaling=0'
for t in ${DMM_VM_TESTS:-curl long_link}; do
	echo "== $t"
	timeout 600 "tests/net/test_$t.sh" || status=1
done
exit $status
