//! The shape of a configuration: which keys there are and of which type their values are.
//!
//! The keys that a table may have are those that are asked for here, in the order of the fields of
//! [`mcr_model::spec`]; a field that is added there breaks this build until it is read. `serde` could read the same
//! types, but stops at the first mistake.

use std::collections::BTreeMap;
use std::ops::Range;

use mcr_model::endpoint::closest;
use mcr_model::header::{DscpSpec, SourcePortSpec, TtlSpec};
use mcr_model::querier::QuerierSpec;
use mcr_model::span::PortSpec;
use mcr_model::spec::{ConfigSpec, InputSpec, OutputSpec, RelaySpec};
use mcr_model::watch::ExpectSpec;
use mcr_model::{BreakerSpec, FieldError};
use toml::Spanned;
use toml::de::{DeInteger, DeString, DeTable, DeValue};

use super::finding::Findings;
use super::template;

/// Stands for a text or a number that could not be read, so that the other fields are still checked. It is valid
/// everywhere, and what is said of a field that was found wrong already is not told again.
const PLACEHOLDER: &str = "x";
const PLACEHOLDER_PORT: i64 = 9;

/// A configuration as far as its shape is right.
pub(super) struct Shaped {
    /// With placeholders where the shape is wrong.
    pub(super) config: ConfigSpec,
    /// For each relay of `config` the place in the text of the one that it came from: a template stands for several.
    pub(super) written: Vec<usize>,
    /// Whether no relay was left out.
    pub(super) is_whole: bool,
}

pub(super) fn config(document: &DeTable<'_>, findings: &mut Findings) -> Shaped {
    let mut keys = Keys::new(document, 0..0, String::new(), findings);
    let datapath = keys.text("datapath");
    let relays = keys.list("relay", relays);
    keys.finish();
    let is_whole = relays.iter().all(|relays| !relays.is_empty()) && relays.len() == count(document);
    let written = relays.iter().enumerate().flat_map(|(place, relays)| relays.iter().map(move |_| place)).collect();
    Shaped { config: ConfigSpec { datapath, relay: relays.into_iter().flatten().collect() }, written, is_whole }
}

fn count(document: &DeTable<'_>) -> usize {
    document.get("relay").and_then(|relays| relays.get_ref().as_array()).map_or(0, |relays| relays.len())
}

/// The relays that one table stands for: one, unless it is a template.
fn relays(value: &Spanned<DeValue<'_>>, path: String, findings: &mut Findings) -> Option<Vec<RelaySpec>> {
    if !template::is_template(value) {
        return relay(value, path, findings).map(|relay| vec![relay]);
    }
    let copies = template::expand(value, &path, findings);
    findings.numbers_may_be_text(true);
    // What is wrong in one is wrong in all: it is told once.
    let sound = |findings: &Findings, relay: &RelaySpec| (!findings.concern(&path)).then(|| relay.clone());
    let mut relays = Vec::with_capacity(copies.len());
    for copy in &copies {
        let Some(spec) = relay(copy, path.clone(), findings).and_then(|relay| sound(findings, &relay)) else { break };
        relays.push(spec);
    }
    findings.numbers_may_be_text(false);
    Some(relays)
}

fn relay(value: &Spanned<DeValue<'_>>, path: String, findings: &mut Findings) -> Option<RelaySpec> {
    let mut keys = Keys::of_value(value, path, "a relay is written as [[relay]] or { name = \"…\", … }", findings)?;
    let spec = RelaySpec {
        name: keys.required("name", Keys::text).unwrap_or_else(placeholder),
        input: keys.required("input", input).unwrap_or_default(),
        output: keys.outputs(),
        datapath: keys.text("datapath"),
        link_local: keys.flag("link_local").unwrap_or_default(),
        broadcast: keys.flag("broadcast").unwrap_or_default(),
        on_demand: keys.flag("on_demand").unwrap_or_default(),
        join: keys.text("join"),
        allow_ptp: keys.flag("allow_ptp").unwrap_or_default(),
        silent_after: keys.text("silent_after"),
        expect: expect(&mut keys, "expect"),
        breaker: breaker(&mut keys, "breaker"),
        querier: querier(&mut keys, "querier"),
        max_packets_per_second: keys.number("max_packets_per_second"),
        max_bits_per_second: keys.number("max_bits_per_second"),
    };
    keys.refuse("lease", LEASE_OF_A_FILE, "remove the key, or make the relay by `mcr add --lease` or the API");
    keys.finish();
    Some(spec)
}

