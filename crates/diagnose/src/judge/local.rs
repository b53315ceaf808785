//! What the kernel does with packets for the host's own sockets: reverse path, firewall, the socket itself, its buffer.
//!
//! A relay takes frames before all of this; these steps are judged only where a socket of the port is there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mcr_model::status::RelayStatus;

use super::{Case, counted, firewall, kernel, listed, owned, relay, told};
use crate::facts::{Hold, Route, Socket};
use crate::report::Step;

pub(super) fn steps(case: &Case<'_>) -> Vec<Step> {
    if case.is_way_out() {
        return Vec::new();
    }
    if let Err(blind) = &case.facts.sockets {
        return vec![Step::blind("socket", blind)];
    }
    if !case.is_for_sockets() {
        return nobody(case).into_iter().collect();
    }
    if let Some(step) = taken(case) {
        return vec![step];
    }
    let mut steps = Vec::new();
    steps.extend(source(case));
    steps.extend(reverse_path(case));
    steps.extend(firewall::steps(case));
    steps.push(socket(case));
    steps.extend(buffer(case));
    if !super::is_broken(&steps) {
        steps.extend(kernel::drops(case));
    }
    steps
}

/// A relay in the kernel takes the frames themselves, not copies: the IP stack never gets them.
fn taken(case: &Case<'_>) -> Option<Step> {
    let takes = |relay: &&&RelayStatus| {
        matches!(relay.datapath.as_str(), "tcx" | "xdp") && relay::received_meanwhile(case, relay) > 0
    };
    let relay = case.relays.iter().find(takes)?;
    let who = listed(case.sockets.iter().map(|socket| owned(socket)), 3);
    let fact = format!(
        "relay {} ({}) takes the frames before any socket of this host: {who} hears none of them",
        relay.name, relay.datapath
    );
    let remedy = format!(
        "set datapath = \"packet\" for {}, which leaves the frames where they are, or have the application listen to an \
         output of the relay",
        relay.name
    );
    Some(Step::fault("taken", "taken_by_relay", fact, remedy).of(relay.name.clone()))
}

/// No socket is bound to the port. Where a relay takes the packets, none is needed; where a daemon runs, [`super::relay`] says
/// which relay comes nearest.
fn nobody(case: &Case<'_>) -> Option<Step> {
    let fact = format!("no socket is bound to port {}", case.port());
    if case.has_taker() || !matches!(case.facts.relays, crate::Relays::NoDaemon) {
        return None;
    }
    let remedy = format!(
        "start the application that should receive, or relay it: mcr relay {} eth1:{}",
        case.question.input,
        if case.is_ipv6() { "[ff3e::2:2]:6001" } else { "239.2.2.2:6001" }
    );
    Some(
        Step::fault("socket", "nobody_listens", format!("{fact}, and no relay daemon runs"), remedy)
            .because(watchers(case)),
    )
}

/// Packet sockets see frames before the kernel judges them: "tcpdump sees it, my application does not".
fn watchers(case: &Case<'_>) -> Option<String> {
    let index = case.link.map(|link| link.index);
    let watches = case.facts.packet_sockets.iter().filter(|s| s.interface == index || s.interface.is_none());
    let owners: Vec<String> = watches.flat_map(|s| &s.owners).map(|o| format!("{} (pid {})", o.name, o.pid)).collect();
    (!owners.is_empty()).then(|| format!("seen by packet sockets, before the kernel judges: {}", listed(owners, 4)))
}

/// Sources that no packet may have on a wire (`net/ipv4/route.c`, `ip_mc_validate_source`; RFC 1122 section 3.2.1.3).
fn source(case: &Case<'_>) -> Option<Step> {
    const STEP: &str = "source";
    const REASONS: [&str; 5] =
        ["IP_INVALID_SOURCE", "IP_LOCAL_SOURCE", "IP_LOCALNET", "IP_INVALID_DEST", "INVALID_PROTO"];
    let dropped = told(case.drops(&REASONS));
    // IPv6 does not mind.
    let is_own = |source: &IpAddr| source.is_ipv4() && case.facts.routes_back.get(source) == Some(&Route::Local);
    let sources = case.sources();
    let odd = sources.iter().find(|source| why_impossible(**source).is_some() || is_own(source));
    let Some(odd) = odd else {
        let first = case.drops(&REASONS).next()?;
        let fact = format!("the kernel refuses packets from {}", first.source);
        return Some(
            Step::fault(STEP, "martian_source", fact, "give the sender an address that a host can have")
                .because(dropped),
        );
    };
    if is_own(odd) && why_impossible(*odd).is_none() {
        let fact =
            format!("{odd}, which the packets come from, is an address of this host: the kernel takes that for forged");
        let remedy =
            "give the sender another address, or take this one away here; net.ipv4.conf.IF.accept_local=1 lets it pass";
        return Some(Step::fault(STEP, "own_source", fact, remedy).because(dropped));
    }
    let why = why_impossible(*odd).unwrap_or_default();
    let fact = format!("{odd}, which the packets come from, is {why}: the kernel drops them as martians");
    Some(Step::fault(STEP, "martian_source", fact, "give the sender an address that a host can have").because(dropped))
}

