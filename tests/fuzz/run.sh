#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One fuzz target for a while: run.sh NAME PROGRAM CORPUS WORK_DIR SECONDS. What it finds on the way is kept
# in WORK_DIR/corpus, what breaks it in WORK_DIR as well. Other tests go before it, which have more to do
# in their time. $DMM_FUZZ_SECONDS: how long instead.
# $DMM_FUZZ_KEEP: what is new then goes to CORPUS, to be committed.
set -eu
name=$1 program=$2 seeds=$3 work=$4
seconds=${DMM_FUZZ_SECONDS:-$5}
mkdir -p "$work/corpus"
r=0
nice -n 19 "$program" "$work/corpus" "$seeds" -max_total_time="$seconds" -max_len=4096 -timeout=10 \
	-rss_limit_mb=2048 -verbosity=1 -print_final_stats=1 -artifact_prefix="$work/" \
	>"$work/log" 2>&1 || r=$?
if [ $r != 0 ]; then
	tail -n 60 "$work/log"
	echo "not ok - $name; the input: $(sed -n 's/.*Test unit written to //p' "$work/log" | tail -n 1)"
	exit 1
fi
if [ -n "${DMM_FUZZ_KEEP:-}" ]; then
	"$program" -merge=1 -max_len=4096 "$seeds" "$work/corpus" >>"$work/log" 2>&1
fi
sed -n 's/^stat::number_of_executed_units: */ok - '"$name"', runs: /p' "$work/log"
