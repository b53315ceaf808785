//! `mcr rm`

use crate::args::Rm;
use crate::client::Client;
use crate::failure::Failure;

/// Removes the relays in the order that they were named in, and tells of every one that could not be.
pub(crate) fn rm(args: Rm) -> Result<(), Failure> {
    let Rm { names, daemon } = args;
    let client = Client::new(daemon)?;
    let failures: Vec<String> = names
        .iter()
        .filter_map(|name| client.delete(&format!("relays/{name}")).err())
        .map(|failure| failure.to_string())
        .collect();
    if failures.is_empty() { Ok(()) } else { Err(Failure::failed(failures.join("\nmcr: "))) }
}
