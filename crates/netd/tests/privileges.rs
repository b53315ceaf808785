//! Giving up capabilities: all five sets, for good, with and without another user.
//!
//! Every case is this program again, as a process of its own.

use std::env;
use std::fs;
use std::process::{Command, ExitCode};

use mcr_netd::privileges;

const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
const CASES: [(&str, fn()); 4] = [
    ("all_five_sets_are_empty", all_five_sets_are_empty),
    ("another_user_with_its_groups", another_user_with_its_groups),
    ("an_unknown_user_is_named", an_unknown_user_is_named),
    ("not_beside_other_threads", not_beside_other_threads),
];

fn main() -> ExitCode {
    let asked = env::args().nth(1).unwrap_or_default();
    if asked == "--list" {
        CASES.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if let Ok(case) = env::var("CASE") {
        let (_, body) = CASES.iter().find(|(name, _)| *name == case).expect("a case of that name");
        body();
        return ExitCode::SUCCESS;
    }
    assert!(privileges::may_open_packet_sockets(), "this test needs root: run it with sudo");
    let mut result = ExitCode::SUCCESS;
    for (name, _) in CASES.iter().filter(|(name, _)| asked.starts_with('-') || name.contains(&asked)) {
        let ended = Command::new(env::current_exe().unwrap()).env("CASE", name).status().unwrap();
        println!("test {name} ... {}", if ended.success() { "ok" } else { "FAILED" });
        if !ended.success() {
            result = ExitCode::FAILURE;
        }
    }
    result
}

fn all_five_sets_are_empty() {
    privileges::drop_all_capabilities(None).unwrap();
    assert_nothing_left();
    assert_eq!(status("Uid"), "0\t0\t0\t0");
    // Nothing is left to give up, and that is no error.
    privileges::drop_all_capabilities(None).unwrap();
}

fn another_user_with_its_groups() {
    let line = fs::read_to_string("/etc/passwd").unwrap();
    let line = line.lines().find(|line| line.starts_with("nobody:")).expect("a user nobody");
    let fields: Vec<&str> = line.split(':').collect();
    privileges::drop_all_capabilities(Some("nobody")).unwrap();
    assert_nothing_left();
    let (user, group) = (fields[2], fields[3]);
    assert_eq!(status("Uid"), [user; 4].join("\t"));
    assert_eq!(status("Gid"), [group; 4].join("\t"));
    assert!(status("Groups").split_whitespace().all(|other| other == group));
    // SAFETY: no pointers are passed.
    assert_eq!(unsafe { libc::setuid(0) }, -1, "the way back is closed");
}

fn an_unknown_user_is_named() {
    let error = privileges::drop_all_capabilities(Some("no-such-user")).unwrap_err();
    assert!(error.to_string().starts_with("there is no user `no-such-user`; "), "{error}");
    assert!(privileges::may_open_packet_sockets(), "nothing was given up yet");
}

fn not_beside_other_threads() {
    std::thread::scope(|scope| {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || ended.recv());
        let error = privileges::drop_all_capabilities(None).unwrap_err();
        assert!(error.to_string().starts_with("2 threads run already"), "{error}");
        drop(end);
    });
}

fn assert_nothing_left() {
    for set in SETS {
        assert_eq!(status(set), "0000000000000000", "{set}");
    }
    assert_eq!(status("NoNewPrivs"), "1");
    assert!(!privileges::may_open_packet_sockets());
}

fn status(field: &str) -> String {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.expect("a line of that name").trim().to_owned()
}
