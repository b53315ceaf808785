//! What the administrator lets the keeper do: which interfaces may be inputs, which outputs.
//!
//! ```toml
//! # /etc/mcr/policy.toml
//! inputs = ["eth0", "ot*"]
//! outputs = ["eth1"]
//!
//! # Nothing that arrives on it0 can ever be sent on ot0, whatever the daemon is told.
//! one_way = [{ from = "ot0", to = ["it0"] }]
//! # Inputs on which no group is joined: the interface takes every group that the network floods there.
//! passive = ["ot0"]
//!
//! # Sources that an output may get for as long as a relay sends with them (own_source); none without.
//! [source_addresses]
//! eth1 = ["10.1.0.64/26", "fd00:1::/64"]
//!
//! # What the tables of the in-kernel datapath hold; their memory is taken when they are made, at the start.
//! [tables]
//! relays = 16384
//! outputs = 65536
//! ```
//!
//! A list that is absent allows every interface, an empty one none. `*` stands for any characters,
//! `?` for one. The file belongs to root or to the user that the keeper runs as, and nobody else may
//! write it; a keeper that is given another one does not start.
//!
//! SIGHUP makes a keeper that listens read the file again; one that is wrong by then changes nothing. What
//! the new policy forbids is taken away at once, from a daemon that is connected too: groups are left, an
//! input that is open takes no frame any more, an output sends none, and neighbours are forgotten. The
//! command line's `--allow-input` and `--allow-output` stay instead of the file's lists.
//!
//! The lists bind a daemon that works as it should, whoever configures it: no relay can be made on
//! another interface. They do not confine a daemon that was taken over: whoever holds a packet
//! socket may bind it to another interface and send through another without a capability
//! (`net/packet/af_packet.c: packet_bind`, `packet_snd`). A one-way rule does confine it: see [`crate::guard`].

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mcr_kernel_path::Sizes;

mod one_way;
mod source_addresses;

use self::one_way::OneWay;
use self::source_addresses::SourceAddresses;
use crate::protocol::MAX_FAN_OUTS;

/// Where the policy is read from when nothing else is said; it need not exist.
pub const DEFAULT_POLICY_PATH: &str = "/etc/mcr/policy.toml";

/// Where the policy comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyChoice {
    /// The file, which must exist; `None`: [`DEFAULT_POLICY_PATH`], if it exists.
    pub file: Option<PathBuf>,
    /// The inputs that are allowed instead of those of the file; none: those of the file.
    pub inputs: Vec<String>,
    /// The outputs that are allowed instead of those of the file; none: those of the file.
    pub outputs: Vec<String>,
}

/// Which interfaces may be used for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    inputs: Vec<String>,
    outputs: Vec<String>,
    one_way: Vec<OneWay>,
    passive: Vec<String>,
    source_addresses: SourceAddresses,
    tables: TablesFile,
}

/// Why the policy does not let an interface be used so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// The list does not have it.
    NotListed,
    /// It is the other end of a one-way rule.
    OneWay {
        /// The direction of the rule.
        rule: String,
        /// The interface that the rule names: the one that is wanted, or one whose frames pass where its own do.
        end: String,
    },
}

/// What an interface is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// To take packets from.
    Input,
    /// To send packets on.
    Output,
}

/// Why a policy could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file can not be read.
    #[error("can not read the policy {path}: {error}; check the path and its permissions", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The file is not of the form above.
    #[error("the policy {path} is wrong; correct it: {error}", path = path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        error: Box<toml::de::Error>,
    },
    /// The file belongs to somebody who may not say what the keeper does.
    #[error(
        "the policy {path} belongs to the user with id {owner}, not to root or the user of mcr-netd; \
         run `chown root {path}`",
        path = path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Others than its owner may write the file.
    #[error("the policy {path} may be written by others than its owner; run `chmod go-w {path}`", path = path.display())]
    Writable {
        /// The file.
        path: PathBuf,
    },
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    inputs: Option<Vec<String>>,
    outputs: Option<Vec<String>>,
    #[serde(default)]
    one_way: Vec<OneWay>,
    #[serde(default)]
    passive: Vec<String>,
    #[serde(default)]
    source_addresses: SourceAddresses,
    #[serde(default)]
    tables: TablesFile,
}

