//! `mcr rejoin`: for switches and routers that have forgotten who listens.

use mcr_model::rejoin::{RejoinReport, ReportedInterface};
use serde_json::json;

use crate::args::{Format, Rejoin};
use crate::client::Client;
use crate::failure::Failure;
use crate::view::screen::Screen;

/// More groups of an interface than these are counted.
const MOST_SHOWN: usize = 8;

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
    let shown: Vec<String> = groups.iter().take(MOST_SHOWN).map(ToString::to_string).collect();
    let rest = groups.len() - shown.len();
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{interface}: reported {}{more}\n", shown.join(", "))
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
}
