//! Collecting facts: before, during and after a look at the wires. Concludes nothing.

mod btf;
mod drops;
pub(crate) mod eye;
mod firewall;
mod foreground;
mod kallsyms;
mod link;
mod look;
mod netlink;
mod proc_net;
mod sight;
mod socket;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use crate::facts::{
    Blind, BridgeGroup, Facts, Forwarded, Hold, Link, Membership, Observed, Owner, PacketSocket, Relays, Route,
    Settings, Socket,
};
use crate::judge::{output_of, takers};
use crate::{Join, Question};

use drops::DropCounter;
use look::{Interest, Look};

/// Counters that tell something about multicast packets.
const COUNTERS: [&str; 6] = [
    "TcpExt.IPReversePathFilter",
    "Udp.InCsumErrors",
    "Udp.RcvbufErrors",
    "Udp.IgnoredMulti",
    "Ip.ReasmFails",
    "Ip.InHdrErrors",
];

/// The groups whose membership is asked of a socket: enough to see that it has all that it may have.
const MOST_GROUPS_ASKED: usize = 512;

/// Every interface, and the groups that bridges forward.
pub(crate) fn bridges() -> io::Result<(Vec<Link>, Vec<BridgeGroup>)> {
    let mut netlink = link::open()?;
    Ok((link::links(&mut netlink)?, link::bridge_groups(&mut netlink)?))
}

/// Collects every fact that the question needs. `relays` is asked for the outputs, and then right before and after the look.
pub fn observe(question: &Question, mut relays: impl FnMut() -> Relays) -> Facts {
    let mut netlink = link::open();
    let mut links = ask(&mut netlink, link::links);
    let outputs = outputs(question, &relays());
    let interest = interest(question, &links, &outputs);
    let _joined = join(question, &links);

    let losses_before = ask(&mut netlink, link::losses);
    let counters_before = all_counters();
    let port = question.input.port.get();
    let sockets_before = socket::of_port(port, question.group);
    let counter = DropCounter::start(&interest.addresses);
    let look = Look::open(&interest);
    let earlier_relays = relays();
    let wire = look.map(|look| look.watch(question.look));
    if wire.is_err() {
        std::thread::sleep(question.look);
    }
    let later_relays = relays();
    let drops = counter.and_then(DropCounter::finish);
    let moved = moved(&counters_before, &all_counters());
    add_losses(&mut links, &losses_before, &ask(&mut netlink, link::losses));

    let input = interface(&links, question.input.interface.as_str());
    let settings = proc_net::settings(&links);
    let memberships = memberships(&settings);
    let sockets = sockets_before.and_then(|before| Ok((before, socket::of_port(port, question.group)?)));
    let sockets =
        sockets.map(|(before, after)| judged_sockets(question, input, &memberships, &before, after)).map_err(|error| {
            Blind::new(format!("the sockets can not be listed: {error}"), "report this with the version of the kernel")
        });
    let sources = sources(question, &wire);
    let mut route = |address: IpAddr, out| match &mut netlink {
        Ok(netlink) => link::route(netlink, address, out),
        Err(_) => Route::None,
    };
    let routes_back = sources.into_iter().map(|source| (source, route(source, None))).collect();
    let hosts = outputs.iter().filter(|(_, address)| !address.is_multicast());
    let routes_out =
        hosts.map(|(name, address)| (*address, route(*address, interface(&links, name).map(|l| l.index)))).collect();
    Facts {
        look: question.look,
        bridge_groups: ask(&mut netlink, link::bridge_groups),
        wire,
        drops,
        counters: moved,
        link_filters: proc_net::link_filters(&proc_net::read("dev_mcast")),
        sockets,
        packet_sockets: packet_sockets(),
        foreground: foreground::look(),
        settings,
        routes_back,
        firewall: firewall::look(),
        forwarded: forwarded(&links),
        relays: later_relays,
        earlier_relays,
        routes_out,
        neighbours: ask(&mut netlink, link::neighbours),
        memberships,
        links,
    }
}

