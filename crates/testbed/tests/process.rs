//! Programs start where they should, say what they say, and do not outlive their test.

use std::time::Duration;

use mcr_testbed::{Namespace, Process, Signal, kernel};

const LIMIT: Duration = Duration::from_secs(5);

fn shell(namespace: &Namespace, script: &str) -> Process {
    Process::start(namespace.command("sh").args(["-c", script]))
}

#[test]
fn a_program_runs_in_its_namespace_and_its_lines_are_kept() {
    let namespace = Namespace::new("host");
    namespace.ip("link add name only type bridge");
    let mut process = shell(&namespace, "ip -br link show; echo careful >&2; exit 3");
    assert!(process.wait_for_line("only", LIMIT).starts_with("only"));
    process.wait_for_line("careful", LIMIT);
    assert_eq!(process.wait(LIMIT).code(), Some(3));
}

#[test]
fn signals_reach_it_and_its_end_is_seen() {
    let namespace = Namespace::new("host");
    let mut process =
        shell(&namespace, "trap 'echo again' HUP; trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done");
    process.wait_for_line("up", LIMIT);
    process.signal(Signal::Hangup);
    process.wait_for_line("again", LIMIT);
    process.terminate(LIMIT);
    assert!(process.ended().is_some());
}

#[test]
fn it_is_gone_after_its_test() {
    let namespace = Namespace::new("host");
    let mut process = shell(&namespace, "echo up; exec sleep 60");
    process.wait_for_line("up", LIMIT);
    let pid = process.pid();
    assert!(kernel::process_status(pid, "CapEff").is_some());
    drop(process);
    assert_eq!(kernel::process_status(pid, "CapEff"), None);
}

#[test]
fn a_line_that_never_comes_is_told_with_what_came_instead() {
    let namespace = Namespace::new("host");
    let failed = std::panic::catch_unwind(|| shell(&namespace, "echo something else").wait_for_line("ready", LIMIT));
    let said = failed.expect_err("it panics").downcast_ref::<String>().cloned().unwrap_or_default();
    assert_eq!(said, "sh ended without a line with \"ready\"; it printed:\nsomething else\n");
}
