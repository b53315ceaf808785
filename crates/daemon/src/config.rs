//! The configuration file: TOML text to checked relays, or everything that is wrong with it at once.
//!
//! The text goes through three steps, each of which knows where in the text it is: the TOML grammar, the shape of the
//! keys (`shape`), and the meaning of the values ([`mcr_model::spec::RelaySpec::check`], then the engine's rules on
//! how relays fit beside each other). A later step runs only on what the earlier ones left sound, so that one
//! mistake is told once.

mod finding;
mod meaning;
mod permission;
mod report;
mod shape;
mod template;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use mcr_model::FieldError;
use mcr_model::relay::Relay;
use toml::de::DeTable;

use finding::{Finding, Findings};
pub use permission::forbidden;

/// The largest file that is read, in bytes. 10,000 relays with four outputs each take about half of it.
pub const MAX_BYTES: usize = 8 << 20;

/// Up to this size, in bytes, every grammatical mistake is told and not only the first: a file that is no TOML at all
/// has one in each line, and each costs memory.
const MAX_BYTES_ALL_MISTAKES: usize = 256 << 10;

/// What is wrong with a configuration file. Its text is for a terminal: each mistake with its line, the offending
/// part underlined, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    rendered: String,
    plain: Vec<String>,
    fields: Vec<FieldError>,
}

/// A configuration that was checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Its text.
    pub text: String,
    /// What it means.
    pub relays: Vec<Relay>,
}

/// The relays of the file at `path`.
///
/// # Errors
/// A sentence when it can't be read, or everything that is wrong in it.
pub fn load(path: &Path) -> Result<Vec<Relay>, ConfigError> {
    read_checked(path).map(|configuration| configuration.relays)
}

/// The configuration in the file at `path`.
///
/// # Errors
/// A sentence when it can't be read, or everything that is wrong in it.
pub fn read_checked(path: &Path) -> Result<Configuration, ConfigError> {
    parse(&path.display().to_string(), read_text(path)?)
}

/// The configuration that `text` is; `name` is how mistakes name the file.
///
/// # Errors
/// Everything that is wrong in it.
pub fn parse(name: &str, text: String) -> Result<Configuration, ConfigError> {
    check_text(name, &text).map(|relays| Configuration { text, relays })
}

/// The text of the file at `path`.
///
/// # Errors
/// A sentence when it can't be read.
pub fn read_text(path: &Path) -> Result<String, ConfigError> {
    let name = path.display().to_string();
    let bytes = read(path).map_err(|error| unreadable(&name, &error))?;
    if bytes.len() > MAX_BYTES {
        let limit = MAX_BYTES >> 20;
        return Err(ConfigError::sentence(format!(
            "the configuration {name} is larger than {limit} MiB and is not read; is it the right file?"
        )));
    }
    String::from_utf8(bytes).map_err(|error| not_utf8(&name, error.as_bytes(), error.utf8_error().valid_up_to()))
}

/// The relays of `text`; `name` is how mistakes name the file.
///
/// # Errors
/// Everything that is wrong in it.
pub fn check_text(name: &str, text: &str) -> Result<Vec<Relay>, ConfigError> {
    check(text).map_err(|findings| report::report(name, text, findings))
}

fn check(text: &str) -> Result<Vec<Relay>, Vec<Finding>> {
    let document = grammar(text)?;
    let mut findings = Findings::default();
    let shaped = shape::config(document.get_ref(), &mut findings);
    let relays = meaning::relays(document.get_ref(), &shaped, &mut findings);
    findings.into_result().map(|()| relays)
}

fn grammar(text: &str) -> Result<toml::Spanned<DeTable<'_>>, Vec<Finding>> {
    if text.len() > MAX_BYTES_ALL_MISTAKES {
        return DeTable::parse(text).map_err(|error| vec![Finding::of_grammar(&error)]);
    }
    match DeTable::parse_recoverable(text) {
        (document, errors) if errors.is_empty() => Ok(document),
        (_, errors) => Err(errors.iter().map(Finding::of_grammar).collect()),
    }
}

/// At most one byte more than [`MAX_BYTES`], so that an endless file is not read to its end.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(name: &str, error: &io::Error) -> ConfigError {
    ConfigError::sentence(match error.kind() {
        io::ErrorKind::NotFound => {
            format!("there is no configuration file {name}; create it, or name another file")
        }
        io::ErrorKind::PermissionDenied => {
            format!("no permission to read the configuration {name}; make it readable for this user (`ls -l {name}`)")
        }
        io::ErrorKind::IsADirectory => {
            format!("the configuration {name} is a directory; name a file, for example {name}/mcr.toml")
        }
        _ => format!("can not read the configuration {name}: {error}; check the path with `ls -l {name}`"),
    })
}

fn not_utf8(name: &str, bytes: &[u8], offset: usize) -> ConfigError {
    let line = 1 + bytes[..offset].iter().filter(|byte| **byte == b'\n').count();
    ConfigError::sentence(format!(
        "the configuration {name} is not UTF-8: byte {offset} (0x{:02x}, in line {line}) belongs to no character; save \
         the file as UTF-8",
        bytes[offset]
    ))
}

impl ConfigError {
    fn sentence(text: String) -> Self {
        let only = FieldError::new("", text.clone(), "");
        Self { plain: vec![text.clone()], rendered: text, fields: vec![only] }
    }

    /// The mistakes for a log: one line each, as `file:line:column: what is wrong; what to do`, joined by ` | `.
    pub fn plain(&self) -> String {
        self.plain.join(" | ")
    }

    /// The mistakes with the fields that they are about.
    pub fn fields(&self) -> &[FieldError] {
        &self.fields
    }

    /// The mistakes, one line each, as in [`ConfigError::plain`].
    pub fn mistakes(&self) -> &[String] {
        &self.plain
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered)
    }
}

impl std::error::Error for ConfigError {}
