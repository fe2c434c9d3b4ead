#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build.sh OUTPUT DEPFILE COMPILER ARGUMENT...: compile and link many files in one go, with all that
# they include in one depfile.
set -e
output=$1 depfile=$2
shift 2
printf '%s: ' "$output" >"$depfile"
"$@" -MM -Wno-unused-command-line-argument | sed 's/^[^ :]*: *//' | sed -e '$!{/\\$/!s/$/ \\/}' >>"$depfile"
exec "$@" -o "$output"