fn input(keys: &mut Keys<'_, '_>, key: &'static str) -> Option<InputSpec> {
    let mut keys = keys.table(key, "write { interface = \"eth0\", group = \"239.1.1.1\", port = 5001 }")?;
    let spec = InputSpec {
        interface: keys.required("interface", Keys::text).unwrap_or_else(placeholder),
        group: keys.text("group"),
        address: keys.text("address"),
        port: keys.required("port", Keys::port).unwrap_or(PortSpec::Number(PLACEHOLDER_PORT)),
        sources: keys.list("sources", text),
        exclude_sources: keys.list("exclude_sources", text),
        vlan: keys.number("vlan"),
        outer_vlan: keys.number("outer_vlan"),
    };
    keys.finish();
    Some(spec)
}

const LEASE_OF_A_FILE: &str = "a relay of a file lives as long as it stands there and can have no lease";

fn expect(keys: &mut Keys<'_, '_>, key: &'static str) -> Option<ExpectSpec> {
    let mut keys = keys.table(key, "write { min_bits_per_second = 5000000 }")?;
    let spec = ExpectSpec {
        min_bits_per_second: keys.number("min_bits_per_second"),
        max_bits_per_second: keys.number("max_bits_per_second"),
    };
    keys.finish();
    Some(spec)
}

fn querier(keys: &mut Keys<'_, '_>, key: &'static str) -> Option<QuerierSpec> {
    let mut keys = keys.table(key, "write { own = true } or { timeout = \"260s\" }")?;
    let spec = QuerierSpec { timeout: keys.text("timeout"), own: keys.flag("own") };
    keys.finish();
    Some(spec)
}

fn breaker(keys: &mut Keys<'_, '_>, key: &'static str) -> Option<BreakerSpec> {
    let mut keys = keys.table(key, "write { max_packets_per_second = 50000, recover_after = \"10s\" }")?;
    let spec = BreakerSpec {
        max_packets_per_second: keys.required("max_packets_per_second", Keys::number).unwrap_or(PLACEHOLDER_PORT),
        recover_after: keys.text("recover_after"),
    };
    keys.finish();
    Some(spec)
}

fn output(value: &Spanned<DeValue<'_>>, path: String, findings: &mut Findings) -> Option<OutputSpec> {
    let mut keys = Keys::of_value(value, path, OUTPUT_WANTED, findings)?;
    let spec = OutputSpec {
        interface: keys.required("interface", Keys::text).unwrap_or_else(placeholder),
        group: keys.text("group"),
        address: keys.text("address"),
        port: keys.required("port", Keys::port).unwrap_or(PortSpec::Number(PLACEHOLDER_PORT)),
        source: keys.text("source"),
        own_source: keys.flag("own_source").unwrap_or_default(),
        source_port: keys.source_port(),
        ttl: keys.ttl(),
        dscp: keys.dscp(),
        vlan: keys.number("vlan"),
        outer_vlan: keys.number("outer_vlan"),
        priority: keys.number("priority"),
        fragment: keys.flag("fragment").unwrap_or_default(),
        max_packets_per_second: keys.number("max_packets_per_second"),
        max_bits_per_second: keys.number("max_bits_per_second"),
    };
    keys.finish();
    Some(spec)
}

const OUTPUT_WANTED: &str = "write { interface = \"eth1\", group = \"239.2.2.2\", port = 6001 }";

fn placeholder() -> String {
    PLACEHOLDER.to_owned()
}

fn text(value: &Spanned<DeValue<'_>>, path: String, findings: &mut Findings) -> Option<String> {
    let text = value.get_ref().as_str().map(str::to_owned);
    if text.is_none() {
        wrong_type(value, "text", &quoted(value.get_ref()), path, findings);
    }
    text
}

fn number(key: &str, value: &Spanned<DeValue<'_>>, path: String, findings: &mut Findings) -> Option<i64> {
    if let (DeValue::String(text), true) = (value.get_ref(), findings.may_numbers_be_text())
        && let Ok(number) = text.parse()
    {
        return Some(number);
    }
    let DeValue::Integer(integer) = value.get_ref() else {
        wrong_type(value, "a whole number", &unquoted(key, value.get_ref()), path, findings);
        return None;
    };
    let number = to_i64(integer);
    if number.is_none() {
        let error =
            FieldError::new(path, format!("{key} {} is out of range", integer.as_str()), "use a smaller number");
        findings.add(value.span(), "", error);
    }
    number
}

