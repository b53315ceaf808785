//! What a rule set of nftables does with a packet, as far as its JSON tells (`man 5 libnftables-json`).
//!
//! Three answers, because not everything is known of a packet or of a rule: an expression that is not understood may match or
//! not. `Perhaps` never turns into a fault by itself.

use std::net::Ipv4Addr;

use serde_json::Value;

use crate::facts::{Chain, Firewall, Rule};

/// What is known of the packet.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) interface: String,
    pub(super) source: Option<Ipv4Addr>,
    pub(super) destination: Ipv4Addr,
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

/// How a chain ends for a packet.
enum End {
    Accepted,
    Dropped(Fate),
    /// Back to where it was called from, or to the policy.
    Returned,
}

/// A chain can not call itself, so that calls end by themselves; a rule set that is read wrongly must end, too.
const DEEPEST_CALL: usize = 16;

/// What becomes of a packet in a base chain.
pub(super) fn fate(firewall: &Firewall, chain: &Chain, packet: &Packet) -> Fate {
    let walk = Walk { firewall, packet };
    let mut perhaps = None;
    match walk.chain(chain, DEEPEST_CALL, &mut perhaps) {
        End::Dropped(fate) => perhaps.unwrap_or(fate),
        End::Accepted => perhaps.unwrap_or(Fate::Passes),
        End::Returned => {
            let drops = chain.hook.as_ref().is_some_and(|hook| hook.drops_by_default);
            let rule = format!("the policy of {}", place(chain));
            perhaps.unwrap_or(if drops { Fate::Dropped { rule, handle: None } } else { Fate::Passes })
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
    /// The first drop that may or may not happen is kept in `perhaps`: what comes after it is no more certain.
    fn chain(&self, chain: &Chain, depth: usize, perhaps: &mut Option<Fate>) -> End {
        for rule in &chain.rules {
            let (is_met, verdict) = self.rule(chain, rule);
            if is_met == Truth::No {
                continue;
            }
            let handle = Some((place(chain), rule.handle));
            let text = format!("rule {} of {}: {}", rule.handle, place(chain), shown(rule));
            let certain = is_met == Truth::Yes && perhaps.is_none();
            match verdict {
                Some(Verdict::Drop) if certain => return End::Dropped(Fate::Dropped { rule: text, handle }),
                Some(Verdict::Drop) => {
                    perhaps.get_or_insert(Fate::PerhapsDropped { rule: text, handle });
                }
                Some(Verdict::Accept) if certain => return End::Accepted,
                Some(Verdict::Return) if certain => return End::Returned,
                Some(Verdict::Call(name, goes_back)) if depth > 0 => {
                    let Some(called) = self.called(chain, &name) else { continue };
                    let end = self.chain(called, depth - 1, perhaps);
                    match end {
                        End::Returned if goes_back => {}
                        End::Dropped(Fate::Dropped { rule, handle }) if !certain => {
                            perhaps.get_or_insert(Fate::PerhapsDropped { rule, handle });
                        }
                        end if certain => return end,
                        _ => {}
                    }
                }
                _ => {}
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
                ("ip", "saddr") => self.packet.source.map(Known::Address),
                ("ip", "daddr") => Some(Known::Address(self.packet.destination)),
                ("ip", "protocol") => Some(Known::Word("udp", 17)),
                ("ip", "ttl") => self.packet.ttl.map(|ttl| Known::Number(ttl.into())),
                ("ip", "length") => self.packet.bytes.map(|bytes| Known::Number(bytes.into())),
                ("ip", "version") => Some(Known::Number(4)),
                ("udp" | "th", "dport") => Some(Known::Number(self.packet.port.into())),
                _ => None,
            };
        }
        let key = left.get("meta").and_then(|meta| meta.get("key").unwrap_or(meta).as_str())?;
        match key {
            "iifname" | "iif" => Some(Known::Name(self.packet.interface.clone())),
            "l4proto" => Some(Known::Word("udp", 17)),
            "nfproto" => Some(Known::Word("ipv4", 2)),
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
    Address(Ipv4Addr),
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

    fn order(&self) -> Option<u64> {
        match self {
            Self::Address(address) => Some(u32::from(*address).into()),
            Self::Number(number) | Self::Word(_, number) => Some(*number),
            Self::Name(_) => None,
        }
    }
}

fn is_address(address: Ipv4Addr, other: &Value) -> Truth {
    if let Some(prefix) = other.get("prefix") {
        let network: Option<Ipv4Addr> = prefix.get("addr").and_then(Value::as_str).and_then(|text| text.parse().ok());
        let length = prefix.get("len").and_then(Value::as_u64).and_then(|length| u32::try_from(length).ok());
        let (Some(network), Some(length @ 0..=32)) = (network, length) else { return Truth::Perhaps };
        let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        return Truth::of(u32::from(address) & mask == u32::from(network) & mask);
    }
    let other = other.as_str().and_then(|text| text.parse::<Ipv4Addr>().ok());
    other.map_or(Truth::Perhaps, |other| Truth::of(other == address))
}

/// A name may end in `*`.
fn is_name(name: &str, other: &str) -> Truth {
    Truth::of(other.strip_suffix('*').map_or(other == name, |start| name.starts_with(start)))
}

fn compared(value: &Known, order: &str, other: &Value) -> Truth {
    let number = other.as_u64().or_else(|| {
        other.as_str().and_then(|text| text.parse::<Ipv4Addr>().ok()).map(|address| u32::from(address).into())
    });
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
