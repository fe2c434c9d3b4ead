#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What shall work on a kernel other than this machine's, run inside boot.sh: every BPF program loads, the
# tree is built, decisions are right, and curl is carried, byte by byte. Tests that need speed are not
# for an emulated machine.
set -u
cd "$(dirname "$0")/../.." || exit
build=${DMM_BUILD:-build}
status=0
uname -r
"$build/policyd/dmm-policy" probe || status=1
for t in "$build"/tests/bpf/test_bpf_*; do
	[ -f "$t" ] || continue
	[ "${t##*/}" != test_bpf_commit ] || continue # thousands of commits
	echo "== ${t##*/}"
	DMM_BPFFS=/sys/fs/bpf/dmm-smoke timeout 300 "$t" || status=1
done
for t in ${DMM_VM_TESTS:-curl}; do
	echo "== $t"
	timeout 600 "tests/net/test_$t.sh" || status=1
done
exit $status
