#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Knowledge flows one way: which folder may include which, and who may call bpf(). Run it with a
# directory to check that instead of the source tree (its own test does).
set -u
root=${1:-$(dirname "$0")/..}
cd "$root" || exit 1
bad=0

# folder: the folders that its files may include, beside its own and system headers
allowed() {
	case $1 in
	bpf) echo "bpf" ;;
	lib/base) echo "bpf lib/base" ;;
	loader) echo "bpf lib/base loader" ;;
	userstack) echo "bpf lib/base loader userstack" ;;
	policyd) echo "bpf lib/base loader policyd" ;;
	esac
}

folder_of() {
	case $1 in
	lib/*) echo "$1" | cut -d/ -f1-2 ;;
	*) echo "${1%%/*}" ;;
	esac
}

while IFS= read -r file; do
	from=$(folder_of "$file")
	while IFS= read -r inc; do
		case $inc in
		*/*) to=$(folder_of "$inc") ;;
		*.skel.h | dmm_build_id.h) to=loader ;; # generated, the loader's alone
		*)
			echo "$file: includes \"$inc\": write the path from the source root"
			bad=1
			continue
			;;
		esac
		case " $(allowed "$from") " in
		*" $to "*) ;;
		*)
			echo "$file: includes \"$inc\": $from/ may not include $to/"
			bad=1
			;;
		esac
	done < <(sed -nE 's/^#include "([^"]+)".*/\1/p' "$file")
done < <(find bpf lib loader userstack policyd -name '*.[ch]' 2>/dev/null)

# the shared contracts include nothing but each other
for h in bpf/dmm_abi.h bpf/dmm_counters.h; do
	[ -e $h ] && grep -Hn '^#include' $h && bad=1
done
# only the loader calls bpf(); libxdp's xsk calls are the port's
while IFS= read -r hit; do
	echo "$hit: bpf() is the loader's business"
	bad=1
done < <(grep -rnE '#include <bpf/(bpf|libbpf)\.h>' userstack policyd lib 2>/dev/null)
exit $bad
