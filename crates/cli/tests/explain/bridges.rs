//! The host is a switch: a device on one port, the receiver behind another, or a router with multicast forwarding of its own.

use std::net::Ipv4Addr;

use mcr_testbed::{Bridge, Interface, Namespace, Snooping, Veth};
use serde_json::Value;

use crate::stand::{GROUP, Listener, Pump, expect, expect_nothing, explain, good, nowhere};

/// A switch with a device at port `p1` and a host at `p2`.
struct Switched {
    device: Veth,
    host: Veth,
    bridge: Bridge,
    _namespaces: [Namespace; 2],
}

impl Switched {
    fn new(snooping: Snooping) -> Switched {
        let (device, switch, host) = (Namespace::new("device"), Namespace::new("switch"), Namespace::new("host"));
        let bridge = Bridge::new(&switch, "br0", snooping);
        let (one, two) = (Veth::between(&device, "eth0", &switch, "p1"), Veth::between(&host, "eth0", &switch, "p2"));
        [&one, &two].iter().for_each(|cable| bridge.plug(cable.far()));
        two.near().add_address("10.0.0.1/24");
        Switched { device: one, host: two, bridge, _namespaces: [device, host] }
    }

    fn switch(&self) -> &Namespace {
        self.bridge.interface().namespace()
    }

    fn explain_port(&self) -> Value {
        let _pump = Pump::start(self.device.near(), vec![good().bytes()]);
        explain(self.switch(), nowhere(), &["p2:239.1.1.1:5001"])
    }

    /// The bridge asks for memberships. A bridge trusts its querier only once it has asked for some time
    /// (`mcast_query_response_interval`, in hundredths of a second).
    fn ask_for_memberships(&self) {
        self.switch().ip("link set dev br0 type bridge mcast_querier 1 mcast_query_response_interval 1");
    }
}

#[test]
fn the_port_is_not_in_the_table() {
    let net = Switched::new(Snooping::On);
    net.ask_for_memberships();
    expect(&net.explain_port(), "snooping", "not_listed");
}

#[test]
fn the_port_is_in_the_table() {
    let net = Switched::new(Snooping::On);
    net.ask_for_memberships();
    net.switch().output("bridge", &["mdb", "add", "dev", "br0", "port", "p2", "grp", "239.1.1.1", "permanent"]);
    expect_nothing(&net.explain_port());
}

#[test]
fn nobody_sends_queries() {
    let net = Switched::new(Snooping::On);
    net.switch().output("bridge", &["link", "set", "dev", "p2", "mcast_flood", "off"]);
    let _listener = Listener::of_group(net.host.near());
    expect(&net.explain_port(), "querier", "no_querier");
}

#[test]
fn the_port_is_not_flooded() {
    let net = Switched::new(Snooping::Off);
    net.switch().output("bridge", &["link", "set", "dev", "p2", "mcast_flood", "off"]);
    expect(&net.explain_port(), "snooping", "flood_off");
}

#[test]
fn a_router_lets_ttl_1_end() {
    let (device, router, far) = (Namespace::new("device"), Namespace::new("router"), Namespace::new("far"));
    let input = Veth::between(&device, "eth0", &router, "dev0");
    let output = Veth::between(&router, "lan1", &far, "eth0");
    input.far().add_address("10.0.0.1/24");
    output.near().add_address("10.0.1.1/24");
    let _routing = Routing::start(&router, [input.far(), output.near()]);
    let _pump = Pump::start(input.near(), vec![good().ttl(1).bytes()]);
    expect(&explain(&router, nowhere(), &["dev0:239.1.1.1:5001"]), "forwarding", "ttl");
}

#[test]
fn a_router_forwards_what_lives_long_enough() {
    let (device, router, far) = (Namespace::new("device"), Namespace::new("router"), Namespace::new("far"));
    let input = Veth::between(&device, "eth0", &router, "dev0");
    let output = Veth::between(&router, "lan1", &far, "eth0");
    input.far().add_address("10.0.0.1/24");
    output.near().add_address("10.0.1.1/24");
    let _routing = Routing::start(&router, [input.far(), output.near()]);
    let _pump = Pump::start(input.near(), vec![good().ttl(5).bytes()]);
    expect_nothing(&explain(&router, nowhere(), &["dev0:239.1.1.1:5001"]));
}

/// The kernel's multicast forwarding of the group from one interface to another, as a routing daemon sets it up
/// (`include/uapi/linux/mroute.h`).
pub(crate) struct Routing {
    _socket: socket2::Socket,
}

#[repr(C)]
struct VifCtl {
    vif: u16,
    flags: u8,
    threshold: u8,
    rate_limit: u32,
    local_index: i32,
    remote: [u8; 4],
}

#[repr(C)]
struct MfcCtl {
    origin: [u8; 4],
    group: [u8; 4],
    parent: u16,
    thresholds: [u8; 32],
    counters: [u32; 3],
    expire: i32,
}

impl Routing {
    const MRT_INIT: libc::c_int = 200;
    const MRT_ADD_VIF: libc::c_int = 202;
    const MRT_ADD_MFC: libc::c_int = 204;
    const VIFF_USE_IFINDEX: u8 = 8;

    pub(crate) fn start(router: &Namespace, interfaces: [&Interface; 2]) -> Routing {
        let protocol = Some(socket2::Protocol::from(libc::IPPROTO_IGMP));
        let socket = router.run(|| socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, protocol));
        let socket = socket.expect("a raw socket");
        set(&socket, Self::MRT_INIT, &1_i32);
        for (vif, interface) in (0_u16..).zip(interfaces) {
            let local_index = interface.index().cast_signed();
            let flags = Self::VIFF_USE_IFINDEX;
            set(
                &socket,
                Self::MRT_ADD_VIF,
                &VifCtl { vif, flags, threshold: 1, rate_limit: 0, local_index, remote: [0; 4] },
            );
        }
        let mut thresholds = [0; 32];
        thresholds[1] = 1;
        let origin = Ipv4Addr::new(10, 0, 0, 55).octets();
        let group = GROUP.octets();
        set(&socket, Self::MRT_ADD_MFC, &MfcCtl { origin, group, parent: 0, thresholds, counters: [0; 3], expire: 0 });
        Routing { _socket: socket }
    }
}

fn set<T>(socket: &socket2::Socket, option: libc::c_int, value: &T) {
    use std::os::fd::AsRawFd;
    let length = size_of::<T>() as libc::socklen_t;
    let value = std::ptr::from_ref(value).cast();
    // SAFETY: the kernel reads `length` bytes of a value that has them, all of them integers.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, option, value, length) };
    assert_eq!(done, 0, "option {option}: {}", std::io::Error::last_os_error());
}
