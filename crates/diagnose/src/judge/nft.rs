//! What a rule set of nftables does with a packet, as far as its JSON tells (`man 5 libnftables-json`).
//!
//! Three answers, because not everything is known of a packet or of a rule: an expression that is not understood may match or
//! not. `Perhaps` never turns into a fault by itself.

use std::net::IpAddr;

use serde_json::Value;

use super::{is_in_network, number};
use crate::facts::{Chain, Firewall, Rule};

/// What is known of the packet.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) interface: String,
    pub(super) source: Option<IpAddr>,
    pub(super) destination: IpAddr,
    pub(super) port: u16,
    pub(super) ttl: Option<u8>,
    pub(super) bytes: Option<u32>,
}

/// What becomes of it in a base chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on.
    Passes,
    /// It ends here.
    Dropped {
        /// The rule, for a person.
        rule: String,
        /// Family, table and chain, and the handle; `None`: the policy.
        handle: Option<(String, u64)>,
    },
    /// It may end here.
    PerhapsDropped {
        /// The rule, for a person.
        rule: String,
        /// Family, table and chain, and the handle; `None`: the policy.
        handle: Option<(String, u64)>,
    },
}

/// Whether something is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truth {
    Yes,
    No,
    Perhaps,
}

impl Truth {
    fn of(is: bool) -> Self {
        if is { Self::Yes } else { Self::No }
    }

    fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Perhaps => Self::Perhaps,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Perhaps,
        }
    }

    fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }
}

/// Headers that a UDP packet does not have.
const OTHER_PROTOCOLS: [&str; 8] = ["tcp", "icmp", "icmpv6", "igmp", "sctp", "dccp", "esp", "ah"];

/// How a chain ends for a packet.
enum End {
    /// It leaves the base chain: accepted, or dropped by a rule that was noted.
    Left,
    /// It is dropped for certain.
    Dropped(Fate),
    /// Back to where it was called from, or to the policy.
    Returned,
}

/// What is not certain so far.
#[derive(Default)]
struct Doubt {
    /// The first rule that may have dropped it.
    drop: Option<Fate>,
    /// A rule may have let it go already: no later drop is certain.
    is_gone: bool,
}

/// A chain can not call itself, so that calls end by themselves; a rule set that is read wrongly must end, too.
const DEEPEST_CALL: usize = 16;

/// What becomes of a packet in a base chain.
pub(super) fn fate(firewall: &Firewall, chain: &Chain, packet: &Packet) -> Fate {
    let mut doubt = Doubt::default();
    match (Walk { firewall, packet }).chain(chain, DEEPEST_CALL, &mut doubt) {
        End::Dropped(fate) => fate,
        End::Left => doubt.drop.unwrap_or(Fate::Passes),
        End::Returned if !chain.hook.as_ref().is_some_and(|hook| hook.drops_by_default) => {
            doubt.drop.unwrap_or(Fate::Passes)
        }
        End::Returned => {
            let (rule, handle) = (format!("the policy of {}", place(chain)), None);
            match doubt {
                Doubt { is_gone: false, .. } => Fate::Dropped { rule, handle },
                Doubt { drop, .. } => drop.unwrap_or(Fate::PerhapsDropped { rule, handle }),
            }
        }
    }
}

fn place(chain: &Chain) -> String {
    format!("{} {} {}", chain.family, chain.table, chain.name)
}

struct Walk<'a> {
    firewall: &'a Firewall,
    packet: &'a Packet,
}

