#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The example engine, built outside of the tree against what is installed, and loaded by name; and
# what is not loaded. Needs no root.
#   test_plugin.sh BUILD_DIR
set -eu
build=$(realpath "$1")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
umask 022
failed=0

ok() { echo "ok - $*"; }
not_ok() {
	echo "not ok - $*"
	failed=1
}
# refused NAME TEXT: dmm-stackd does not start, and says that
refused() {
	if "$build/userstack/dmm-stackd" --name x --interface lo --engine "$1" >"$tmp/log" 2>&1; then
		not_ok "$1 was loaded"
	elif grep -q "$2" "$tmp/log"; then
		ok "$1: $2"
	else
		not_ok "$1: $(cat "$tmp/log")"
	fi
}

mkdir "$tmp/work" "$tmp/engines"
meson install -C "$build" --no-rebuild --quiet --destdir "$tmp/root" >"$tmp/log" 2>&1 || {
	cat "$tmp/log"
	exit 1
}
export PKG_CONFIG_SYSROOT_DIR=$tmp/root
PKG_CONFIG_PATH=$(dirname "$(find "$tmp/root" -name dmm-engine.pc)")
export PKG_CONFIG_PATH
export DMM_ENGINE_DIR=$tmp/engines
cp "$(find "$tmp/root" -name stopwait.c)" "$tmp/work"
cd "$tmp/work"
flags=$(pkg-config --cflags dmm-engine)
compile() { # compile NAME CFLAG...
	local name=$1
	shift
	# shellcheck disable=SC2086
	cc -Wall -Wextra -Werror -shared -fPIC "$@" $flags -o "$tmp/engines/$name.so" stopwait.c
}
case $(pkg-config --variable=enginedir dmm-engine) in
*/dmm/engines) ok "pkg-config says where engines are" ;;
*) not_ok "pkg-config does not say where engines are" ;;
esac

compile stopwait
if "$build/tests/unit/test_engine" stopwait --no-urgent >"$tmp/log" 2>&1; then
	ok "the example keeps the contract"
else
	not_ok "the example does not keep the contract"
	cat "$tmp/log"
fi

refused nothing "there is no $tmp/engines/nothing.so"
refused ../engines/stopwait "no name of an engine"
cp "$tmp/engines/stopwait.so" "$tmp/engines/other.so"
refused other "its name is stopwait"
sed 's/^	\.abi = ENGINE_ABI,/	.abi = 1,/' stopwait.c >old.c && mv old.c stopwait.c
compile old
refused old "made for version 1"
sed -i '/^	\.too_big/d' stopwait.c
sed -i -e 's/\.abi = 1,/.abi = ENGINE_ABI,/' -e 's/"stopwait"/"part"/' stopwait.c
compile part -Wno-unused-function
refused part "lacks a function"
echo 'int nothing;' | cc -shared -fPIC -x c - -o "$tmp/engines/empty.so"
refused empty "exports no dmm_engine"
echo garbage >"$tmp/engines/text.so"
refused text "cannot load"
chmod 666 "$tmp/engines/stopwait.so"
refused stopwait "stopwait.so: others than its owner may write it"
chmod 644 "$tmp/engines/stopwait.so"
chmod 777 "$tmp/engines"
refused stopwait "engines: others than its owner may write it"
exit $failed
