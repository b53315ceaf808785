#!/usr/bin/env bash
# The main job in three network namespaces:
#
#   device (192.168.168.55, hard-coded) ── in0 [ relay ] out0 ── lan (10.1.0.0/24)
#
# First an ordinary socket in the relay's namespace, which gets nothing; then MCR, which gets everything.
set -euo pipefail

bin=$(cd "${1:?folder with mcr and mcr-netd}" && pwd)
if [ "$(id -u)" -ne 0 ]; then
    echo "demo.sh: network namespaces need root: run it with sudo" >&2
    exit 1
fi
PATH="$bin:$PATH:/usr/sbin:/sbin"

id="mcr-demo-$$"
device="$id-device" relay="$id-relay" lan="$id-lan"
dir=$(mktemp -d)
export MCR_SOCKET="$dir/mcr.sock" MCR_KEEPER_SOCKET="$dir/netd.sock"
daemon=""

cleanup() {
    if [ -n "$daemon" ] && kill "$daemon" 2>/dev/null; then wait "$daemon" 2>/dev/null || true; fi
    for ns in "$device" "$relay" "$lan"; do ip netns delete "$ns" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap cleanup EXIT

at() { local ns=$1; shift; ip netns exec "$ns" "$@"; }
step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { local ns=$1; shift; printf '%s$ %s\n' "${ns##*-}" "$*"; at "$ns" "$@"; }
refused_by_reverse_path() {
    at "$relay" awk '/^TcpExt:/ && !n { split($0, name); n = 1; next }
        /^TcpExt:/ { for (i in name) if (name[i] == "IPReversePathFilter") print $i }' /proc/net/netstat
}

step "Three hosts: a device that nobody can route to, the relay, and a receiver"
for ns in "$device" "$relay" "$lan"; do ip netns add "$ns"; at "$ns" ip link set lo up; done
ip link add name eth0 netns "$device" type veth peer name in0 netns "$relay"
ip link add name out0 netns "$relay" type veth peer name eth0 netns "$lan"
at "$device" ip address add 192.168.168.55/32 dev eth0
at "$relay" ip address add 10.9.0.1/24 dev in0
at "$relay" ip address add 10.1.0.1/24 dev out0
at "$lan" ip address add 10.1.0.2/24 dev eth0
for pair in "$device eth0" "$relay in0" "$relay out0" "$lan eth0"; do
    at "${pair% *}" ip link set "${pair#* }" up
    at "${pair% *}" ethtool -K "${pair#* }" gro on >/dev/null 2>&1 || true
done
at "$device" ip route add 239.0.0.0/8 dev eth0
at "$relay" sh -c 'for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 > "$f"; done'
echo "device 192.168.168.55 --- in0 10.9.0.1 [relay] out0 10.1.0.1 --- lan 10.1.0.2"

step "Without MCR: an ordinary socket on the relay joins the group, the device sends 100 packets"
before=$(refused_by_reverse_path)
at "$relay" mcr listen in0:239.1.1.1:5001 --duration 2s &
listener=$!
until grep -q 010101EF <(at "$relay" cat /proc/net/igmp); do sleep 0.05; done
run "$device" mcr send eth0:239.1.1.1:5001 --rate 200 --count 100
wait "$listener" && { echo "the socket received packets: this host does not check reverse paths" >&2; exit 1; }
echo "the kernel's reverse-path check dropped $(($(refused_by_reverse_path) - before)) of them, silently"

step "With MCR: the daemon starts, one relay is added"
ip netns exec "$relay" mcr run >"$dir/log" 2>&1 &
daemon=$!
until [ -S "$MCR_SOCKET" ]; do
    kill -0 "$daemon" 2>/dev/null || { cat "$dir/log" >&2; exit 1; }
    sleep 0.05
done
run "$relay" mcr add camera --from in0:239.1.1.1:5001 --to out0:239.2.2.2:6001,ttl=8
run "$relay" mcr wait camera --for ready
at "$lan" mcr listen eth0:239.2.2.2:6001 --count 20000 --timeout 5s &
listener=$!
until grep -q 020202EF <(at "$lan" cat /proc/net/igmp); do sleep 0.05; done
run "$device" mcr send eth0:239.1.1.1:5001 --rate 10000 --count 20000
wait "$listener"

step "What MCR says about it"
run "$relay" mcr show camera
grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' "/proc/$daemon/status" | sed 's/^/the daemon holds no capability: /'

step "Done: every packet arrived with the new source, and nothing is left behind"
