#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Install the Debian packages of packages.txt that are missing, and the chart library of the web page,
# of the version and with the hash of policyd/web/package-lock.json. Services among them are neither
# started nor enabled by it: the tests run their own copies of these programs.
#   install-packages.sh [build|demo|all] [-n]     default all; -n only lists what is missing
set -euo pipefail
list=$(dirname "$0")/packages.txt
part=${1:-all}
case $part in build | demo | all) ;; *) echo "usage: ${0##*/} [build|demo|all] [-n]" >&2; exit 2 ;; esac

wanted() { # the tests need what the build needs
	awk -v part="$part" '
		/^# build/ { section = "build" }
		/^# demo/ { section = "demo" }
		/^[a-z0-9]/ && section && (section == "build" || part != "build") { print $1 }' "$list"
}
installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}
# Another vendor's package may hold the program; then the Debian one cannot be unpacked over it.
provided() {
	case $1 in
	kubernetes-client) command -v kubectl >/dev/null ;;
	npm | chromium) command -v "$1" >/dev/null ;;
	*) return 1 ;;
	esac
}
# The build does without it: then the page has tables and no charts.
chart_library() {
	local web
	web=$(dirname "$list")/../policyd/web
	[ "$part" != build ] && [ ! -e "$web/node_modules/uplot" ] || return 0
	npm ci --prefix "$web" --ignore-scripts --no-audit --no-fund --silent ||
		echo "the chart library cannot be had; the web page will be without charts" >&2
}

missing=()
for p in $(wanted); do
	installed "$p" || provided "$p" || missing+=("$p")
done
if [ ${#missing[@]} = 0 ]; then
	echo "all packages are there"
	[ "${2:-}" = -n ] || chart_library
	exit 0
fi
echo "missing: ${missing[*]}"
[ "${2:-}" != -n ] || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "install them as root: apt-get install --no-install-recommends ${missing[*]}" >&2
	exit 1
fi

# While this file says 101, maintainer scripts start nothing. One that is there already stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	trap 'exit 130' INT TERM
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
fi
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
apt-get update -q
apt-get install -y -q --no-install-recommends "${missing[@]}"

# Nor shall they come up with the next boot, unless they were there before.
if [ -d /run/systemd/system ]; then
	for unit in nginx redis-server prometheus prometheus-node-exporter haproxy ssh; do
		case " ${missing[*]} " in
		*" $unit "* | *" $unit-light "*) systemctl disable -q "$unit" 2>/dev/null || true ;;
		esac
	done
fi
chart_library