/// What [`checkup`](crate::checkup) needs to know of the network.
pub(crate) struct Survey {
    pub(crate) links: Vec<Link>,
    pub(crate) losses: BTreeMap<u32, (u64, u64)>,
    pub(crate) settings: Settings,
    pub(crate) memberships: Vec<Membership>,
    /// Queriers heard, by interface and address, with their version.
    pub(crate) queries: Observed<BTreeMap<(u32, IpAddr), u8>>,
    /// Whether eBPF works.
    pub(crate) ebpf: Observed<()>,
    /// Who owns the kernel's multicast forwarding; `None`: it is not in use.
    pub(crate) routing: Option<Vec<Owner>>,
    pub(crate) forwarded: Vec<Forwarded>,
}

/// Looks at the network as a whole, and listens on every interface for queries.
pub(crate) fn survey(length: Duration) -> Survey {
    let mut netlink = link::open();
    let links = ask(&mut netlink, link::links);
    let interfaces = links.iter().filter(|link| link.up && link.name != "lo").map(|link| link.index).collect();
    let interest = Interest { interfaces, ..Interest::default() };
    let queries = Look::open(&interest).map(|look| look.watch(length).queries);
    let vifs = proc_net::read("ip_mr_vif");
    let settings = proc_net::settings(&links);
    Survey {
        losses: ask(&mut netlink, link::losses),
        memberships: memberships(&settings),
        settings,
        queries,
        ebpf: DropCounter::start(&BTreeSet::new()).map(drop),
        routing: (vifs.lines().count() > 1).then(routing_owners),
        forwarded: forwarded(&links),
        links,
    }
}

/// The groups of both families that are joined.
fn memberships(settings: &Settings) -> Vec<Membership> {
    let mut found = proc_net::memberships(&proc_net::read("igmp"));
    found.extend(proc_net::memberships6(&proc_net::read("igmp6"), settings));
    found
}

/// Processes with a raw socket of IGMP, through which the kernel's forwarding is set up (`man 4 multicast` of other systems;
/// `net/ipv4/ipmr.c`).
fn routing_owners() -> Vec<Owner> {
    let inodes = proc_net::raw_igmp_sockets(&proc_net::read("raw"));
    let owners = socket::holders(&inodes).into_values().flatten().map(|held| held.owner);
    owners.collect::<BTreeSet<_>>().into_iter().collect()
}

/// What one netlink question answers; nothing where the kernel does not answer.
/// The interfaces of this host.
pub(crate) fn links() -> io::Result<Vec<Link>> {
    link::links(&mut link::open()?)
}

fn ask<T: Default>(
    netlink: &mut io::Result<netlink::Netlink>,
    question: impl FnOnce(&mut netlink::Netlink) -> io::Result<T>,
) -> T {
    netlink.as_mut().ok().and_then(|netlink| question(netlink).ok()).unwrap_or_default()
}

fn interface<'a>(links: &'a [Link], name: &str) -> Option<&'a Link> {
    links.iter().find(|link| link.name == name)
}

/// Interface and address of each output of the relays that take what is asked for.
fn outputs(question: &Question, relays: &Relays) -> Vec<(String, IpAddr)> {
    let Relays::Known(relays) = relays else { return Vec::new() };
    let takers = takers(relays, question).into_iter();
    let outputs =
        takers.flat_map(|relay| (0..relay.relay.output.len()).filter_map(|place| output_of(relay, place, question)));
    outputs.map(|output| (output.interface.to_string(), output.target.ip())).collect()
}

/// Where to look: at the interfaces in question, at the other ports of their bridges, and below VLAN interfaces.
fn interest(question: &Question, links: &[Link], outputs: &[(String, IpAddr)]) -> Interest {
    let names = outputs.iter().map(|(name, _)| name.as_str()).chain([question.input.interface.as_str()]);
    let mut interfaces = BTreeSet::new();
    for link in names.filter_map(|name| interface(links, name)) {
        let bridge = link.bridge.as_ref().map(|_| link.index).or(link.port.as_ref().and(link.master));
        let ports = links.iter().filter(|port| bridge.is_some() && port.master == bridge);
        interfaces.extend(ports.map(|port| port.index).chain([link.index]).chain(link.parent));
    }
    let addresses = outputs.iter().map(|(_, address)| *address).chain([question.group]).collect();
    Interest { interfaces, addresses, port: question.input.port.get() }
}