/// Of IPv6: RFC 4291 sections 2.5.3 and 2.7; the unspecified address is let in (`net/ipv6/ip6_input.c`, `ip6_rcv_core`).
fn why_impossible(source: IpAddr) -> Option<&'static str> {
    match source {
        IpAddr::V4(source) => match source.octets()[0] {
            0 => Some("in 0.0.0.0/8"),
            127 => Some("a loopback address"),
            224..=239 => Some("a multicast group"),
            _ if source.is_broadcast() => Some("the broadcast address"),
            _ => None,
        },
        IpAddr::V6(source) if source.is_multicast() => Some("a multicast group"),
        IpAddr::V6(source) if source.is_loopback() => Some("a loopback address"),
        IpAddr::V6(_) => None,
    }
}

/// The reverse-path check (RFC 3704; `net/ipv4/fib_frontend.c`, `__fib_validate_source`).
fn reverse_path(case: &Case<'_>) -> Option<Step> {
    const STEP: &str = "reverse_path";
    const REASONS: [&str; 1] = ["IP_RPFILTER"];
    if case.is_ipv6() {
        // The kernel has no such check there; rules of the firewall (`fib saddr`) are told as those.
        return None;
    }
    let (link, settings) = (case.link?, &case.facts.settings);
    let mode = settings.reverse_path_of(&link.name);
    let own = settings.reverse_path.get(&link.name).copied().unwrap_or_default();
    let values = format!(
        "net.ipv4.conf: {}.rp_filter = {own}, all.rp_filter = {}; the larger counts",
        link.name, settings.reverse_path_all
    );
    let refused: Vec<IpAddr> = case.sources().into_iter().filter(|source| !has_way_back(case, *source, mode)).collect();
    let dropped: u64 = case.drops(&REASONS).map(|drop| drop.packets).sum();
    let counter = case.facts.counters.get("TcpExt.IPReversePathFilter").copied().unwrap_or_default();
    let is_proven = if case.facts.drops.is_ok() { dropped > 0 } else { counter > 0 && !refused.is_empty() };
    let Some(source) = refused.first().copied().or_else(|| case.drops(&REASONS).next().map(|drop| drop.source)) else {
        let sources = case.sources();
        let word = if mode == 0 { "is off" } else { "lets them pass" };
        let fact = format!("the reverse-path check {word} on {}", link.name);
        return (!sources.is_empty() || mode == 0).then(|| Step::ok(STEP, "passes", fact).because([values]));
    };
    let way = match case.facts.routes_back.get(&source) {
        Some(Route::Out { interfaces, gateway }) => {
            let by = gateway.map(|gateway| format!(" by {gateway}")).unwrap_or_default();
            format!("this host's route to {source} leads out of {}{by}", case.names(interfaces))
        }
        _ => format!("this host has no route to {source}"),
    };
    let (code, check) = match mode {
        1 => ("rp_filter_strict", "strict (the way back must be the way in)"),
        _ => ("rp_filter_loose", "loose (there must be some way back)"),
    };
    let evidence = std::iter::once(values).chain(told(case.drops(&REASONS)));
    let by_counter = counter > 0 && case.facts.drops.is_err();
    let evidence = evidence.chain(by_counter.then(|| format!("kernel: IPReversePathFilter rose by {counter}")));
    if !is_proven {
        let fact = format!("{way}, and rp_filter on {} is {check}: it would drop packets from there", link.name);
        return Some(Step::unknown(STEP, code, fact).because(evidence));
    }
    let fact = format!("the kernel drops them: {way}, and rp_filter on {} is {check}", link.name);
    Some(Step::fault(STEP, code, fact, remedy(case, source, mode)).because(evidence))
}

fn remedy(case: &Case<'_>, source: IpAddr, mode: u8) -> String {
    let name = case.interface();
    let route = format!("give it a route (ip route add {source}/32 dev {name})");
    let sysctl =
        |value: u8| format!("sysctl -w net.ipv4.conf.{name}.rp_filter={value} net.ipv4.conf.all.rp_filter={value}");
    let has_some_route = matches!(case.facts.routes_back.get(&source), Some(Route::Out { .. }));
    let relax = if mode == 1 && has_some_route { sysctl(2) } else { sysctl(0) };
    format!(
        "{route}, or relax the check ({relax}), or let MCR take the frames before it: mcr relay {} OUTPUT",
        case.question.input
    )
}

fn has_way_back(case: &Case<'_>, source: IpAddr, mode: u8) -> bool {
    let index = case.link.map(|link| link.index);
    match (mode, case.facts.routes_back.get(&source)) {
        (0, _) | (_, Some(Route::Local)) => true,
        (_, None | Some(Route::None)) => false,
        (1, Some(Route::Out { interfaces, .. })) => interfaces.iter().any(|interface| Some(*interface) == index),
        (_, Some(Route::Out { .. })) => true,
    }
}