/// How much the tables of the in-kernel datapath hold, where it is not the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TablesFile {
    /// Relays, all inputs together.
    relays: Option<NonZeroU32>,
    /// Outputs, all relays together.
    outputs: Option<NonZeroU32>,
    /// Listed sources, all relays together.
    sources: Option<NonZeroU32>,
    /// Different lists of output interfaces at the driver.
    fan_outs: Option<NonZeroU32>,
}

impl Default for Policy {
    /// Every interface for everything, and no address for any.
    fn default() -> Self {
        let (one_way, passive) = (Vec::new(), Vec::new());
        let (source_addresses, tables) = (SourceAddresses::default(), TablesFile::default());
        Self { inputs: any(), outputs: any(), one_way, passive, source_addresses, tables }
    }
}

impl PolicyChoice {
    /// The policy that is chosen.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn load(&self) -> Result<Policy, PolicyError> {
        let Self { file, inputs, outputs } = self;
        let read = Policy::read(file.as_deref().unwrap_or(Path::new(DEFAULT_POLICY_PATH)));
        let mut policy = match (file, read) {
            (None, Err(PolicyError::Unreadable { error, .. })) if error.kind() == io::ErrorKind::NotFound => {
                Policy::default()
            }
            (_, read) => read?,
        };
        if !inputs.is_empty() {
            policy.inputs.clone_from(inputs);
        }
        if !outputs.is_empty() {
            policy.outputs.clone_from(outputs);
        }
        Ok(policy)
    }
}

impl Policy {
    fn read(path: &Path) -> Result<Self, PolicyError> {
        let unreadable = |error| PolicyError::Unreadable { path: path.to_owned(), error };
        let file = fs::File::open(path).map_err(unreadable)?;
        // Asked of the open file: the path may lead to another by now.
        check_trusted(path, &file.metadata().map_err(unreadable)?)?;
        let text = io::read_to_string(file).map_err(unreadable)?;
        Self::parse(&text).map_err(|error| PolicyError::Wrong { path: path.to_owned(), error: Box::new(error) })
    }

    fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let PolicyFile { inputs, outputs, one_way, passive, source_addresses, tables } = toml::from_str(text)?;
        OneWay::check(&one_way).map_err(<toml::de::Error as serde::de::Error>::custom)?;
        let (inputs, outputs) = (inputs.unwrap_or_else(any), outputs.unwrap_or_else(any));
        Ok(Self { inputs, outputs, one_way, passive, source_addresses, tables })
    }

    /// The sizes of the in-kernel tables. They hold from the start of a keeper to its end.
    pub(crate) fn table_sizes(&self) -> Sizes {
        let TablesFile { relays, outputs, sources, fan_outs } = &self.tables;
        let or = |size: &Option<NonZeroU32>, default: u32| size.map_or(default, NonZeroU32::get);
        let default = Sizes::default();
        Sizes {
            relays: or(relays, default.relays),
            outputs: or(outputs, default.outputs),
            sources: or(sources, default.sources),
            // Number 0 is no fan-out.
            fan_outs: fan_outs.map_or(default.fan_outs, |count| count.get().min(MAX_FAN_OUTS as u32) + 1),
            ..default
        }
    }

    /// Why the interface may not be used so; `None`: it may. `neighbours` are interfaces whose frames pass where its own do,
    /// as a VLAN's do and those of the interface below it: one-way rules hold for them, too.
    pub fn objection(&self, wanted: Use, interface: &str, neighbours: &[String]) -> Option<Objection> {
        if !any_matches(self.patterns(wanted), interface) {
            return Some(Objection::NotListed);
        }
        let mut ends = std::iter::once(interface).chain(neighbours.iter().map(String::as_str));
        ends.find_map(|end| {
            let rule = self.one_way.iter().find(|rule| rule.forbids(wanted, end))?;
            Some(Objection::OneWay { rule: rule.to_string(), end: end.to_owned() })
        })
    }

    /// Whether there are one-way rules.
    pub(crate) fn has_one_way(&self) -> bool {
        !self.one_way.is_empty()
    }

    /// Whether the interface is one that a one-way rule lets nothing out of.
    pub(crate) fn is_closed_way(&self, interface: &str) -> bool {
        self.one_way.iter().any(|rule| rule.forbids(Use::Output, interface))
    }

    /// Whether no group is joined on the interface.
    pub(crate) fn is_passive(&self, interface: &str) -> bool {
        any_matches(&self.passive, interface)
    }

    /// Whether the interface may get that address, for as long as a relay sends with it.
    pub fn allows_source(&self, interface: &str, address: IpAddr) -> bool {
        self.source_addresses.allow(interface, address)
    }

    /// The addresses that the interface may get, for a sentence.
    pub fn allowed_sources(&self, interface: &str) -> String {
        self.source_addresses.allowed_on(interface)
    }

    /// What is allowed, for a sentence.
    pub fn allowed(&self, wanted: Use) -> String {
        match self.patterns(wanted) {
            [] => "none".to_owned(),
            patterns => patterns.join(", "),
        }
    }

    fn patterns(&self, wanted: Use) -> &[String] {
        match wanted {
            Use::Input => &self.inputs,
            Use::Output => &self.outputs,
        }
    }
}

