//! Runs the binary.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A command with nothing of this environment that changes what it says.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcr"));
    command.args(arguments).env_clear().env("COLUMNS", "100").stdin(Stdio::null());
    command
}

/// What a run came to, as a snapshot shows it.
pub(crate) fn shown(output: &Output, directory: &Path) -> String {
    let clean = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&*directory.to_string_lossy(), "/run/test");
    let mut text = format!("exit {}\n", output.status.code().expect("it ended by itself"));
    for (name, stream) in [("stdout", clean(&output.stdout)), ("stderr", clean(&output.stderr))] {
        if !stream.is_empty() {
            text.push_str(&format!("--- {name}\n{stream}"));
        }
    }
    text
}

/// Runs against the daemon of `directory`.
pub(crate) fn run(directory: &Path, arguments: &[&str]) -> String {
    let output = command(arguments).env("MCR_SOCKET", directory.join("mcr.sock")).output().unwrap();
    shown(&output, directory)
}
