#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Run a command as root on another kernel: boot.sh KERNEL COMMAND...
#
# KERNEL is the name of a Debian kernel as in its package's name, or the beginning of it: "6.1", "6.12".
# The newest that the package lists have is fetched, unpacked below $DMM_VM_CACHE (not installed) and
# booted by QEMU's own emulation, with this machine's root file system over 9p: the command sees the same
# files under the same paths, with a /run of its own. Its exit status is ours; 77 where QEMU or the kernel
# is not to be had. What the kernel does against faults of processors is off: it takes time, and protects
# from nobody here. DMM_VM_SECONDS bounds the whole run, DMM_VM_MODULES names modules to load,
# DMM_VM_APPEND adds to the kernel's command line, DMM_VM_QEMU to QEMU's, DMM_VM_MEMORY is in MiB.
set -euo pipefail

cache=${DMM_VM_CACHE:-/var/cache/dmm-vm}
seconds=${DMM_VM_SECONDS:-600}
modules=${DMM_VM_MODULES:-veth bridge sch_netem}

skip() {
	echo "SKIP: $*"
	exit 77
}
[ $# -ge 2 ] || {
	echo "usage: boot.sh KERNEL COMMAND..." >&2
	exit 2
}
want=$1
shift
for p in qemu-system-x86_64 busybox cpio depmod dpkg; do
	command -v "$p" >/dev/null || skip "needs $p; see tests/packages.txt"
done
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9

newest() { # of names on standard input
	grep -E "^linux-image-${want//./\\.}[.+-].*amd64$" | grep -vE 'cloud|rt|dbg|unsigned' | sort -V | tail -n 1
}
package=$(apt-cache search --names-only '^linux-image-.*-amd64$' 2>/dev/null | cut -d' ' -f1 | newest || true)
if [ -z "$package" ]; then # without package lists: what was fetched before
	package=$(find "$cache" -maxdepth 1 -name 'linux-image-*' -printf '%f\n' | newest || true)
fi
[ -n "$package" ] || skip "no package of a kernel $want"
version=${package#linux-image-}
tree=$cache/$package
if [ ! -e "$tree/done" ]; then
	echo "# fetching $package" >&2
	rm -rf "$tree"
	mkdir -p "$tree"
	(cd "$tree" && apt-get -qq download "$package" 2>/dev/null) || skip "cannot fetch $package"
	dpkg -x "$tree"/*.deb "$tree"
	rm -f "$tree"/*.deb
	depmod -b "$tree" "$version"
	touch "$tree/done"
fi

# The initial file system: what mounts the real one.
initrd=$cache/$version.cpio.gz
if [ ! -e "$initrd" ]; then
	root=$(mktemp -d)
	mkdir -p "$root"/{bin,modules,proc,sys,dev,mnt}
	cp "$(command -v busybox)" "$root/bin/busybox"
	for m in virtio_pci 9pnet_virtio 9p; do
		modprobe -d "$tree" -S "$version" --show-depends "$m"
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' |
		while read -r ko; do
			cp "$ko" "$root/modules/"
			basename "$ko" >>"$root/modules/order"
		done
	cat >"$root/init" <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
while read -r m; do $b insmod /modules/$m || $b echo "vm: cannot load $m"; done </modules/order
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose host /mnt ||
	{ $b echo "vm: no root file system"; $b poweroff -f; }
for d in proc sys dev; do $b mount --move /$d /mnt/$d; done
exec $b chroot /mnt /bin/bash "$($b chroot /mnt /bin/cat /proc/cmdline | $b sed 's/.*dmm_init=\([^ ]*\).*/\1/')"
INIT
	chmod +x "$root/init"
	(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1 >"$initrd.new")
	mv "$initrd.new" "$initrd"
	rm -rf "$root"
fi
mkdir -p /lib/modules # where the guest mounts its own
flock -u 9

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
	cat <<GUEST
export WAIT_S=180 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/run/tmp LC_ALL=C.UTF-8 TERM=dumb
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/lock /run/tmp /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
ln -s /proc/self/fd /dev/fd
mount -t tmpfs mods /lib/modules
mkdir /lib/modules/$version
mount --bind $tree/lib/modules/$version /lib/modules/$version
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
for m in $modules; do modprobe \$m || echo "vm: no module \$m"; done
cd $(printf %q "$PWD")
GUEST
	# shellcheck disable=SC2016
	env -0 | while IFS= read -r -d '' v; do
		case $v in DMM_*) printf 'export %q\n' "$v" ;; esac
	done
	printf '%q ' "$@"
	printf '\n'
	printf 'echo $? >%q\n' "$work/status"
	echo 'sync; echo o >/proc/sysrq-trigger; sleep 60'
} >"$work/init"

# shellcheck disable=SC2086
timeout --foreground "$seconds" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 \
	-m "${DMM_VM_MEMORY:-2048}" -nographic -no-reboot -vga none -nodefaults -serial stdio -monitor none \
	-kernel "$tree/boot/vmlinuz-$version" -initrd "$initrd" \
	-append "console=ttyS0 quiet loglevel=3 panic=-1 dmm_init=$work/init mitigations=off ${DMM_VM_APPEND:-}" \
	-virtfs local,path=/,mount_tag=host,security_model=passthrough,multidevs=remap \
	${DMM_VM_QEMU:-} </dev/null | tr -d '\r' || true
[ -e "$work/status" ] || {
	echo "vm: $version did not finish within $seconds s" >&2
	exit 124
}
exit "$(cat "$work/status")"
