//! `mcr wait`: for scripts that start a relay and must not send before it listens.

use mcr_model::duration;
use mcr_model::status::RelayStatus;

use crate::args::{Format, Wait};
use crate::client::Client;
use crate::failure::Failure;
use crate::view::screen::{Screen, state_style};

/// Returns when it is so; a failure when the time is over.
pub(crate) fn wait(args: Wait) -> Result<(), Failure> {
    let Wait { name, until, timeout, daemon, output } = args;
    let path = format!("relays/{name}/wait?for={until}&timeout={}", duration::text(timeout));
    let answer = Client::new(daemon)?.get_waiting(&path, timeout)?;
    let screen = Screen::stdout();
    match output.format {
        Format::Json => screen.print(&answer.json()),
        Format::Text => {
            let relay: RelayStatus = answer.read()?;
            let state = screen.ink().paint(state_style(relay.state), relay.state.name());
            screen.print(&format!("{name} is {state}: {}\n", relay.reason))
        }
    }
}
