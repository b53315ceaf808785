//! A `socat` line that passes UDP on (socat(1)), as a relay.

use std::net::Ipv4Addr;

use mcr_model::header::{DscpSpec, SourcePortSpec, TtlSpec};
use mcr_model::spec::{InputSpec, OutputSpec, RelaySpec};

use super::{Draft, sources};

/// The interfaces, where the line does not name them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Interfaces<'a> {
    /// Where it listens.
    pub(crate) input: Option<&'a str>,
    /// Where it sends.
    pub(crate) output: Option<&'a str>,
}

/// Adds the relay that does what `line` does.
///
/// # Errors
/// What in it can't be done, or what has to be told.
pub(crate) fn import(line: &str, interfaces: Interfaces<'_>, draft: &mut Draft) -> Result<(), String> {
    let words = words(line);
    let backwards = words.iter().any(|word| word == "-U");
    let addresses: Vec<&String> = words.iter().filter(|word| word.contains(':') && !word.starts_with('-')).collect();
    let [first, second] = addresses[..] else {
        return Err(format!("{line:?} has {} addresses and not two; quote the whole line", addresses.len()));
    };
    let (from, to) = if backwards { (second, first) } else { (first, second) };
    let (from, to) = (Address::parse(from)?, Address::parse(to)?);
    draft.comment(format!("socat {} {}", from.text, to.text));
    let input = input(&from, interfaces, draft)?;
    let output = output(&to, interfaces, draft)?;
    let target = input.group.as_deref().or(input.address.as_deref()).unwrap_or_default();
    let name = format!("{target}-{}", input.port);
    draft.relay(&name, RelaySpec { input, output: vec![output], ..RelaySpec::default() });
    Ok(())
}

/// `TYPE:parameter:parameter,option=value,option`
struct Address<'a> {
    text: &'a str,
    kind: String,
    parameters: Vec<&'a str>,
    options: Vec<(String, &'a str)>,
}

impl<'a> Address<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let mut pieces = text.split(',');
        let mut head = pieces.next().unwrap_or_default().split(':');
        let kind = head.next().unwrap_or_default().to_ascii_uppercase().replace("UDP4", "UDP");
        if kind.starts_with("UDP6") {
            return Err(format!(
                "{text} is IPv6, which is not read from socat; write it as mcr add NAME --from INTERFACE:[GROUP]:PORT --to …"
            ));
        }
        let options = pieces.map(|piece| piece.split_once('=').unwrap_or((piece, "")));
        let options = options.map(|(key, value)| (key.to_ascii_lowercase(), value)).collect();
        Ok(Self { text, kind, parameters: head.collect(), options })
    }
}

fn input(from: &Address<'_>, interfaces: Interfaces<'_>, draft: &mut Draft) -> Result<InputSpec, String> {
    let mut port = match from.kind.as_str() {
        "UDP-RECVFROM" | "UDP-RECV" | "UDP-LISTEN" => from.parameters.first().copied(),
        "UDP-DATAGRAM" => None,
        other => {
            return Err(format!("{other} receives no UDP datagrams of a group or host; name UDP4-RECVFROM or such"));
        }
    };
    let (mut group, mut address, mut sources) = (None, None, Vec::new());
    let mut interface = None;
    for (key, value) in &from.options {
        match key.as_str() {
            "ip-add-membership" | "add-membership" | "membership" => {
                let mut parts = value.split(':');
                group = parts.next();
                interface = parts.next_back().filter(|name| !is_address_or_index(name)).or(interface);
            }
            "ip-add-source-membership" | "source-membership" => {
                let mut parts = value.split(':');
                group = parts.next();
                sources.extend(parts.next_back().map(str::to_owned));
            }
            "so-bindtodevice" | "bindtodevice" | "interface" | "if" => interface = Some(*value),
            "bind" => {
                let (host, bound) = value.split_once(':').unwrap_or((value, ""));
                address = Some(host).filter(|host| !host.is_empty() && *host != "0.0.0.0").or(address);
                port = Some(bound).filter(|bound| !bound.is_empty()).or(port);
            }
            "localport" | "sourceport" | "sp" => port = Some(*value),
            "range" => sources.push(range(value)?),
            "reuseaddr" | "reuseport" | "so-reuseaddr" | "so-reuseport" | "fork" | "ip-multicast-loop" | "pf" => {}
            other => draft.comment(format!("{other} of the receiving side has no equivalent.")),
        }
    }
    let bound_group = address.filter(|address: &&str| address.parse().is_ok_and(|a: Ipv4Addr| a.is_multicast()));
    let group = group.or(bound_group);
    if group.is_none() && address.is_none() {
        return Err(
            "the line joins no group and binds to no address: to which address are the packets sent?".to_owned()
        );
    }
    if from.kind == "UDP-LISTEN" {
        draft
            .comment("UDP-LISTEN takes the first sender only; the relay takes every one, unless `sources` says which.");
    }
    Ok(InputSpec {
        interface: chosen(interfaces.input.or(interface), "--input")?,
        group: group.map(str::to_owned),
        address: address.filter(|_| group.is_none()).map(str::to_owned),
        port: number("the port", port.unwrap_or_default())?.into(),
        sources,
        ..InputSpec::default()
    })
}

