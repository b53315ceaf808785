//! The log: structured lines on standard error, as text for people and the journal, or as JSON for machines.

use std::fmt;
use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;

use mcr_model::trouble::{Trouble, TroubleKind};
use mcr_netd::standard_error::{self, StandardError};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people; without a time of its own when the journal adds one.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// How a line looks.
    pub format: LogFormat,
    /// What is logged, as `info` or `info,mcr_engine=debug`.
    pub filter: String,
}

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter makes no sense.
    #[error(
        "{filter:?} is no log filter ({reason}); write a level (error, warn, info, debug, trace), or info,mcr_engine=debug"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What the parser says.
        reason: String,
    },
    /// There is a subscriber already.
    #[error("this process logs already; start logging once")]
    Twice,
}

/// Starts to log to standard error.
///
/// # Errors
/// [`LogError`].
pub fn init(options: &LogOptions) -> Result<(), LogError> {
    let LogOptions { format, filter } = options;
    let filter = parse(filter)?;
    let builder = tracing_subscriber::fmt().with_writer(|| StandardError).with_env_filter(filter);
    let builder = builder.with_ansi(io::stderr().is_terminal());
    let started = match format {
        LogFormat::Json => builder.json().flatten_event(true).finish_as_default(),
        LogFormat::Text if stderr_is_journal() => {
            let plain = Format::default().without_time().with_ansi(false);
            builder.event_format(Journal(plain)).finish_as_default()
        }
        LogFormat::Text => builder.finish_as_default(),
    };
    started.map_err(|_| LogError::Twice)
}

/// That nobody reads what is logged, while it is so. Relaying does not wait for it.
pub(crate) fn trouble() -> Option<Trouble> {
    let lost = standard_error::untold();
    (lost > 0).then(|| Trouble {
        kind: TroubleKind::LogUnread,
        relay: None,
        message: format!("nobody reads the log: standard error is full, and {lost} messages are lost"),
        remedy: "read it, or start the daemon with its standard error in a file or the journal".to_owned(),
    })
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|error| LogError::Filter { filter: filter.to_owned(), reason: error.to_string() })
}

trait FinishAsDefault {
    fn finish_as_default(self) -> Result<(), tracing::subscriber::SetGlobalDefaultError>;
}

impl<N, E, F, W> FinishAsDefault for tracing_subscriber::fmt::SubscriberBuilder<N, E, F, W>
where
    tracing_subscriber::fmt::Subscriber<N, E, F, W>: Subscriber + Send + Sync,
    Self: Into<tracing::Dispatch>,
{
    fn finish_as_default(self) -> Result<(), tracing::subscriber::SetGlobalDefaultError> {
        tracing::dispatcher::set_global_default(self.into())
    }
}

/// Whether standard error is the socket that systemd connected to the journal: `$JOURNAL_STREAM` names its device
/// and inode (systemd.exec(5)). A child with its output redirected inherits the variable, hence the comparison.
fn stderr_is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|stderr| names(&stream, stderr.dev(), stderr.ino()))
}

fn names(stream: &str, device: u64, inode: u64) -> bool {
    stream.split_once(':') == Some((&device.to_string(), &inode.to_string()))
}

/// Text with the level as the prefix that the journal turns into a priority (sd-daemon(3)), and no time: the journal
/// has its own.
struct Journal(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        writer.write_str(priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_recognised_by_device_and_inode() {
        assert!(names("8:1234", 8, 1234));
        for other in ["", "8", "8:", ":1234", "8:12345", "9:1234", "8:1234:"] {
            assert!(!names(other, 8, 1234), "{other:?}");
        }
    }

    #[test]
    fn a_bad_filter_is_a_sentence() {
        for good in ["info", "info,mcr_engine=debug", "off"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        let error = parse("mcr_engine=loud").unwrap_err().to_string();
        assert!(error.starts_with("\"mcr_engine=loud\" is no log filter"), "{error}");
    }
}
