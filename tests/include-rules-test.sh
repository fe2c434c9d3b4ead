#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The include check finds what it is there to find.
set -u
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fails=0
expect() { # expect TEXT, with the tree in $dir
	"$here/include-rules.sh" "$dir" 2>&1 | grep -qF "$1" || { echo "not found: $1"; fails=1; }
}
mkdir -p "$dir"/{bpf,lib/base,loader,userstack,policyd}
echo '#include "policyd/policy.h"' >"$dir/userstack/a.c"
expect 'userstack/ may not include policyd/'
echo '#include "loader/maps.h"' >"$dir/lib/base/b.c"
expect 'lib/base/ may not include loader/'
echo '#include "policy.h"' >"$dir/policyd/c.c"
expect 'write the path from the source root'
echo '#include <stdint.h>' >"$dir/bpf/dmm_abi.h"
expect 'dmm_abi.h'
echo '#include <bpf/bpf.h>' >"$dir/userstack/d.c"
expect "the loader's business"
exit $fails
