//! The sources that an input lists, single ones and prefixes, as a user writes them.

use std::collections::BTreeSet;

use mcr_wire::Listing;

use crate::address::{ValueError, host, parse_ip};
use crate::name::InterfaceName;
use crate::prefix::{Prefix, PrefixError, outermost};
use crate::problem::FieldError;

const WANTED: &str = "write the address of one host, as 192.168.168.55 or fd00::55, or a prefix, as 192.168.168.0/24";

/// The checked list, sorted; what lies within another of its prefixes is left out.
///
/// # Errors
/// Every item that is wrong, or the list when it has too many lengths.
pub(crate) fn check(field: &str, given: &[String]) -> Result<Vec<Prefix>, Vec<FieldError>> {
    let mut errors = Vec::new();
    let mut prefixes = Vec::with_capacity(given.len());
    for (i, given) in given.iter().enumerate() {
        match one(field, given) {
            Ok(prefix) => prefixes.push(prefix),
            Err((what, remedy)) => errors.push(FieldError::new(format!("{field}[{i}]"), what, remedy)),
        }
    }
    let prefixes = outermost(prefixes);
    let lengths: BTreeSet<u8> = prefixes.iter().filter(|prefix| !prefix.is_host()).map(Prefix::length).collect();
    if lengths.len() > Listing::MOST_LENGTHS {
        let (many, most) = (lengths.len(), Listing::MOST_LENGTHS);
        let what = format!("its prefixes are of {many} different lengths, and a list may have {most}");
        errors.push(FieldError::new(field, what, "split some of them into longer ones, or use several relays"));
    }
    if errors.is_empty() { Ok(prefixes) } else { Err(errors) }
}

/// Loopback addresses among them: packets from there are on the loopback interface only.
pub(crate) fn check_loopback(field: &str, sources: &[Prefix], interface: &InterfaceName) -> Vec<FieldError> {
    if interface.as_str() == "lo" {
        return Vec::new();
    }
    let is_loopback = |prefix: &&Prefix| prefix.first().is_loopback() && prefix.last().is_loopback();
    let told = sources.iter().filter(is_loopback).map(|source| {
        let what = format!("{source} is of the loopback interface, and never the source of a packet on {interface}");
        FieldError::new(field, what, "name the sender's own address; of applications of this host the input is lo")
    });
    told.collect()
}

/// One of them, or what is wrong with it and what to write.
fn one(field: &str, given: &str) -> Result<Prefix, (String, String)> {
    let refused = |error: ValueError| (error.to_string(), error.remedy(WANTED));
    let bare = given.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(given);
    if !bare.contains('/') {
        return parse_ip(given).and_then(host).map(Prefix::from).map_err(refused);
    }
    let prefix: Prefix = bare.parse().map_err(|error: PrefixError| {
        let remedy = match &error {
            PrefixError::HostBits { range, .. } => format!("write {range}, or one address without a length"),
            PrefixError::Shape { .. } => WANTED.to_owned(),
        };
        (error.to_string(), remedy)
    })?;
    if prefix.length() == 0 {
        let effect = if field.ends_with("exclude_sources") { ", and the relay would take nothing" } else { "" };
        return Err((format!("{prefix} is every source{effect}"), "leave it out".to_owned()));
    }
    // One that begins with addresses that no host has may go on with others, as ::/1.
    host(prefix.first()).or_else(|error| host(prefix.last()).map_err(|_| error)).map_err(refused)?;
    Ok(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(given: &[&str]) -> Result<Vec<String>, Vec<String>> {
        let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
        let texts = |errors: Vec<FieldError>| errors.iter().map(ToString::to_string).collect();
        check("sources", &given).map(|list| list.iter().map(Prefix::to_string).collect()).map_err(texts)
    }

    #[test]
    fn what_is_listed_is_told_in_one_form() {
        let given = ["192.168.168.0/24", "10.0.0.7/32", "10.0.0.7", "192.168.168.55", "::/1", "[fd00:1::/64]"];
        assert_eq!(checked(&given).unwrap(), ["10.0.0.7", "192.168.168.0/24", "::/1", "fd00:1::/64"]);
    }

    #[test]
    fn what_is_no_source_is_told_with_what_to_write() {
        for (given, what, remedy) in [
            ("192.168.168.55/24", "begins at 192.168.168.0", "write 192.168.168.0/24, or one address"),
            ("fd00::1/64", "begins at fd00::", "write fd00::/64"),
            ("10.0.0.0/33", "no range of addresses", "as 192.168.168.0/24"),
            ("10.0.0.0/", "no range of addresses", "as 192.168.168.0/24"),
            ("0.0.0.0/0", "every source", "leave it out"),
            ("::/0", "every source", "leave it out"),
            ("239.0.0.0/8", "239.0.0.0 is not a unicast address", "write the address of one host"),
            ("::ffff:10.0.0.0/120", "written as IPv6", "write 10.0.0.0"),
            ("camera", "not an IP address", "write the address of one host"),
        ] {
            let errors = checked(&[given]).unwrap_err();
            assert!(errors[0].contains("sources[0]") && errors[0].contains(what), "{errors:?}");
            assert!(errors[0].contains(remedy), "{errors:?}");
        }
        let everyone = check("input.exclude_sources", &["0.0.0.0/0".to_owned()]).unwrap_err();
        assert!(everyone[0].to_string().contains("the relay would take nothing"), "{everyone:?}");
        let many = ["10.0.0.0/8", "11.0.0.0/9", "12.0.0.0/10", "13.0.0.0/11", "14.0.0.0/12", "1.1.1.1"];
        assert!(checked(&many).unwrap_err()[0].contains("5 different lengths, and a list may have 4"));
        assert!(checked(&many[1..]).is_ok());
    }

    #[test]
    fn loopback_sources_are_of_the_loopback_interface() {
        for (given, is_of_loopback) in
            [("127.0.0.5", true), ("127.0.0.0/8", true), ("126.0.0.0/7", false), ("10.0.0.7", false)]
        {
            let sources = check("sources", &[given.to_owned()]).unwrap();
            let refused =
                |interface: &str| !check_loopback("sources", &sources, &interface.parse().unwrap()).is_empty();
            assert_eq!((refused("eth0"), refused("lo")), (is_of_loopback, false), "{given}");
        }
    }
}
