//! Programs and protocols that people really have on both sides of a relay, each asserted where it arrives. ffmpeg is in
//! `players.rs`.

mod discovery;
mod media;
mod opc_ua;
mod plant;

use std::process::Command;

use mcr_testbed::Namespace;

/// A command that runs after a script of mounts that nobody else sees.
fn command_with_mounts(namespace: &Namespace, mounts: &str, program: &str) -> Command {
    let mut command = namespace.command("unshare");
    command.args(["--mount", "sh", "-c", &format!("{mounts} && exec \"$@\""), "sh", program]);
    command
}