impl Walk<'_> {
    fn chain(&self, chain: &Chain, depth: usize, doubt: &mut Doubt) -> End {
        for rule in &chain.rules {
            let (is_met, verdict) = self.rule(chain, rule);
            let (Truth::Yes | Truth::Perhaps, Some(verdict)) = (is_met, verdict) else { continue };
            match verdict {
                Verdict::Drop => {
                    let handle = Some((place(chain), rule.handle));
                    let rule = format!("rule {} of {}: {}", rule.handle, place(chain), shown(rule));
                    if is_met == Truth::Yes && !doubt.is_gone {
                        return End::Dropped(Fate::Dropped { rule, handle });
                    }
                    doubt.drop.get_or_insert(Fate::PerhapsDropped { rule, handle });
                    if is_met == Truth::Yes {
                        return End::Left;
                    }
                }
                Verdict::Accept if is_met == Truth::Yes => return End::Left,
                Verdict::Return if is_met == Truth::Yes => return End::Returned,
                Verdict::Accept | Verdict::Return => doubt.is_gone = true,
                Verdict::Call(name, goes_back) => {
                    let Some(called) = self.called(chain, &name).filter(|_| depth > 0) else { continue };
                    doubt.is_gone |= is_met == Truth::Perhaps;
                    match self.chain(called, depth - 1, doubt) {
                        End::Returned if goes_back => {}
                        // It may not have been called at all.
                        _ if is_met == Truth::Perhaps => {}
                        end => return end,
                    }
                }
            }
        }
        End::Returned
    }

    fn called(&self, from: &Chain, name: &str) -> Option<&Chain> {
        let is_it = |chain: &&Chain| chain.family == from.family && chain.table == from.table && chain.name == name;
        self.firewall.chains.iter().find(is_it)
    }

    /// Whether all matches of a rule are met, and what it says then.
    fn rule(&self, chain: &Chain, rule: &Rule) -> (Truth, Option<Verdict>) {
        let mut is_met = Truth::Yes;
        for expression in &rule.expressions {
            if let Some(verdict) = Verdict::of(expression) {
                return (is_met, Some(verdict));
            }
            is_met = is_met.and(self.expression(chain, expression));
        }
        (is_met, None)
    }

    fn expression(&self, chain: &Chain, expression: &Value) -> Truth {
        let Some((kind, value)) = expression.as_object().and_then(|object| object.iter().next()) else {
            return Truth::Perhaps;
        };
        match kind.as_str() {
            "match" => self.is_match(chain, value),
            // These do not decide anything.
            "counter" | "log" | "mangle" | "meter" | "notrack" | "comment" => Truth::Yes,
            _ => Truth::Perhaps,
        }
    }

    fn is_match(&self, chain: &Chain, of: &Value) -> Truth {
        let (Some(left), Some(right)) = (of.get("left"), of.get("right")) else { return Truth::Perhaps };
        let protocol = left.get("payload").and_then(|payload| payload.get("protocol")).and_then(Value::as_str);
        // A match on a header that the packet does not have is not met (nft adds that condition itself).
        let other_family = if self.packet.destination.is_ipv6() { "ip" } else { "ip6" };
        if protocol.is_some_and(|name| name == other_family || OTHER_PROTOCOLS.contains(&name)) {
            return Truth::No;
        }
        let Some(value) = self.value(left) else { return Truth::Perhaps };
        match of.get("op").and_then(Value::as_str) {
            Some("==" | "in") | None => self.is_in(chain, &value, right),
            Some("!=") => self.is_in(chain, &value, right).not(),
            Some(order @ ("<" | ">" | "<=" | ">=")) => compared(&value, order, right),
            _ => Truth::Perhaps,
        }
    }

    /// What the packet has where a rule looks.
    fn value(&self, left: &Value) -> Option<Known> {
        if let Some(payload) = left.get("payload") {
            let part = |key: &str| payload.get(key).and_then(Value::as_str);
            return match (part("protocol")?, part("field")?) {
                ("ip" | "ip6", "saddr") => self.packet.source.map(Known::Address),
                ("ip" | "ip6", "daddr") => Some(Known::Address(self.packet.destination)),
                ("ip", "protocol") | ("ip6", "nexthdr") => Some(Known::Word("udp", 17)),
                ("ip", "ttl") | ("ip6", "hoplimit") => self.packet.ttl.map(|ttl| Known::Number(ttl.into())),
                ("ip", "length") => self.packet.bytes.map(|bytes| Known::Number(bytes.into())),
                ("ip6", "length") => self.packet.bytes.map(|bytes| Known::Number(u64::from(bytes).saturating_sub(40))),
                ("ip", "version") => Some(Known::Number(4)),
                ("ip6", "version") => Some(Known::Number(6)),
                ("udp" | "th", "dport") => Some(Known::Number(self.packet.port.into())),
                _ => None,
            };
        }
        let key = left.get("meta").and_then(|meta| meta.get("key").unwrap_or(meta).as_str())?;
        match key {
            "iifname" | "iif" => Some(Known::Name(self.packet.interface.clone())),
            "l4proto" => Some(Known::Word("udp", 17)),
            "nfproto" if self.packet.destination.is_ipv6() => Some(Known::Word("ipv6", 10)),
            "nfproto" => Some(Known::Word("ipv4", 2)),
            "protocol" if self.packet.destination.is_ipv6() => Some(Known::Word("ip6", 0x86dd)),
            "protocol" => Some(Known::Word("ip", 0x0800)),
            "pkttype" if self.packet.destination.is_multicast() => Some(Known::Word("multicast", 2)),
            "length" => self.packet.bytes.map(|bytes| Known::Number(bytes.into())),
            _ => None,
        }
    }

    fn is_in(&self, chain: &Chain, value: &Known, right: &Value) -> Truth {
        if let Some(name) = right.as_str().and_then(|text| text.strip_prefix('@')) {
            let key = (chain.family.clone(), chain.table.clone(), name.to_owned());
            return self.firewall.sets.get(&key).map_or(Truth::Perhaps, |elements| self.is_in(chain, value, elements));
        }
        let several = right.as_array().or_else(|| right.get("set").and_then(Value::as_array));
        match several {
            Some(elements) => {
                elements.iter().fold(Truth::No, |truth, element| truth.or(self.is_in(chain, value, element)))
            }
            None => value.is(right.get("elem").and_then(|elem| elem.get("val")).unwrap_or(right)),
        }
    }
}

