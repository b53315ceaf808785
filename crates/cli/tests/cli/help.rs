//! Help texts: they are what most people read of a manual.

use insta::assert_snapshot;

use crate::mcr::run;

#[test]
fn help() {
    let directory = std::path::Path::new("/nowhere");
    assert_snapshot!("help", run(directory, &["--help"]));
    for verb in [
        "relay",
        "run",
        "add",
        "rm",
        "show",
        "list",
        "stats",
        "status",
        "top",
        "wait",
        "check",
        "explain",
        "doctor",
        "discover",
        "send",
        "listen",
        "completions",
    ] {
        assert_snapshot!(format!("help_{verb}"), run(directory, &[verb, "-h"]));
    }
}

#[test]
fn completions_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = run(std::path::Path::new("/nowhere"), &["completions", shell]);
        assert!(text.starts_with("exit 0\n--- stdout\n") && text.contains("completions"), "{shell}: {text}");
    }
}