/// Joins for as long as the socket lives, when that was asked for. What goes wrong shows in the memberships.
fn join(question: &Question, links: &[Link]) -> Option<UdpSocket> {
    let wanted = question.membership == Join::WhileLooking && question.input.target.is_group();
    let index = interface(links, question.input.interface.as_str()).filter(|_| wanted)?.index;
    match question.group {
        IpAddr::V4(group) => {
            let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
            let by_index = socket2::InterfaceIndexOrAddress::Index(index);
            socket2::SockRef::from(&socket).join_multicast_v4_n(&group, &by_index).ok()?;
            Some(socket)
        }
        IpAddr::V6(group) => {
            let socket = UdpSocket::bind("[::]:0").ok()?;
            socket.join_multicast_v6(&group, index).ok()?;
            Some(socket)
        }
    }
}

fn all_counters() -> BTreeMap<String, u64> {
    let mut all = proc_net::counters(&proc_net::read("netstat"));
    all.extend(proc_net::counters(&proc_net::read("snmp")));
    all
}

fn moved(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let difference = |name: &str| Some((name.to_owned(), after.get(name)?.saturating_sub(*before.get(name)?)));
    COUNTERS.iter().filter_map(|name| difference(name)).filter(|(_, moved)| *moved > 0).collect()
}

fn add_losses(links: &mut [Link], before: &link::Losses, after: &link::Losses) {
    for link in links {
        let [before, after] = [before, after].map(|losses| losses.get(&link.index).copied().unwrap_or_default());
        link.queue_drops = after.0.saturating_sub(before.0);
        link.device_drops = after.1.saturating_sub(before.1);
    }
}

/// The sources whose way back matters: those seen, and those asked for.
fn sources(question: &Question, wire: &Observed<crate::Wire>) -> BTreeSet<IpAddr> {
    let flows = wire.iter().flat_map(|wire| &wire.flows);
    let seen = flows.filter(|flow| flow.destination == question.group).map(|flow| flow.source);
    seen.chain(question.input.single_sources()).take(64).collect()
}

/// The sockets of the port, with their owners, what they have joined, and what they lost meanwhile. Our own is not among them:
/// it is bound to another port.
fn judged_sockets(
    question: &Question,
    input: Option<&Link>,
    memberships: &[Membership],
    before: &[socket::Found],
    after: Vec<socket::Found>,
) -> Vec<Socket> {
    let holders = socket::holders(&after.iter().map(|found| found.inode).collect());
    let groups: BTreeSet<(u32, IpAddr)> = memberships.iter().map(|m| (m.interface, m.group)).collect();
    let judged = |found: socket::Found| {
        let held = holders.get(&found.inode).map(Vec::as_slice).unwrap_or_default();
        let mut socket = found.socket;
        let earlier = before.iter().find(|earlier| earlier.inode == found.inode);
        socket.new_drops = earlier.map_or(0, |earlier| socket.drops.saturating_sub(earlier.socket.drops));
        socket.owners = held.iter().map(|held| held.owner.clone()).collect::<BTreeSet<Owner>>().into_iter().collect();
        if let Some(fd) = held.first().and_then(|held| socket::borrow(held).ok()) {
            let group = question.group;
            socket.membership = input.and_then(|link| socket::membership(&fd, link.index, group));
            socket.hears_all = socket::hears_all(&fd, group);
            let asked = groups.iter().take(MOST_GROUPS_ASKED);
            let holds = |(interface, group): &&(u32, IpAddr)| {
                socket::membership(&fd, *interface, *group).is_some_and(|hold| hold != Hold::No)
            };
            socket.groups_held = asked.filter(holds).count();
        }
        socket
    };
    after.into_iter().map(judged).collect()
}

fn packet_sockets() -> Vec<PacketSocket> {
    let found = proc_net::packet_sockets(&proc_net::read("packet"));
    let holders = socket::holders(&found.iter().map(|(_, inode)| *inode).collect());
    // One that belongs to nobody else is our own.
    let owned = found.into_iter().filter_map(|(interface, inode)| {
        let owners: BTreeSet<Owner> = holders.get(&inode)?.iter().map(|held| held.owner.clone()).collect();
        Some(PacketSocket { interface, owners: owners.into_iter().collect() })
    });
    owned.collect()
}

fn forwarded(links: &[Link]) -> Vec<Forwarded> {
    proc_net::forwarded(&proc_net::read("ip_mr_cache"), &proc_net::read("ip_mr_vif"), links)
}