/// What a rule says.
enum Verdict {
    Accept,
    Drop,
    Return,
    /// Another chain, and whether the packet comes back from it.
    Call(String, bool),
}

impl Verdict {
    fn of(expression: &Value) -> Option<Self> {
        let (kind, value) = expression.as_object()?.iter().next()?;
        let target = || value.get("target").and_then(Value::as_str).map(str::to_owned);
        match kind.as_str() {
            "accept" => Some(Self::Accept),
            "drop" | "reject" => Some(Self::Drop),
            "return" => Some(Self::Return),
            "jump" => Some(Self::Call(target()?, true)),
            "goto" => Some(Self::Call(target()?, false)),
            _ => None,
        }
    }
}

/// A value of the packet.
enum Known {
    Address(IpAddr),
    Number(u64),
    Name(String),
    /// A number that nftables has a word for.
    Word(&'static str, u64),
}

impl Known {
    /// Whether it is this value, in this range or under this prefix.
    fn is(&self, other: &Value) -> Truth {
        if let Some([low, high]) = other.get("range").and_then(Value::as_array).map(Vec::as_slice) {
            return compared(self, ">=", low).and(compared(self, "<=", high));
        }
        match self {
            Self::Address(address) => is_address(*address, other),
            Self::Number(number) => other.as_u64().map_or(Truth::Perhaps, |other| Truth::of(*number == other)),
            Self::Name(name) => other.as_str().map_or(Truth::Perhaps, |other| is_name(name, other)),
            Self::Word(word, number) => match other {
                Value::String(other) => Truth::of(other == word),
                other => other.as_u64().map_or(Truth::Perhaps, |other| Truth::of(*number == other)),
            },
        }
    }