/// What is allowed, for the log.
impl fmt::Display for Policy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "inputs {}; outputs {}", self.allowed(Use::Input), self.allowed(Use::Output))?;
        self.one_way.iter().try_for_each(|rule| write!(out, "; one way {rule}"))?;
        if !self.passive.is_empty() {
            write!(out, "; passive {}", self.passive.join(", "))?;
        }
        if self.source_addresses.is_empty() {
            Ok(())
        } else {
            write!(out, "; source addresses {}", self.source_addresses)
        }
    }
}

impl Use {
    pub(crate) const ALL: [Self; 2] = [Self::Input, Self::Output];

    /// The key of the policy file.
    pub fn key(self) -> &'static str {
        match self {
            Self::Input => "inputs",
            Self::Output => "outputs",
        }
    }

    /// The word for a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Input => "an input",
            Self::Output => "an output",
        }
    }
}

/// Whoever may write the policy decides what the keeper does: that is root and who runs it.
fn check_trusted(path: &Path, file: &fs::Metadata) -> Result<(), PolicyError> {
    // SAFETY: geteuid takes no arguments and can not fail.
    let own = unsafe { libc::geteuid() };
    let owner = file.uid();
    if owner != 0 && owner != own {
        return Err(PolicyError::Foreign { path: path.to_owned(), owner });
    }
    if file.mode() & 0o022 != 0 {
        return Err(PolicyError::Writable { path: path.to_owned() });
    }
    Ok(())
}

fn any() -> Vec<String> {
    vec!["*".to_owned()]
}

fn any_matches(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
}