fn output(to: &Address<'_>, interfaces: Interfaces<'_>, draft: &mut Draft) -> Result<OutputSpec, String> {
    if !matches!(to.kind.as_str(), "UDP-DATAGRAM" | "UDP-SENDTO" | "UDP-CONNECT" | "UDP") {
        return Err(format!("{} sends no UDP datagrams; name UDP4-DATAGRAM or such", to.kind));
    }
    let [host, port] = to.parameters[..] else {
        return Err(format!("{} has no HOST:PORT", to.text));
    };
    let target: Ipv4Addr = host.parse().map_err(|_| format!("{host} is no IPv4 address; write it as one"))?;
    let mut spec = OutputSpec { port: number("the port", port)?.into(), ..OutputSpec::default() };
    let mut interface = None;
    for (key, value) in &to.options {
        match key.as_str() {
            "ip-multicast-ttl" | "multicast-ttl" if target.is_multicast() => {
                spec.ttl = Some(TtlSpec::Number(number(key, value)?))
            }
            "ttl" | "ip-ttl" if !target.is_multicast() => spec.ttl = Some(TtlSpec::Number(number(key, value)?)),
            "tos" | "ip-tos" => spec.dscp = Some(DscpSpec::Number(number(key, value)? >> 2)),
            "ip-multicast-if" | "multicast-if" if value.parse::<Ipv4Addr>().is_ok() => {
                spec.source.get_or_insert((*value).to_owned());
            }
            "ip-multicast-if" | "multicast-if" => interface = Some(*value),
            "so-bindtodevice" | "bindtodevice" | "interface" | "if" => interface = Some(*value),
            "bind" => {
                let (host, port) = value.split_once(':').unwrap_or((value, ""));
                spec.source = Some(host.to_owned()).filter(|host| !host.is_empty()).or(spec.source);
                let port = Some(port).filter(|port| !port.is_empty()).map(|port| number("bind", port)).transpose()?;
                spec.source_port = port.map(SourcePortSpec::Number);
            }
            "sourceport" | "sp" | "localport" => spec.source_port = Some(SourcePortSpec::Number(number(key, value)?)),
            "reuseaddr" | "reuseport" | "so-reuseaddr" | "so-reuseport" | "ip-multicast-loop" | "pf" => {}
            other => draft.comment(format!("{other} of the sending side has no equivalent.")),
        }
    }
    if spec.ttl.is_none() && target.is_multicast() {
        draft.comment("socat sends multicast with TTL 1 unless told otherwise; a relay sends with 16.");
    }
    spec.interface = chosen(interfaces.output.or(interface), "--output")?;
    let text = Some(target.to_string());
    (spec.group, spec.address) = if target.is_multicast() { (text, None) } else { (None, text) };
    Ok(spec)
}

fn chosen(interface: Option<&str>, flag: &str) -> Result<String, String> {
    let side = flag.trim_start_matches('-');
    interface.map(str::to_owned).ok_or_else(|| {
        format!(
            "the line does not name the {side} interface; add {flag} NAME (see `ip address` for which has an address)"
        )
    })
}

fn number(what: &str, text: &str) -> Result<i64, String> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16));
    i64::from_str_radix(digits, radix).map_err(|_| format!("{what} {text:?} is not a number; write it as one"))
}

/// `range=ADDRESS/LENGTH` or `range=ADDRESS:MASK`: the only sources that are let in.
fn range(text: &str) -> Result<String, String> {
    let Some((address, mask)) = text.split_once(':') else { return sources(text) };
    let mask: u32 = mask.parse::<Ipv4Addr>().map_err(|_| format!("{mask} is no mask"))?.into();
    match mask.leading_ones() + mask.trailing_zeros() {
        32.. => sources(&format!("{address}/{}", mask.leading_ones())),
        _ => Err(format!("range={text} is no prefix, and a relay lists addresses and prefixes")),
    }
}

fn is_address_or_index(text: &str) -> bool {
    text.parse::<Ipv4Addr>().is_ok() || text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The words of a shell's line; quotes hold one together.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, c) if c.is_whitespace() => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            (_, c) => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}