    fn order(&self) -> Option<u128> {
        match self {
            Self::Address(address) => Some(number(*address)),
            Self::Number(number) | Self::Word(_, number) => Some((*number).into()),
            Self::Name(_) => None,
        }
    }
}

fn is_address(address: IpAddr, other: &Value) -> Truth {
    if let Some(prefix) = other.get("prefix") {
        let network: Option<IpAddr> = prefix.get("addr").and_then(Value::as_str).and_then(|text| text.parse().ok());
        let length = prefix.get("len").and_then(Value::as_u64).and_then(|length| u8::try_from(length).ok());
        let (Some(network), Some(length @ 0..=128)) = (network, length) else { return Truth::Perhaps };
        return Truth::of(is_in_network(address, network, length));
    }
    let other = other.as_str().and_then(|text| text.parse::<IpAddr>().ok());
    other.map_or(Truth::Perhaps, |other| Truth::of(other == address))
}

/// A name may end in `*`.
fn is_name(name: &str, other: &str) -> Truth {
    Truth::of(other.strip_suffix('*').map_or(other == name, |start| name.starts_with(start)))
}

fn compared(value: &Known, order: &str, other: &Value) -> Truth {
    let number = other
        .as_u64()
        .map(u128::from)
        .or_else(|| other.as_str().and_then(|text| text.parse::<IpAddr>().ok()).map(number));
    let (Some(value), Some(other)) = (value.order(), number) else { return Truth::Perhaps };
    Truth::of(match order {
        "<" => value < other,
        "<=" => value <= other,
        ">" => value > other,
        _ => value >= other,
    })
}

/// A rule in the few words that matter.
fn shown(rule: &Rule) -> String {
    let words: Vec<String> = rule.expressions.iter().filter_map(expression_shown).collect();
    let text = words.join(" ");
    if text.chars().count() > 160 { format!("{}…", text.chars().take(160).collect::<String>()) } else { text }
}

fn expression_shown(expression: &Value) -> Option<String> {
    let (kind, value) = expression.as_object()?.iter().next()?;
    match kind.as_str() {
        "match" => {
            let left = value.get("left")?;
            let name = match (left.get("payload"), left.get("meta")) {
                (Some(payload), _) => format!("{} {}", bare(payload.get("protocol")), bare(payload.get("field"))),
                (None, Some(meta)) => bare(meta.get("key")),
                _ => left.to_string(),
            };
            let order = match bare(value.get("op")).as_str() {
                "==" | "in" => String::new(),
                other => format!("{other} "),
            };
            Some(format!("{name} {order}{}", bare(value.get("right"))))
        }
        "counter" => {
            let packets = value.get("packets").and_then(Value::as_u64);
            Some(packets.map_or("counter".to_owned(), |packets| format!("counter packets {packets}")))
        }
        "jump" | "goto" => Some(format!("{kind} {}", bare(value.get("target")))),
        other => Some(other.to_owned()),
    }
}

fn bare(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(object)) if object.contains_key("prefix") => {
            let prefix = &object["prefix"];
            format!("{}/{}", bare(prefix.get("addr")), bare(prefix.get("len")))
        }
        Some(Value::Object(object)) if object.contains_key("set") => {
            let elements = object["set"].as_array().map(Vec::as_slice).unwrap_or_default();
            format!("{{ {} }}", elements.iter().map(|element| bare(Some(element))).collect::<Vec<_>>().join(", "))
        }
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::facts::Hook;

    fn packet() -> Packet {
        Packet {
            interface: "eth0".into(),
            source: Some(IpAddr::from([192, 168, 168, 55])),
            destination: IpAddr::from([239, 1, 1, 1]),
            port: 5001,
            ttl: Some(1),
            bytes: Some(1344),
        }
    }

    fn is(protocol: &str, field: &str, op: &str, right: Value) -> Value {
        json!({"match": {"op": op, "left": {"payload": {"protocol": protocol, "field": field}}, "right": right}})
    }

    fn meta(key: &str, right: Value) -> Value {
        json!({"match": {"op": "==", "left": {"meta": {"key": key}}, "right": right}})
    }

