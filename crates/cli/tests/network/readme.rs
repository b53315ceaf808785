//! The commands of the README's section for scripts, run as they are written there.

use std::path::Path;
use std::process::Command;

use mcr_testbed::{Namespace, Veth};

use crate::service::{MCR, Service};

const README: &str = include_str!("../../../../README.md");
const SECTION: &str = "## Drive it from a script";
/// Where the README's daemon listens; a test's listens elsewhere.
const SOCKET: &str = "/run/mcr/mcr.sock";

/// A command and the lines that it prints.
struct Step {
    command: String,
    output: Vec<String>,
}

/// The steps of the section's first transcript.
fn steps() -> Vec<Step> {
    let section = README.split(SECTION).nth(1).expect("the section");
    let transcript = section.split("```console\n").nth(1).expect("a transcript").split("\n```").next().unwrap();
    let mut steps: Vec<Step> = Vec::new();
    for line in transcript.lines() {
        // A quote that is open goes on in the next line.
        let open = steps.last().is_some_and(|step| step.command.matches('\'').count() % 2 == 1);
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command: command.to_owned(), output: Vec::new() }),
            (None, Some(step)) if open => step.command += &format!("\n{line}"),
            (None, Some(step)) if !line.is_empty() => step.output.push(line.to_owned()),
            (None, _) => {}
        }
    }
    steps
}

/// Whether a printed line is the written one: any number for a number, anything for `…`.
fn fits(written: &str, printed: &str) -> bool {
    let printed = without_numbers(printed);
    let mut rest = printed.as_str();
    let pieces: Vec<String> = written.split('…').map(without_numbers).collect();
    let (first, others) = pieces.split_first().expect("at least one piece");
    let Some(after) = rest.strip_prefix(first.as_str()) else { return false };
    rest = after;
    let Some((last, middle)) = others.split_last() else { return rest.is_empty() };
    for piece in middle {
        let Some(at) = rest.find(piece.as_str()) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last.as_str())
}

fn without_numbers(text: &str) -> String {
    let mut plain = String::new();
    for c in text.chars() {
        let c = if c.is_ascii_digit() { '#' } else { c };
        // `30.0` and `29.99` are both `#.#`.
        if c != '#' || !plain.ends_with('#') {
            plain.push(c);
        }
    }
    plain
}

#[test]
fn the_section_for_scripts_is_true() {
    let (device, relay, lan) = (Namespace::new("device"), Namespace::new("relay"), Namespace::new("lan"));
    let _input = Veth::between(&device, "eth0", &relay, "eth0");
    let output = Veth::between(&relay, "eth1", &lan, "eth0");
    output.near().add_address("10.1.0.1/24");
    let service = Service::start(&relay, "");
    let socket = service.socket().display().to_string();
    let binaries = Path::new(MCR).parent().expect("a directory").display().to_string();
    let path = format!("{binaries}:{}", std::env::var("PATH").unwrap_or_default());
    let steps = steps();
    assert!(steps.len() >= 6, "only {} commands were found", steps.len());
    for Step { command, output } in steps {
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("{{ {}\n}} 2>&1", command.replace(SOCKET, &socket))]);
        let done = shell.env("MCR_SOCKET", &socket).env("PATH", &path).output().expect("run bash");
        let printed = String::from_utf8_lossy(&done.stdout).into_owned();
        let lines: Vec<&str> = printed.lines().collect();
        let all_fit = lines.len() == output.len() && output.iter().zip(&lines).all(|(written, is)| fits(written, is));
        assert!(all_fit, "$ {command}\nprints\n{printed}\nand the README says\n{}", output.join("\n"));
    }
}

#[test]
fn a_line_fits_what_is_written_of_it() {
    assert!(fits("{\"a\":1,…\"b\":{\"s\":30.0},…}", "{\"a\":7,\"x\":[],\"b\":{\"s\":29.999},\"c\":1}"));
    assert!(fits("all 7", "all 1234"));
    assert!(!fits("all 7", "all 7 of them"));
    assert!(!fits("{…\"b\"…}", "{\"c\":1}"));
}
