//! `mcr run`

use std::path::PathBuf;

use mcr_daemon::log::{LogFormat, LogOptions};
use mcr_daemon::{KeeperChoice, RunOptions, Workers};

use crate::args::{self, Run};
use crate::failure::Failure;

/// Read when no other file is named, and not missed when it is not there.
const DEFAULT_CONFIG: &str = "/etc/mcr/mcr.toml";
/// The same for who may use the API.
const DEFAULT_ACCESS: &str = "/etc/mcr/access.toml";

/// The daemon, until it is told to end.
pub(crate) fn run(args: Run) -> Result<(), Failure> {
    let Run {
        config,
        access,
        socket,
        keeper_socket,
        keeper,
        state_dir,
        clean,
        datapath,
        user,
        workers,
        log_format,
        log,
        debugging,
    } = args;
    let keeper = KeeperChoice { socket: keeper_socket, program: keeper };
    if clean {
        return mcr_daemon::clean(&keeper).map_err(|error| Failure::failed(format!("{error:#}")));
    }
    let format = match log_format {
        args::LogFormat::Text => LogFormat::Text,
        args::LogFormat::Json => LogFormat::Json,
    };
    let options = RunOptions {
        config: config.or_else(|| existing(DEFAULT_CONFIG)),
        socket,
        access: access.or_else(|| existing(DEFAULT_ACCESS)),
        state: state_dir,
        keeper,
        datapath,
        user,
        workers: workers.map_or(Workers::Automatic, Workers::Exactly),
        log: LogOptions { format, filter: log },
        confinement: debugging.confinement(),
    };
    mcr_daemon::run(options).map_err(|error| Failure::failed(format!("{error:#}")))
}

fn existing(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(path);
    // A file that is there and can't be read is an error for the daemon to tell, so only absence counts.
    let is_absent = std::fs::metadata(&path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    (!is_absent).then_some(path)
}
