//! Other tools' configurations as relays. What has no equivalent becomes a comment that says why.

pub(crate) mod smcroute;
pub(crate) mod socat;

use mcr_daemon::config;
use mcr_model::prefix::PrefixError;
use mcr_model::spec::RelaySpec;
use mcr_model::{FieldError, Prefix};
use serde::Serialize;

/// A configuration while it is being written.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum Piece {
    Comment(String),
    Relay(Box<RelaySpec>),
}

impl Draft {
    /// Adds a comment; each line of it becomes one.
    pub(crate) fn comment(&mut self, text: impl Into<String>) {
        self.pieces.push(Piece::Comment(text.into()));
    }

    /// Adds a relay, named `name` or, when that is taken, with a number after it.
    pub(crate) fn relay(&mut self, name: &str, spec: RelaySpec) {
        let taken =
            |name: &str| self.pieces.iter().any(|piece| matches!(piece, Piece::Relay(relay) if relay.name == name));
        let mut numbered = (2..).map(|number| format!("{name}-{number}"));
        let name = if taken(name) { numbered.find(|name| !taken(name)).unwrap_or_default() } else { name.to_owned() };
        self.pieces.push(Piece::Relay(Box::new(RelaySpec { name, ..spec })));
    }

    /// How many relays there are.
    pub(crate) fn relays(&self) -> usize {
        self.pieces.iter().filter(|piece| matches!(piece, Piece::Relay(_))).count()
    }

    /// The text. `mcr check` accepts it: a relay that would be refused is a comment that says why.
    pub(crate) fn text(&self) -> String {
        let whole: String = self.pieces.iter().map(|piece| piece.text()).collect();
        if config::check_text("", &whole).is_ok() {
            return whole;
        }
        let mut text = String::new();
        for piece in &self.pieces {
            let longer = text.clone() + &piece.text();
            match (piece, config::check_text("", &longer)) {
                (Piece::Relay(relay), Err(error)) => text.push_str(&refused(relay, &error)),
                _ => text = longer,
            }
        }
        text
    }
}

impl Piece {
    fn text(&self) -> String {
        match self {
            Self::Comment(text) => commented(text),
            Self::Relay(relay) => toml(relay),
        }
    }
}

/// The sources of `ADDRESS[/LENGTH]`, as other tools take it: whatever is set behind the length does not count.
fn sources(text: &str) -> Result<String, String> {
    match text.parse::<Prefix>() {
        Ok(range) | Err(PrefixError::HostBits { range, .. }) => Ok(range.to_string()),
        Err(PrefixError::Shape { .. }) => Err(format!("{text} is no address and no prefix")),
    }
}

/// One relay as a person writes it: a line for the input, one for each output.
fn toml(relay: &RelaySpec) -> String {
    let outputs: String = relay.output.iter().map(|output| format!("    {},\n", inline(output))).collect();
    let (name, input) = (inline(&relay.name), inline(&relay.input));
    format!("[[relay]]\nname   = {name}\ninput  = {input}\noutput = [\n{outputs}]\n\n")
}

fn inline<T: Serialize>(part: &T) -> String {
    let mut text = String::new();
    match part.serialize(toml::ser::ValueSerializer::new(&mut text)) {
        Ok(_) => text,
        Err(error) => unreachable!("texts and numbers are TOML: {error}"),
    }
}

fn refused(relay: &RelaySpec, error: &config::ConfigError) -> String {
    let why = error.fields().last().map_or_else(String::new, |last| {
        // The number of the relay means nothing to who has not seen it.
        let field = last.field.split_once("].").map_or("", |(_, field)| field);
        FieldError { field: field.to_owned(), ..last.clone() }.to_string()
    });
    commented(&format!("This one is refused: {why}\n{}", toml(relay).trim_end())) + "\n"
}

fn commented(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("# {line}\n") }).collect()
}
