//! `mcr explain`: why a packet does not arrive.

use mcr_diagnose::{Blind, Join, Mark, Question, Relays, Report, Step, Subject, Verdict};
use mcr_model::spec::InputSpec;
use mcr_model::status::RelayStatus;
use mcr_model::{Input, RelayName};
use serde_json::json;

use crate::args::{Daemon, Explain, Format};
use crate::client::Client;
use crate::failure::Failure;
use crate::verbs::list;
use crate::view::json;
use crate::view::screen::{GOOD, HEADING, Ink, Screen, TROUBLE};
use crate::view::wrap::wrapped;

/// Columns that text is kept within.
const COLUMNS: usize = 100;

/// Columns of the names of steps.
const NAME_COLUMNS: usize = 14;

/// Looks, and says what is wrong. Exit code 1 when something is.
pub(crate) fn explain(args: Explain) -> Result<(), Failure> {
    let Explain { of, look, hops, join, daemon, output } = args;
    let asked = Asked::read(&of)?;
    let client = Client::new(daemon.clone())?;
    let report = if client.is_remote() {
        if join {
            return Err(Failure::usage(
                "--join joins on this host, and the daemon looks at its own; run mcr explain there, or add a relay, which joins",
            ));
        }
        client.post("explain", asked.request(hops))?.read()?
    } else {
        let (subject, input) = asked.find(&client)?;
        let membership = if join { Join::WhileLooking } else { Join::No };
        let mut question = Question::new(subject, input, look).map_err(|error| Failure::usage(error.to_string()))?;
        (question.hops, question.membership) = (hops, membership);
        mcr_diagnose::explain(&question, || relays(&daemon))
    };
    let screen = Screen::stdout();
    match output.format {
        Format::Json => screen.print(&json::line(&report))?,
        Format::Text => screen.print(&text(&report, screen.ink()))?,
    }
    match report.verdict {
        Verdict::Passes => Ok(()),
        Verdict::Lost => Err(Failure::Silent),
    }
}

/// What was typed: an endpoint has a colon, a name has none.
enum Asked {
    Endpoint(Box<InputSpec>, Input),
    Relay(RelayName),
}

impl Asked {
    fn read(of: &str) -> Result<Self, Failure> {
        if !of.contains(':') {
            let name = of.parse().map_err(|error| {
                Failure::usage(format!(
                    "{error}; write INTERFACE:GROUP:PORT, as eth0:239.1.1.1:5001, or the name of a relay"
                ))
            })?;
            return Ok(Self::Relay(name));
        }
        let spec = InputSpec::from_endpoint(of).map_err(|error| Failure::usage(error.to_string()))?;
        let input = spec.check("").map_err(|errors| {
            let errors: Vec<String> =
                errors.iter().map(|error| error.to_string().trim_start_matches('.').to_owned()).collect();
            Failure::usage(format!("{of:?}: {}", errors.join("; ")))
        })?;
        Ok(Self::Endpoint(Box::new(spec), input))
    }

    /// The body of a request to a daemon that is far away: it looks at its own host, as far as it may.
    fn request(&self, hops: Option<u8>) -> String {
        match self {
            Self::Endpoint(spec, _) => json!({ "input": spec, "hops": hops }),
            Self::Relay(name) => json!({ "relay": name, "hops": hops }),
        }
        .to_string()
    }

    fn find(self, client: &Client) -> Result<(Subject, Input), Failure> {
        match self {
            Self::Endpoint(_, input) => Ok((Subject::Endpoint, input)),
            Self::Relay(name) => {
                let relay: RelayStatus = client.get(&format!("relays/{name}"))?.read()?;
                let input = relay.relay.input.check("input").map_err(|errors| {
                    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                    Failure::failed(format!("the input of relay {name} is not understood: {}", errors.join("; ")))
                })?;
                Ok((Subject::Relay(name.to_string()), input))
            }
        }
    }
}

/// The relays of the daemon, if one runs.
pub(crate) fn relays(daemon: &Daemon) -> Relays {
    let client = match Client::new(daemon.clone()) {
        Ok(client) => client,
        Err(failure) => return Relays::Unknown(Blind::new(failure.to_string(), "name a daemon that can be asked")),
    };
    match client.get("relays").and_then(|answer| answer.read::<list::Relays>()) {
        Ok(list::Relays { relays }) => Relays::Known(relays),
        Err(_) if !client.is_served() => Relays::NoDaemon,
        Err(failure) => {
            Relays::Unknown(Blind::new(failure.to_string(), "run as a user who may use the daemon's socket"))
        }
    }
}

/// The steps one below the other, each with its mark, then what to do about the first that is wrong.
fn text(report: &Report, ink: Ink) -> String {
    let Report { target, verdict: _, culprit, steps, look_seconds: _ } = report;
    let mut lines = vec![ink.paint(HEADING, target)];
    steps.iter().for_each(|step| lines.extend(step_lines(step, ink)));
    lines.push(String::new());
    match culprit {
        Some(Step { step, code, remedy, .. }) => {
            let place = format!("lost at: {} ({code})", step.replace('_', " "));
            lines.push(ink.paint(TROUBLE, &place));
            lines.extend(wrapped("to do:   ", COLUMNS, remedy.as_deref().unwrap_or_default()));
        }
        None => lines.push("nothing is wrong on any step that could be seen".to_owned()),
    }
    lines.join("\n") + "\n"
}

/// A mark as one character.
pub(crate) fn mark_shown(mark: Mark, ink: Ink) -> String {
    match mark {
        Mark::Ok => ink.paint(GOOD, "✓"),
        Mark::Fault => ink.paint(TROUBLE, "✗"),
        Mark::Unknown => "?".to_owned(),
    }
}

fn step_lines(step: &Step, ink: Ink) -> Vec<String> {
    let Step { step: name, code: _, about, mark, fact, evidence, remedy } = step;
    let about = about.as_ref().map(|about| format!("{about}: ")).unwrap_or_default();
    let head = format!("    {:NAME_COLUMNS$} ", name.replace('_', " "));
    let indent = " ".repeat(head.chars().count());
    let mut lines = wrapped(&head, COLUMNS, &format!("{about}{fact}"));
    // Of a step that is right, only the fact matters to a person; the rest is in the JSON.
    let is_told = *mark != Mark::Ok || step.step == "wire";
    lines.extend(evidence.iter().filter(|_| is_told).flat_map(|evidence| wrapped(&indent, COLUMNS, evidence)));
    // What to do about a fault stands at the end.
    lines.extend(remedy.iter().filter(|_| *mark == Mark::Unknown).flat_map(|remedy| wrapped(&indent, COLUMNS, remedy)));
    lines[0] = format!("  {} {}", mark_shown(*mark, ink), lines[0].trim_start());
    lines
}
