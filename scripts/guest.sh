#!/usr/bin/env bash
# Runs scripts/guest/check.sh on Debian's kernels, with systemd and the installed units, in an emulated machine without a network.
#   scripts/guest.sh [6.1] [6.12]
# The kernel's verifier, the packets and systemd's sandbox are all real there; only the processor is emulated, which makes it slow.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$PWD/target/guest
root=$folder/root
declare -A package_of=([6.1]=linux-image-amd64 [6.12]=linux-image-6.12-amd64)
declare -A datapath_of=([6.1]=packet [6.12]=tcx)
[ $# -gt 0 ] || set -- 6.1 6.12

make_root() {
    local release
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    local sources=(/etc/apt/sources.list.d/*.sources)
    [ -e "${sources[0]}" ] || sources=(/etc/apt/sources.list)
    local packages="${package_of[6.1]},${package_of[6.12]},initramfs-tools,systemd-sysv,dbus,udev,kmod,iproute2,ethtool,nftables,jq,procps"
    mkdir -p "$folder"
    rm -rf "$root" "$root.new"
    echo "making a Debian $release of its own in $root (minutes)"
    mmdebstrap --quiet --variant=minbase --include="$packages" "$release" "$root.new" "${sources[@]}"
    chroot "$root.new" useradd --system --no-create-home --shell /usr/sbin/nologin mcr
    echo guest >"$root.new/etc/hostname"
    # The console is for what the check says.
    ln -sf /dev/null "$root.new/etc/systemd/system/serial-getty@ttyS0.service"
    mv "$root.new" "$root"
}

install_mcr() {
    rm -rf "$root/etc/mcr" "$root/var/lib/mcr"
    DESTDIR=$root scripts/install.sh /usr/local >/dev/null
    install -m 755 scripts/guest/check.sh "$root/usr/local/bin/check"
    install -m 644 scripts/guest/check.service "$root/etc/systemd/system/check.service"
    ln -sf ../check.service "$root/etc/systemd/system/multi-user.target.wants/check.service"
}

boot() {
    local kernel=$1
    local images=("$root"/boot/vmlinuz-"$kernel"[.+]*)
    local version=${images[-1]##*/vmlinuz-}
    echo "$version, datapath ${datapath_of[$kernel]}"
    echo "CHECK_DATAPATH=${datapath_of[$kernel]}" >"$root/etc/check.env"
    rm -f "$folder/disk"
    mke2fs -q -t ext4 -d "$root" "$folder/disk" 3G
    timeout 1500 qemu-system-x86_64 -accel tcg,thread=multi -cpu max,la57=off -m 1536 -smp 2 -nic none \
        -display none -monitor none -serial "file:$folder/console" -no-reboot \
        -kernel "$root/boot/vmlinuz-$version" -initrd "$root/boot/initrd.img-$version" \
        -drive "file=$folder/disk,if=virtio,format=raw" -append "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0" </dev/null ||
        echo "guest.sh: the machine did not end by itself" >&2
    tr -d '\r' <"$folder/console" | sed -n '/^check: /s/^check: //p'
    grep -q '^check: all is well' <(tr -d '\r' <"$folder/console")
}

[ -e "$root/etc/debian_version" ] || make_root
install_mcr
for kernel in "$@"; do
    boot "$kernel" || { echo "guest.sh: $kernel failed; all that was said is in $folder/console" >&2; exit 1; }
done
