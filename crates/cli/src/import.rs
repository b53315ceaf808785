//! Other tools' configurations as relays. What has no equivalent becomes a comment that says why.

pub(crate) mod smcroute;
pub(crate) mod socat;

use mcr_daemon::config;
use mcr_model::spec::{ConfigSpec, RelaySpec};

/// A configuration while it is being written.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum Piece {
    Comment(String),
    Relay(RelaySpec),
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
        self.pieces.push(Piece::Relay(RelaySpec { name, ..spec }));
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

fn toml(relay: &RelaySpec) -> String {
    let config = ConfigSpec { relay: vec![relay.clone()] };
    toml::to_string(&config).unwrap_or_default() + "\n"
}

fn refused(relay: &RelaySpec, error: &config::ConfigError) -> String {
    let why = error.fields().last().map(ToString::to_string).unwrap_or_default();
    commented(&format!("This one is refused: {why}\n{}", toml(relay).trim_end())) + "\n"
}

fn commented(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "#\n".to_owned() } else { format!("# {line}\n") }).collect()
}

/// A relay with nothing in it yet.
fn empty() -> RelaySpec {
    RelaySpec {
        name: String::new(),
        input: mcr_model::spec::InputSpec::default(),
        output: Vec::new(),
        link_local: false,
        allow_ptp: false,
    }
}