/// A table while its keys are being asked for.
struct Keys<'t, 'd> {
    table: &'t DeTable<'d>,
    span: Range<usize>,
    path: String,
    known: Vec<&'static str>,
    missing: Vec<&'static str>,
    findings: &'t mut Findings,
}

impl<'t, 'd> Keys<'t, 'd> {
    fn new(table: &'t DeTable<'d>, span: Range<usize>, path: String, findings: &'t mut Findings) -> Self {
        Self { table, span, path, known: Vec::new(), missing: Vec::new(), findings }
    }

    fn of_value(
        value: &'t Spanned<DeValue<'d>>,
        path: String,
        wanted: &str,
        findings: &'t mut Findings,
    ) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Self::new(table, value.span(), path, findings)),
            _ => {
                wrong_type(value, "a table", wanted, path, findings);
                None
            }
        }
    }

    fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn get(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'d>>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table.get(key)
    }

    fn required<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Self, &'static str) -> Option<T>) -> Option<T> {
        if !self.table.contains_key(key) {
            self.missing.push(key);
        }
        read(self, key)
    }

    fn text(&mut self, key: &'static str) -> Option<String> {
        let (value, path) = (self.get(key)?, self.path(key));
        text(value, path, self.findings)
    }

    fn number(&mut self, key: &'static str) -> Option<i64> {
        let (value, path) = (self.get(key)?, self.path(key));
        number(key, value, path, self.findings)
    }

    fn port(&mut self, key: &'static str) -> Option<PortSpec> {
        let (value, path) = (self.get(key)?, self.path(key));
        match value.get_ref() {
            DeValue::String(text) if is_word(text) => Some(PortSpec::Text(text.to_string())),
            DeValue::Array(_) => {
                let wanted = "write the first and the last, as port = \"5000-5010\"";
                wrong_type(value, "one port, or several that follow one another", wanted, path, self.findings);
                None
            }
            _ => self.number(key).map(PortSpec::Number),
        }
    }

    fn source_port(&mut self) -> Option<SourcePortSpec> {
        match self.get("source_port")?.get_ref() {
            DeValue::String(word) if is_word(word) => Some(SourcePortSpec::Word(word.to_string())),
            _ => self.number("source_port").map(SourcePortSpec::Number),
        }
    }

    fn ttl(&mut self) -> Option<TtlSpec> {
        match self.get("ttl")?.get_ref() {
            DeValue::String(word) if is_word(word) => Some(TtlSpec::Word(word.to_string())),
            _ => self.number("ttl").map(TtlSpec::Number),
        }
    }

    fn dscp(&mut self) -> Option<DscpSpec> {
        let (value, path) = (self.get("dscp")?, self.path("dscp"));
        match value.get_ref() {
            DeValue::String(word) if is_word(word) => Some(DscpSpec::Word(word.to_string())),
            DeValue::Table(table) => {
                let mut numbers = BTreeMap::new();
                for (from, to) in table {
                    let path = format!("{path}.{}", from.get_ref());
                    numbers.extend(number("dscp", to, path, self.findings).map(|to| (from.get_ref().to_string(), to)));
                }
                Some(DscpSpec::Table(numbers))
            }
            _ => self.number("dscp").map(DscpSpec::Number),
        }
    }

    fn flag(&mut self, key: &'static str) -> Option<bool> {
        let (value, path) = (self.get(key)?, self.path(key));
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            wrong_type(value, "true or false", &format!("write {key} = true"), path, self.findings);
        }
        flag
    }

    fn table(&mut self, key: &'static str, wanted: &str) -> Option<Keys<'_, 'd>> {
        let (value, path) = (self.get(key)?, self.path(key));
        Keys::of_value(value, path, wanted, self.findings)
    }

    /// The elements that can be read; one that can't is told and left out.
    fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&Spanned<DeValue<'_>>, String, &mut Findings) -> Option<T>,
    ) -> Vec<T> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let path = self.path(key);
        let DeValue::Array(items) = value.get_ref() else {
            let wanted = match value.get_ref() {
                DeValue::Table(_) if key == "relay" => "write its heading as [[relay]], in double brackets".to_owned(),
                DeValue::Table(_) => format!("write {key} = [ {{ … }} ], or its heading in double brackets"),
                DeValue::String(text) => format!("write {key} = [{:?}]", short(text)),
                _ => format!("write {key} = [ … ]"),
            };
            wrong_type(value, "a list", &wanted, path, self.findings);
            return Vec::new();
        };
        let mut read_items = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            if self.findings.is_full() {
                break;
            }
            read_items.extend(read(item, format!("{path}[{i}]"), self.findings));
        }
        read_items
    }

    fn outputs(&mut self) -> Vec<OutputSpec> {
        self.required("output", |keys, key| Some(keys.list(key, output))).unwrap_or_default()
    }

    /// Tells every key that was not asked for, then those that were and are not there. A missing key that an unknown
    /// one was meant to be is not told.
    fn finish(mut self) {
        for key in self.table.keys() {
            if !self.known.contains(&key.get_ref().as_ref()) {
                self.unknown(key);
            }
        }
        for key in std::mem::take(&mut self.missing) {
            let error = FieldError::new(self.path(key), format!("{key:?} is missing"), missing_remedy(key));
            self.findings.add(self.span.clone(), "in this table", error);
        }
    }

    /// Tells a key that has its place elsewhere.
    fn refuse(&mut self, key: &'static str, message: &str, remedy: &str) {
        if let Some((written, _)) = self.table.get_key_value(key) {
            let error = FieldError::new(self.path(key), message, remedy);
            self.findings.add(written.span(), "", error);
            // So that it is not told as unknown, too.
            self.known.push(key);
        }
    }

    fn unknown(&mut self, key: &Spanned<DeString<'_>>) {
        let name = key.get_ref().as_ref();
        let place = if self.path.is_empty() { "at the top of a configuration" } else { "here" };
        let remedy = match closest(name, &self.known) {
            Some(meant) => {
                self.missing.retain(|missing| *missing != meant);
                self.findings.touch(&self.path(meant));
                format!("did you mean {meant:?}?")
            }
            None => format!("the keys are {}", self.known.join(", ")),
        };
        let error = FieldError::new(self.path(name), format!("there is no key {:?} {place}", short(name)), remedy);
        self.findings.add(key.span(), "unknown key", error);
    }
}

