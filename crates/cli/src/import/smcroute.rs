//! `smcroute.conf` (smcroute.conf(5), version 2.5): routes of the kernel's multicast forwarding, as relays.
//!
//! A route names a source, a group and interfaces, and no port: the kernel forwards whatever is sent to the group. A
//! relay takes one port, so the ports have to be told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mcr_model::spec::{InputSpec, OutputSpec, RelaySpec};

use super::{Draft, sources};

/// A prefix becomes at most so many addresses.
const MOST_ADDRESSES: u128 = 256;

/// The relays that do what the routes of `text` do, for packets to these ports.
pub(crate) fn import(name: &str, text: &str, ports: &[u16]) -> Draft {
    let mut draft = Draft::default();
    draft.comment(format!(
        "From {name}. smcroute keeps the source address and counts the TTL down; a relay sends from the first address\n\
         of its output interface (or `source`) with TTL 16 (or `ttl`). Groups are joined by the relays themselves."
    ));
    if ports.is_empty() {
        draft.comment(
            "A route forwards all ports of a group, a relay takes one: name the UDP ports with --port, as\n\
             `mcr import --port 5001 --port 5002 smcroute.conf`. Without them no relay can be made.",
        );
    }
    for (i, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        draft.comment(format!("\nline {}: {}", i + 1, words.join(" ")));
        if let Err(why) = statement(&words, ports, &mut draft) {
            draft.comment(format!("No relay: {why}."));
        }
    }
    draft
}

fn statement(words: &[&str], ports: &[u16], draft: &mut Draft) -> Result<(), String> {
    match words {
        ["mroute", rest @ ..] => route(rest, ports, draft),
        ["mgroup", ..] => {
            Err("each relay joins its group itself, and a group without a route is not needed".to_owned())
        }
        ["phyint", ..] => {
            Err("there is nothing to enable; the keeper's policy.toml says which interfaces may be used, \
                               and a TTL threshold has no equivalent: the TTL of what arrives does not matter"
                .to_owned())
        }
        ["include", path, ..] => Err(format!("import the included files as well: mcr import {path}")),
        [other, ..] => Err(format!("{other:?} is no statement of smcroute.conf(5)")),
        [] => Ok(()),
    }
}

/// `from IIF [source ADDR[/LEN]] group GROUP[/LEN] to OIF [OIF ...]`
struct Route<'a> {
    from: &'a str,
    source: Option<&'a str>,
    group: &'a str,
    to: Vec<&'a str>,
}

fn route(words: &[&str], ports: &[u16], draft: &mut Draft) -> Result<(), String> {
    let Route { from, source, group, to } = parse(words)?;
    if let Some(wildcard) = std::iter::once(from).chain(to.iter().copied()).find(|name| name.contains('+')) {
        return Err(format!("{wildcard} stands for several interfaces; write one line for each, by its name"));
    }
    let source = match source {
        None | Some("0.0.0.0" | "::") => None,
        Some(source) => Some(sources(source)?),
    };
    let groups = addresses(group)?;
    if ports.is_empty() {
        return Err("its ports are not known; see above".to_owned());
    }
    for group in groups {
        for port in ports {
            let name = format!("{group}-{port}").replace(':', "-");
            draft.relay(&name, relay(from, source.as_deref(), group, *port, &to));
        }
    }
    Ok(())
}

fn parse<'a>(words: &[&'a str]) -> Result<Route<'a>, String> {
    let (head, to) = words.split_at(words.iter().position(|word| *word == "to").unwrap_or(words.len()));
    let to: Vec<&str> = to.iter().skip(1).copied().collect();
    let value = |key: &str| head.chunks(2).find(|pair| pair[0] == key).and_then(|pair| pair.get(1)).copied();
    let missing = |what: &str| format!("{what} is missing");
    if to.is_empty() {
        return Err(missing("the outbound interface after \"to\""));
    }
    Ok(Route {
        from: value("from").ok_or_else(|| missing("\"from\""))?,
        source: value("source"),
        group: value("group").ok_or_else(|| missing("\"group\""))?,
        to,
    })
}

fn relay(from: &str, source: Option<&str>, group: IpAddr, port: u16, to: &[&str]) -> RelaySpec {
    let group = Some(group.to_string());
    let output = |interface: &&str| OutputSpec {
        interface: (*interface).to_owned(),
        group: group.clone(),
        port: port.into(),
        ..OutputSpec::default()
    };
    let input = InputSpec {
        interface: from.to_owned(),
        group: group.clone(),
        port: port.into(),
        sources: source.map(str::to_owned).into_iter().collect(),
        ..InputSpec::default()
    };
    RelaySpec { input, output: to.iter().map(output).collect(), ..RelaySpec::default() }
}

/// The addresses of `ADDRESS[/LEN]`.
fn addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().map_err(|_| format!("{text} is no address"))?;
    let (first, width) = match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let length = length.map_or(Some(width), |length| length.parse().ok().filter(|length| *length <= width));
    let host_bits = width - length.ok_or(format!("{text} has no prefix length"))?;
    let count = 1_u128.checked_shl(host_bits).unwrap_or(u128::MAX);
    if count > MOST_ADDRESSES {
        return Err(format!("{text} are {count} addresses, and a relay has one; name those that are in use"));
    }
    let first = first & !(count - 1);
    let of_family = |number: u128| match address {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::from(number as u32)),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::from(number)),
    };
    Ok((0..count).map(|place| of_family(first + place)).collect())
}
