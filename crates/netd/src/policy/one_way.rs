//! One-way rules: nothing that arrives on an interface of `to` can be sent on one of `from`.

use std::fmt;

use super::{Use, matches};

/// A rule of the policy file. Names may have the wildcards of the lists.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OneWay {
    /// Where packets may come from, and none is ever sent.
    from: String,
    /// Where they may go, and from which none is ever taken.
    to: Vec<String>,
}

/// A rule that can not be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotOneWay {
    #[error("`one_way` from `{from}` has no interface in `to`; name those that its packets may go to")]
    Nowhere { from: String },
    #[error(
        "`one_way` has `{from}` in `from` and `{to}` in `to`, so an interface could be neither an input nor an output; \
         leave it out of one"
    )]
    BothEnds { from: String, to: String },
}

impl OneWay {
    /// Whether the rules make sense together.
    pub(super) fn check(rules: &[Self]) -> Result<(), NotOneWay> {
        for rule in rules {
            if rule.to.is_empty() {
                return Err(NotOneWay::Nowhere { from: rule.from.clone() });
            }
            let mut ends = rules.iter().flat_map(|other| &other.to);
            if let Some(to) = ends.find(|to| overlap(&rule.from, to)) {
                return Err(NotOneWay::BothEnds { from: rule.from.clone(), to: to.clone() });
            }
        }
        Ok(())
    }

    /// Whether the rule forbids to use this interface so.
    pub(super) fn forbids(&self, wanted: Use, interface: &str) -> bool {
        let fits = |pattern: &String| matches(pattern.as_bytes(), interface.as_bytes());
        match wanted {
            Use::Output => fits(&self.from),
            Use::Input => self.to.iter().any(fits),
        }
    }
}

/// Whether one of two patterns matches the other, or is it.
fn overlap(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    matches(a, b) || matches(b, a)
}

/// The direction, for a sentence: `from ot0 to it0, it1`.
impl fmt::Display for OneWay {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "from {} to {}", self.from, self.to.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(from: &str, to: &[&str]) -> OneWay {
        OneWay { from: from.to_owned(), to: to.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn each_end_is_used_for_one_thing() {
        let rule = rule("ot*", &["it0", "dmz?"]);
        for (wanted, interface, forbidden) in [
            (Use::Output, "ot1", true),
            (Use::Input, "ot1", false),
            (Use::Input, "it0", true),
            (Use::Input, "dmz2", true),
            (Use::Output, "dmz2", false),
            (Use::Input, "lan0", false),
            (Use::Output, "lan0", false),
        ] {
            assert_eq!(rule.forbids(wanted, interface), forbidden, "{wanted:?} {interface}");
        }
        assert_eq!(rule.to_string(), "from ot* to it0, dmz?");
    }

    #[test]
    fn rules_that_leave_an_interface_no_use_are_refused() {
        let both = [rule("ot0", &["dmz0"]), rule("dmz0", &["it0"])];
        let both_ends = |from: &str, to: &str| Err(NotOneWay::BothEnds { from: from.to_owned(), to: to.to_owned() });
        assert_eq!(OneWay::check(&both), both_ends("dmz0", "dmz0"));
        assert_eq!(OneWay::check(&[rule("ot*", &["it0", "ot1"])]), both_ends("ot*", "ot1"));
        assert_eq!(OneWay::check(&[rule("ot0", &["*"])]), both_ends("ot0", "*"));
        assert_eq!(OneWay::check(&[rule("ot0", &[])]), Err(NotOneWay::Nowhere { from: "ot0".to_owned() }));
        assert_eq!(OneWay::check(&[rule("ot0", &["it0"]), rule("ot1", &["it0"])]), Ok(()));
    }
}
