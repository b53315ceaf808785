//! `mcr add --lease TIME --hold`: a relay that lives as long as this command.

use std::time::Instant;

use mcr_model::{Lease, RelayName};

use crate::client::Client;
use crate::failure::Failure;
use crate::interrupt::Interrupt;

/// Renews the lease until somebody ends this command, then removes the relay. A command that is killed leaves that to
/// the end of the lease.
pub(crate) fn hold(client: &Client, name: &RelayName, lease: Lease, interrupt: &Interrupt) -> Result<(), Failure> {
    // Two renewals may fail before the lease is over.
    let pause = lease.length() / 3;
    let mut end = Instant::now() + lease.length();
    let mut next = Instant::now() + pause;
    loop {
        interrupt.sleep_until(next);
        if interrupt.is_asked() {
            return client.delete(&format!("relays/{name}")).map(drop);
        }
        next = Instant::now() + pause;
        match client.try_put(&format!("relays/{name}/lease"), format!("{{\"lease\": \"{lease}\"}}")) {
            Ok(Ok(_)) => end = Instant::now() + lease.length(),
            // Somebody removed it, or the daemon was started again without it.
            Ok(Err(refusal)) => return Err(refusal),
            Err(failure) if Instant::now() >= end => {
                return Err(Failure::failed(format!("relay {name} could not be renewed in time: {failure}")));
            }
            // The daemon may be starting again.
            Err(_) => {}
        }
    }
}