/// Compares with backtracking to the last `*` only: time is bounded by the product of the lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match &mut star {
                None => return false,
                Some((at, from)) => {
                    *from += 1;
                    (p, n) = (*at + 1, *from);
                }
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn patterns_match_names() {
        let table = [
            ("*", "eth0", true),
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth", "eth0", false),
            ("ot*", "ot1.100", true),
            ("ot*", "lot1", false),
            ("*.100", "ot1.100", true),
            ("e?h*0", "eth10", true),
            ("e?h*0", "eth11", false),
            ("**a*b", "aaab", true),
            ("", "eth0", false),
            ("?", "", false),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    fn allows(policy: &Policy, wanted: Use, interface: &str) -> bool {
        policy.objection(wanted, interface, &[]).is_none()
    }

    #[test]
    fn absent_allows_all_and_empty_allows_none() {
        let policy = Policy::parse("inputs = []").unwrap();
        assert!(!allows(&policy, Use::Input, "eth0"));
        assert_eq!(policy.allowed(Use::Input), "none");
        assert!(allows(&policy, Use::Output, "eth0"));
        assert_eq!(Policy::parse("").unwrap(), Policy::default());
    }

    #[test]
    fn a_one_way_rule_holds_beside_the_lists_and_for_what_shares_the_wire() {
        let policy = Policy::parse("outputs = ['it*', 'ot*']\none_way = [{ from = 'ot0', to = ['it0'] }]").unwrap();
        let neighbours = ["ot0".to_owned()];
        let objection = Objection::OneWay { rule: "from ot0 to it0".to_owned(), end: "ot0".to_owned() };
        assert_eq!(policy.objection(Use::Output, "ot0", &[]), Some(objection.clone()));
        assert_eq!(policy.objection(Use::Output, "ot0.7", &neighbours), Some(objection));
        assert_eq!(policy.objection(Use::Input, "ot0.7", &neighbours), None);
        assert_eq!(policy.objection(Use::Output, "eth0", &[]), Some(Objection::NotListed));
        assert!(!allows(&policy, Use::Input, "it0") && allows(&policy, Use::Output, "it0"));
        let error = Policy::parse("one_way = [{ from = 'ot0', to = [] }]").unwrap_err().to_string();
        assert!(error.contains("`one_way` from `ot0` has no interface in `to`; "), "{error}");
        assert!(Policy::parse("one_way = [{ from = 'ot0', too = ['it0'] }]").is_err());
    }

    #[test]
    fn an_output_gets_the_addresses_that_are_listed_for_it_and_no_others() {
        let text = "[source_addresses]\neth1 = ['10.1.0.64/26', 'fd00:1::77']\n'it*' = ['10.2.0.0/24']";
        let policy = Policy::parse(text).unwrap();
        let allows = |interface, address: &str| policy.allows_source(interface, address.parse().unwrap());
        assert!(allows("eth1", "10.1.0.77") && allows("eth1", "fd00:1::77") && allows("it3", "10.2.0.9"));
        assert!(!allows("eth1", "10.2.0.9") && !allows("eth0", "10.1.0.77") && !allows("eth1", "fd00:1::78"));
        assert!(!Policy::default().allows_source("eth1", [10, 1, 0, 77].into()));
        assert_eq!(policy.allowed_sources("eth1"), "10.1.0.64/26, fd00:1::77/128");
        assert_eq!(policy.allowed_sources("eth0"), "none");
        let error = Policy::parse("[source_addresses]\neth1 = ['10.1.0.65/26']").unwrap_err().to_string();
        assert!(error.contains("the network that it is in begins at 10.1.0.64"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let error = Policy::parse("input = ['eth0']").unwrap_err().to_string();
        assert!(error.contains("unknown field `input`"), "{error}");
    }

    #[test]
    fn a_file_must_exist_and_belong_to_its_owner_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let choice = |file: &Path| PolicyChoice { file: Some(file.to_owned()), ..PolicyChoice::default() };
        fs::write(file.path(), "inputs = ['ot*']").unwrap();
        let policy = choice(file.path()).load().unwrap();
        assert!(allows(&policy, Use::Input, "ot1") && !allows(&policy, Use::Input, "eth0"));
        let instead = PolicyChoice { inputs: vec!["eth?".to_owned()], ..choice(file.path()) };
        let policy = instead.load().unwrap();
        assert!(!allows(&policy, Use::Input, "ot1") && allows(&policy, Use::Input, "eth0"));
        for writable in [0o620, 0o602] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(writable)).unwrap();
            assert!(matches!(choice(file.path()).load(), Err(PolicyError::Writable { .. })));
        }
        let error = choice(Path::new("/nowhere/policy.toml")).load().unwrap_err();
        assert!(error.to_string().starts_with("can not read the policy /nowhere/policy.toml"));
    }
}