    /// The expressions of each rule, in a base chain that lets everything pass otherwise.
    fn firewall(rules: &[Vec<Value>]) -> Firewall {
        let hook = Hook { name: "input".into(), priority: 0, devices: Vec::new(), drops_by_default: false };
        let chain = |name: &str, hook, rules: &[Vec<Value>]| Chain {
            family: "inet".into(),
            table: "t".into(),
            name: name.into(),
            hook,
            rules: (1..).zip(rules).map(|(handle, e)| Rule { handle, expressions: e.clone() }).collect(),
        };
        let drop = vec![vec![json!({"drop": null})]];
        let back = vec![vec![json!({"return": null})], vec![json!({"drop": null})]];
        let key = |name: &str| ("inet".to_owned(), "t".to_owned(), name.to_owned());
        Firewall {
            chains: vec![chain("c", Some(hook), rules), chain("dropping", None, &drop), chain("going", None, &back)],
            sets: BTreeMap::from([(key("groups"), json!(["239.1.1.1", {"prefix": {"addr": "239.8.0.0", "len": 16}}]))]),
            legacy_tables: Vec::new(),
        }
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Is {
        Passed,
        Dropped,
        Perhaps,
    }

    fn end(rules: &[Vec<Value>]) -> Is {
        let firewall = firewall(rules);
        match fate(&firewall, &firewall.chains[0], &packet()) {
            Fate::Passes => Is::Passed,
            Fate::Dropped { .. } => Is::Dropped,
            Fate::PerhapsDropped { .. } => Is::Perhaps,
        }
    }

    #[test]
    fn one_rule_and_what_becomes_of_the_packet() {
        let (drop, accept) = (json!({"drop": null}), json!({"accept": null}));
        let unknown = || json!({"match": {"op": "==", "left": {"ct": {"key": "state"}}, "right": "invalid"}});
        let table = [
            (vec![drop.clone()], Is::Dropped),
            (vec![json!({"reject": null})], Is::Dropped),
            (vec![json!({"counter": {"packets": 0, "bytes": 0}}), drop.clone()], Is::Dropped),
            (vec![accept], Is::Passed),
            (vec![is("ip", "daddr", "==", json!("239.1.1.1")), drop.clone()], Is::Dropped),
            (vec![is("ip", "daddr", "==", json!("239.1.1.2")), drop.clone()], Is::Passed),
            (vec![is("ip", "daddr", "!=", json!("239.1.1.2")), drop.clone()], Is::Dropped),
            (vec![is("ip", "daddr", "==", json!("@groups")), drop.clone()], Is::Dropped),
            (vec![is("ip", "daddr", "==", json!("@missing")), drop.clone()], Is::Perhaps),
            (
                vec![is("ip", "saddr", "==", json!({"prefix": {"addr": "192.168.0.0", "len": 16}})), drop.clone()],
                Is::Dropped,
            ),
            (
                vec![is("ip", "saddr", "==", json!({"prefix": {"addr": "10.0.0.0", "len": 8}})), drop.clone()],
                Is::Passed,
            ),
            (vec![is("udp", "dport", "==", json!({"set": [80, {"range": [5000, 5010]}]})), drop.clone()], Is::Dropped),
            (vec![is("udp", "dport", "==", json!({"range": [5002, 5010]})), drop.clone()], Is::Passed),
            (vec![is("udp", "sport", "==", json!(7)), drop.clone()], Is::Perhaps),
            (vec![is("ip", "ttl", "<", json!(2)), drop.clone()], Is::Dropped),
            (vec![is("tcp", "dport", "==", json!(5001)), drop.clone()], Is::Passed),
            (vec![meta("iifname", json!("eth*")), drop.clone()], Is::Dropped),
            (vec![meta("iifname", json!("eth1")), drop.clone()], Is::Passed),
            (vec![meta("l4proto", json!("tcp")), drop.clone()], Is::Passed),
            (vec![meta("pkttype", json!("multicast")), drop.clone()], Is::Dropped),
            (vec![meta("mark", json!(1)), drop.clone()], Is::Perhaps),
            (vec![unknown(), drop.clone()], Is::Perhaps),
            (vec![meta("iifname", json!("eth1")), unknown(), drop.clone()], Is::Passed),
            (vec![json!({"xt": null}), drop], Is::Perhaps),
            (vec![json!({"jump": {"target": "dropping"}})], Is::Dropped),
            (vec![json!({"goto": {"target": "going"}})], Is::Passed),
            (vec![unknown(), json!({"jump": {"target": "dropping"}})], Is::Perhaps),
            (vec![json!({"jump": {"target": "nowhere"}})], Is::Passed),
        ];
        for (rule, expected) in table {
            assert_eq!(end(std::slice::from_ref(&rule)), expected, "{rule:?}");
        }
    }

    #[test]
    fn rules_are_met_in_order() {
        let (drop, accept) = (vec![json!({"drop": null})], vec![json!({"accept": null})]);
        let perhaps = vec![meta("mark", json!(1)), json!({"accept": null})];
        assert_eq!(end(&[accept.clone(), drop.clone()]), Is::Passed);
        assert_eq!(end(&[vec![json!({"jump": {"target": "going"}})], drop.clone()]), Is::Dropped);
        assert_eq!(end(&[perhaps, drop.clone()]), Is::Perhaps, "it may have been let go before");
        let may_drop = vec![meta("mark", json!(1)), json!({"drop": null})];
        assert_eq!(end(&[may_drop.clone(), drop]), Is::Dropped, "whichever it is that drops it");
        assert_eq!(end(&[may_drop, accept]), Is::Perhaps);
    }

    #[test]
    fn a_chain_that_calls_itself_ends() {
        let mut firewall = firewall(&[vec![json!({"jump": {"target": "c"}})]]);
        firewall.chains[0].hook.as_mut().expect("a base chain").drops_by_default = true;
        assert!(matches!(fate(&firewall, &firewall.chains[0], &packet()), Fate::Dropped { handle: None, .. }));
    }
}
