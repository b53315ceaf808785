#!/usr/bin/env bash
# Installs the Debian packages that a make target needs and this machine lacks.
set -euo pipefail

declare -A package_of=(
    [ip]=iproute2 [ethtool]=ethtool [tc]=iproute2 [ffmpeg]=ffmpeg [socat]=socat [cc]=gcc [c++]=g++ [make]=make [jq]=jq [curl]=curl
    [gst-launch-1.0]=gstreamer1.0-tools [avahi-daemon]=avahi-daemon [avahi-browse]=avahi-utils [dbus-daemon]=dbus-daemon [minidlnad]=minidlna
    [clang]=clang [llvm-strip]=llvm [nft]=nftables [smcrouted]=smcroute [promtool]=prometheus [setpriv]=util-linux [ping]=iputils-ping [systemd-analyze]=systemd [python3]=python3
    [mmdebstrap]=mmdebstrap [qemu-system-x86_64]=qemu-system-x86 [mke2fs]=e2fsprogs
)
case "${1:?which target}" in
    demo)  commands=(ip ethtool cc clang) ;;
    check) commands=(cc clang llvm-strip python3) ;;
    sbom)  commands=(python3) ;;
    test)  commands=(ip ethtool tc cc c++ clang llvm-strip ffmpeg curl nft smcrouted socat promtool setpriv ping systemd-analyze gst-launch-1.0 avahi-daemon avahi-browse dbus-daemon minidlnad) ;;
    bench) commands=(ip ethtool cc clang llvm-strip nft smcrouted socat) ;;
    guest) commands=(ip ethtool cc clang mmdebstrap qemu-system-x86_64 mke2fs) ;;
    *) echo "install-packages.sh: no such target: $1" >&2; exit 2 ;;
esac

missing=()
for command in "${commands[@]}"; do
    command -v "$command" >/dev/null 2>&1 || PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null 2>&1 ||
        missing+=("${package_of[$command]}")
done
# The eBPF program includes these headers, which no command stands for.
if [[ " ${commands[*]} " == *" clang "* ]] && [ ! -e /usr/include/bpf/bpf_helpers.h ]; then missing+=(libbpf-dev); fi
# What installs tools needs the module that makes environments, which Debian has in a package of its own.
if [[ $1 == test || $1 == check ]] && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then missing+=(python3-venv); fi
# A clock that can be set for one process, which is a library.
if [ "$1" = test ]; then
    faketime=(/usr/lib/*/faketime/libfaketime.so.1)
    if [ ! -e "${faketime[0]}" ]; then missing+=(libfaketime); fi
fi
# Plugins of GStreamer and bindings of GSSDP, which no command stands for either.
if [ "$1" = test ]; then
    plugins=(/usr/lib/*/gstreamer-1.0/libgstrawparse.so /usr/lib/*/gstreamer-1.0/libgstrtpmanager.so)
    if [ ! -e "${plugins[0]}" ]; then missing+=(gstreamer1.0-plugins-base); fi
    if [ ! -e "${plugins[1]}" ]; then missing+=(gstreamer1.0-plugins-good); fi
    if ! /usr/bin/python3 -c 'import gi; gi.require_version("GSSDP", "1.6")' 2>/dev/null; then missing+=(python3-gi gir1.2-gssdp-1.6); fi
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "missing packages: ${missing[*]}; install them, or run this as root" >&2
    exit 1
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >/dev/null
apt-get install -qy --no-install-recommends "${missing[@]}" >/dev/null
