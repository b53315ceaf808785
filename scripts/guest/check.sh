#!/usr/bin/env bash
# Within the guest: MCR as it is installed, under systemd. Lines that begin with "check: " are what scripts/guest.sh shows.
set -uo pipefail

say() { echo "check: $*"; }
fail() {
    say "FAILED: $*"
    mcr status
    mcr list
    journalctl --no-pager -o short-precise -u mcr -u mcr-netd | tail -60
    exit 1
}
# A machine that is emulated beside other work is slow.
patiently() {
    local what=$1
    shift
    for _ in $(seq 120); do "$@" >/dev/null 2>&1 && return; sleep 1; done
    fail "$what"
}

CONFIG='
[[relay]]
name   = "camera"
input  = { interface = "dev0", group = "239.1.1.1", port = 5001 }
output = [ { interface = "lan1", group = "239.2.2.1", port = 6001 } ]

[[relay]]
name   = "vlan-interface"
input  = { interface = "dev0.100", group = "239.1.1.2", port = 5002 }
output = [ { interface = "lan1", group = "239.2.2.2", port = 6002 } ]

[[relay]]
name   = "vlan-parent"
input  = { interface = "dev0", group = "239.1.1.3", port = 5003, vlan = 100 }
output = [ { interface = "lan1", group = "239.2.2.3", port = 6003 } ]

[[relay]]
name   = "to-vlan-interface"
input  = { interface = "dev0", group = "239.1.1.4", port = 5004 }
output = [ { interface = "lan1.200", group = "239.2.2.4", port = 6004 } ]
'
RELAYS="camera vlan-interface vlan-parent to-vlan-interface"

make_network() {
    ip netns add device && ip netns add lan
    ip link add dev0 type veth peer name eth0 netns device
    ip link add lan1 type veth peer name eth0 netns lan
    sysctl -qw net.ipv4.conf.all.rp_filter=1
    ip link add link dev0 name dev0.100 type vlan id 100
    ip link add link lan1 name lan1.200 type vlan id 200
    ip -n device link add link eth0 name eth0.100 type vlan id 100
    ip -n lan link add link eth0 name eth0.200 type vlan id 200
    local interface
    for interface in dev0 dev0.100 lan1 lan1.200; do ip link set "$interface" up; done
    for interface in lo eth0 eth0.100; do ip -n device link set "$interface" up; done
    for interface in lo eth0 eth0.200; do ip -n lan link set "$interface" up; done
    ip address add 10.0.0.1/24 dev dev0 && ip address add 10.0.100.1/24 dev dev0.100
    ip address add 10.0.1.1/24 dev lan1 && ip address add 10.0.2.1/24 dev lan1.200
    ip -n device address add 192.168.168.55/32 dev eth0 && ip -n device address add 192.168.168.56/32 dev eth0.100
    ip -n device route add 224.0.0.0/4 dev eth0
    ip -n lan address add 10.0.1.2/24 dev eth0 && ip -n lan address add 10.0.2.2/24 dev eth0.200
}

# listen INTERFACE:GROUP:PORT COUNT: in the LAN, its result to $result.
result=/tmp/result.json
listen() {
    ip netns exec lan mcr listen "$1" --count "$2" --timeout 90s -o json >"$result" 2>/tmp/listen.err &
    listener=$!
    patiently "nobody listens in the LAN" grep -q "the group is joined" /tmp/listen.err
}
send() { ip netns exec device mcr send "$1" --rate 300 --count "$2" >/tmp/send.out 2>&1; }

# passes FROM TO: five hundred packets, each of them comes.
passes() {
    listen "$2" 500
    send "$1" 500
    wait "$listener" || fail "not every packet of $1 came to $2: $(cat "$result")"
    say "$1 -> $2: $(jq .received_packets "$result") packets"
}

all_ready() { for relay in $RELAYS; do mcr wait "$relay" --for ready --timeout 1s || return 1; done; }
all_by_datapath() {
    for relay in $RELAYS; do
        [ "$(mcr show "$relay" -o json | jq -r .datapath)" = "$CHECK_DATAPATH" ] || return 1
    done
}
pid_of() { systemctl show -P MainPID "$1"; }
is_joined() { ip -4 maddress show dev dev0 | grep -q 'inet  239\.1\.1\.1'; }
is_answering() { mcr status; }

say "$(uname -r), $(systemctl --version | head -1)"
make_network || fail "the network can not be made"
echo "$CONFIG" >/etc/mcr/mcr.toml
systemctl daemon-reload
systemctl start mcr-netd mcr || fail "systemctl start"
patiently "the relays are not ready" all_ready
patiently "the relays are not served by $CHECK_DATAPATH" all_by_datapath
say "four relays are ready, by $CHECK_DATAPATH"
grep -q 'CapEff:.0000000000000000' "/proc/$(pid_of mcr)/status" || fail "the daemon has capabilities"
systemd-analyze security --no-pager --threshold=15 mcr >/dev/null || fail "mcr.service is exposed more than 1.5"
systemd-analyze security --no-pager --threshold=20 mcr-netd >/dev/null || fail "mcr-netd.service is exposed more than 2.0"

passes eth0:239.1.1.1:5001 eth0:239.2.2.1:6001
passes eth0.100:239.1.1.2:5002 eth0:239.2.2.2:6002
passes eth0.100:239.1.1.3:5003 eth0:239.2.2.3:6003
passes eth0:239.1.1.4:5004 eth0.200:239.2.2.4:6004

# Restarts, crashes and a reload, while it flows.
pinned=$(find /sys/fs/bpf/mcr -type f 2>/dev/null | wc -l)
if [ "$CHECK_DATAPATH" = tcx ]; then [ "$pinned" -gt 0 ] || fail "nothing is pinned under /sys/fs/bpf/mcr"; fi
listen eth0:239.2.2.1:6001 15000
send eth0:239.1.1.1:5001 15000 &
sender=$!
left=0
during() {
    say "$1"
    shift
    "$@" || fail "$*"
    for _ in 1 2 3 4 5; do sleep 1; is_joined || left=$((left + 1)); done
    patiently "the daemon does not answer" is_answering
}
during "the daemon is restarted" systemctl restart mcr
during "the keeper is restarted" systemctl restart mcr-netd
during "the daemon is killed" systemctl kill --signal=KILL mcr
during "the keeper is killed" systemctl kill --signal=KILL mcr-netd
during "both are killed" systemctl kill --signal=KILL mcr mcr-netd
during "the configuration is loaded again" systemctl reload mcr mcr-netd
patiently "the relays are not ready again" all_ready
patiently "the relays are not served by $CHECK_DATAPATH again" all_by_datapath
wait "$sender"
wait "$listener"
came=$?
[ "$left" -eq 0 ] || fail "the group was left for a moment, $left times of 30"
say "the group stayed joined all the time"
if [ "$CHECK_DATAPATH" = tcx ]; then
    [ "$came" -eq 0 ] || fail "packets were lost: $(cat "$result")"
    say "15000 packets, none was lost"
fi
passes eth0:239.1.1.1:5001 eth0:239.2.2.1:6001

systemctl stop mcr mcr-netd || fail "systemctl stop"
! is_joined || fail "a group is joined still"
[ -z "$(find /sys/fs/bpf/mcr -type f 2>/dev/null)" ] || fail "something is pinned still"
say "stopped: nothing is left"
say "all is well"