/// Why a socket does not hear the packets although they reach it.
enum Deaf {
    Address(IpAddr),
    Interface(u32),
    Peer(IpAddr),
}

fn deafness(case: &Case<'_>, socket: &Socket) -> Option<Deaf> {
    let index = case.link?.index;
    if let Some(bound) = socket.interface.filter(|bound| *bound != index) {
        return Some(Deaf::Interface(bound));
    }
    let is_bound_elsewhere = !socket.address.is_unspecified() && socket.address != case.group();
    // Connecting binds a socket to an address of the host, too: it hears no group any more, not even from its peer.
    let sources = case.sources();
    match socket.peer {
        Some(peer) if is_bound_elsewhere || !(sources.is_empty() || sources.contains(&peer)) => Some(Deaf::Peer(peer)),
        None if is_bound_elsewhere => Some(Deaf::Address(socket.address)),
        Some(_) | None => None,
    }
}

/// Whether a socket of the port can hear them.
fn socket(case: &Case<'_>) -> Step {
    const STEP: &str = "socket";
    let judged: Vec<(&Socket, Option<Deaf>)> =
        case.sockets.iter().map(|socket| (*socket, deafness(case, socket))).collect();
    let hearing: Vec<&Socket> = judged.iter().filter(|(_, deaf)| deaf.is_none()).map(|(socket, _)| *socket).collect();
    if !hearing.is_empty() {
        let who = listed(hearing.iter().map(|socket| owned(socket)), 3);
        let filtered = told(case.drops(&["SOCKET_FILTER"]));
        if !filtered.is_empty() {
            let fact = format!("a filter on the socket of {who} refuses the packets");
            return Step::fault(STEP, "socket_filter", fact, "correct its SO_ATTACH_FILTER or its eBPF filter")
                .because(filtered);
        }
        return Step::ok(STEP, "listening", format!("{who} listens on port {}", case.port()));
    }
    let Some((socket, Some(deaf))) = judged.first() else {
        return Step::unknown(STEP, "nobody_listens", format!("no socket is bound to port {}", case.port()));
    };
    let (who, name, group) = (owned(socket), case.interface(), case.group());
    let at = |address: IpAddr| SocketAddr::new(address, case.port());
    match deaf {
        Deaf::Interface(bound) => {
            let fact = format!("{who} is bound to {}, and hears nothing of {name}", case.name(*bound));
            Step::fault(
                STEP,
                "bound_to_interface",
                fact,
                format!("bind it to {name}, or to no interface (SO_BINDTODEVICE)"),
            )
        }
        Deaf::Address(address) => {
            let fact = format!("{who} is bound to {}, and hears only what is sent to that address", at(*address));
            Step::fault(
                STEP,
                "bound_to_address",
                fact,
                format!("bind it to {}, or to {}", at(unspecified(group)), at(group)),
            )
        }
        Deaf::Peer(peer) => {
            let fact =
                format!("{who} is connected to {peer}, and hears only what comes from there to {}", socket.address);
            Step::fault(
                STEP,
                "connected",
                fact,
                "do not connect the socket; a source-specific membership admits one sender only",
            )
        }
    }
}

/// The address of the same family that stands for any.
fn unspecified(like: IpAddr) -> IpAddr {
    if like.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// Whether the receiver is fast enough.
fn buffer(case: &Case<'_>) -> Option<Step> {
    const STEP: &str = "receive_buffer";
    let hears = |socket: &&&Socket| deafness(case, socket).is_none() && socket.membership != Some(Hold::No);
    let socket = case.sockets.iter().filter(hears).max_by_key(|socket| (socket.new_drops, socket.drops))?;
    let evidence = vec![
        format!(
            "buffer of {} bytes, {} of them in use; net.core.rmem_max = {}",
            socket.buffer_bytes, socket.waiting_bytes, case.facts.settings.most_receive_bytes
        ),
        format!("{} dropped since the socket was made", counted(socket.drops.into())),
    ];
    let told = told(case.drops(&["SOCKET_RCVBUFF", "PROTO_MEM"]));
    Some(if socket.new_drops > 0 || !told.is_empty() {
        let fact = format!(
            "{} does not read fast enough: {} found its receive buffer full",
            owned(socket),
            counted(socket.new_drops.into())
        );
        let remedy =
            "give it a larger buffer (SO_RCVBUF; sysctl -w net.core.rmem_max=33554432) and let it read without pauses";
        Step::fault(STEP, "receive_buffer_full", fact, remedy).because(evidence).because(told)
    } else if socket.drops > 0 {
        let fact = format!("{} lost {} earlier and none while we looked", owned(socket), counted(socket.drops.into()));
        Step::unknown(STEP, "receive_buffer_was_full", fact).because(evidence)
    } else {
        Step::ok(STEP, "receive_buffer_enough", format!("{} has lost nothing", owned(socket)))
    })
}