/// Whether a text is not a number in quotes.
fn is_word(text: &str) -> bool {
    text.trim().parse::<i64>().is_err()
}

/// Enough of a text to recognise it.
fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

fn missing_remedy(key: &str) -> String {
    match key {
        "name" => "add a name, as name = \"camera-3\"".to_owned(),
        "port" => "add the UDP port, as port = 5001".to_owned(),
        "interface" => "add the interface, as interface = \"eth0\" (see `ip link`)".to_owned(),
        "input" => {
            "add where it listens, as input = { interface = \"eth0\", group = \"239.1.1.1\", port = 5001 }".to_owned()
        }
        "output" => {
            "add where it sends to, as output = [ { interface = \"eth1\", group = \"239.2.2.2\", port = 6001 } ]"
                .to_owned()
        }
        other => format!("add {other} = …"),
    }
}

fn wrong_type(value: &Spanned<DeValue<'_>>, wanted: &str, remedy: &str, path: String, findings: &mut Findings) {
    let key = path.rsplit('.').next().unwrap_or(&path);
    let message = format!("{key} must be {wanted}");
    findings.add(value.span(), format!("this is {}", kind(value.get_ref())), FieldError::new(path, message, remedy));
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// What to write where a number stands for a text.
fn quoted(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(number) => format!("write it in quotes: \"{}\"", number.as_str()),
        DeValue::Float(number) => format!("write it in quotes: \"{}\"", number.as_str()),
        DeValue::Array(_) => "write one text in quotes".to_owned(),
        _ => "write it in quotes".to_owned(),
    }
}

/// What to write where a text stands for a number.
fn unquoted(key: &str, value: &DeValue<'_>) -> String {
    match value.as_str().and_then(|text| text.trim().parse::<i64>().ok()) {
        Some(number) => format!("write it without quotes: {key} = {number}"),
        None => {
            let example = match key {
                "ttl" => 16,
                "dscp" => 34,
                "vlan" | "outer_vlan" => 100,
                _ => 5001,
            };
            format!("write a number, as {key} = {example}")
        }
    }
}

fn to_i64(integer: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}
