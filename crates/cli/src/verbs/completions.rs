//! `mcr completions`

use clap::CommandFactory;

use crate::args::{Args, Completions};
use crate::failure::Failure;
use crate::view::screen::Screen;

/// Prints the completions of a shell.
pub(crate) fn completions(args: Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "mcr", &mut script);
    Screen::stdout().print(&String::from_utf8_lossy(&script))
}
