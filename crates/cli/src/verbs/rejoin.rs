//! `mcr rejoin`: for switches and routers that have forgotten who listens.

use std::net::IpAddr;

use mcr_model::rejoin::{RejoinReport, ReportedInterface};
use serde_json::json;

use crate::args::{Format, Rejoin};
use crate::client::Client;
use crate::failure::Failure;
use crate::view::screen::Screen;

/// More groups, or prefixes of groups, of an interface than these are counted.
const MOST_SHOWN: usize = 8;
/// So many groups that are a prefix together are shown as one.
const LEAST_BLOCK: usize = 8;

/// Has the groups reported and says which were; a failure when some could not be.
pub(crate) fn rejoin(args: Rejoin) -> Result<(), Failure> {
    let Rejoin { name, daemon, output } = args;
    let body = name.map_or_else(|| json!({}), |name| json!({ "name": name }));
    let answer = Client::new(daemon)?.post("rejoin", body.to_string())?;
    let report: RejoinReport = answer.read()?;
    let problems: Vec<&str> = report.interfaces.iter().filter_map(|reported| reported.problem.as_deref()).collect();
    let screen = Screen::stdout();
    match output.format {
        Format::Json => screen.print(&answer.json())?,
        Format::Text => screen.print(&text(&report))?,
    }
    match (problems.is_empty(), output.format) {
        (true, _) => Ok(()),
        (false, Format::Json) => Err(Failure::Silent),
        (false, Format::Text) => Err(Failure::failed(problems.join("\nmcr: "))),
    }
}

fn text(report: &RejoinReport) -> String {
    if report.interfaces.is_empty() {
        return "no group is joined, so there is nothing to report\n".to_owned();
    }
    report.interfaces.iter().filter(|reported| reported.problem.is_none()).map(line).collect()
}

fn line(ReportedInterface { interface, groups, .. }: &ReportedInterface) -> String {
    let mut blocks = Vec::new();
    let mut rest = &groups[..];
    while !rest.is_empty() && blocks.len() < MOST_SHOWN {
        let block;
        (block, rest) = rest.split_at(block_at_front(rest));
        blocks.push(match block {
            [first, _, ..] => format!("{first}/{} ({} groups)", prefix_length(*first, block.len()), block.len()),
            _ => block.iter().map(ToString::to_string).collect(),
        });
    }
    let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    format!("{interface}: reported {}{more}\n", blocks.join(", "))
}

/// How many of the groups at the front, which are in order, are a prefix together: one, if they are too few to be told so.
fn block_at_front(groups: &[IpAddr]) -> usize {
    let Some(first) = groups.first() else { return 0 };
    let is_whole = |size: &usize| {
        bits(*first).is_multiple_of(*size as u128) && {
            let last = groups.get(size - 1).filter(|last| last.is_ipv4() == first.is_ipv4());
            last.is_some_and(|last| bits(*last) - bits(*first) == *size as u128 - 1)
        }
    };
    std::iter::successors(Some(LEAST_BLOCK), |size| size.checked_mul(2)).take_while(is_whole).last().unwrap_or(1)
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn prefix_length(first: IpAddr, groups: usize) -> u32 {
    let whole = if first.is_ipv4() { 32 } else { 128 };
    whole - groups.ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_groups_are_counted() {
        let groups = (1..=10).map(|last| [239, 1, 1, last].into()).collect();
        let reported = ReportedInterface { interface: "eth0".to_owned(), groups, problem: None };
        let shown = line(&reported);
        assert!(shown.starts_with("eth0: reported 239.1.1.1, 239.1.1.2,"), "{shown}");
        assert!(shown.ends_with("239.1.1.8 and 2 more\n"), "{shown}");
    }

    #[test]
    fn groups_of_a_range_are_shown_as_its_prefix() {
        let of_range = (0..256_u32).map(|last| IpAddr::from([239, 1, 0, last as u8]));
        let more = (8..17).map(|last| IpAddr::from([239, 2, 0, last]));
        let six = (0..8).map(|last| IpAddr::from([0xff3e, 0, 0, 0, 0, 0, 0, last]));
        let groups = of_range.chain(more).chain(six).collect();
        let reported = ReportedInterface { interface: "eth0".to_owned(), groups, problem: None };
        let expected =
            "eth0: reported 239.1.0.0/24 (256 groups), 239.2.0.8/29 (8 groups), 239.2.0.16, ff3e::/125 (8 groups)\n";
        assert_eq!(line(&reported), expected);
    }
}
