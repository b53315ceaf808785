//! Addresses that output interfaces have for the sake of relays.

use std::io;
use std::net::IpAddr;

use super::Holdings;
use super::refusal::{full, invalid, system};
use crate::interface::label;
use crate::own_address::Taken;
use crate::policy::Use;
use crate::protocol::{Failure, FailureKind, Reply};

/// Most addresses; the kernel looks through the list of an interface for each that comes or goes.
const MAX_ADDRESSES: usize = 1_024;

impl Holdings {
    pub(super) fn add_address(&mut self, interface: u32, address: IpAddr) -> Result<Reply, Failure> {
        let name = self.permit(Use::Output, interface)?;
        if address.is_multicast() || address.is_unspecified() || address.is_loopback() {
            return Err(invalid(&format!("an address {address} on {name}, which is no address of a host")));
        }
        if !self.policy.allows_source(&name, address) {
            return Err(self.foreign_source(&name, address));
        }
        if self.own_addresses.count() >= MAX_ADDRESSES && !self.own_addresses.knows(interface, address) {
            let what =
                format!("can not add {address} to {name}: {MAX_ADDRESSES} addresses are held or asked for already");
            return Err(full(what, "leave own_source out where nobody asks for the source"));
        }
        match self.own_addresses.take((interface, &name), address) {
            Ok(Taken::Added) => {
                self.notices.push(format!("{address} is added to {name}, for a relay that sends with it"));
                Ok(Reply::Done)
            }
            Ok(Taken::There) => Ok(Reply::Done),
            Ok(Taken::Checking) => Ok(Reply::Checking),
            Ok(Taken::ByAnother(rival)) => Err(taken(&name, address, rival)),
            Err(error) => Err(system(format!("can not add {address} to {name}"), &error, add_remedy(&error))),
        }
    }

    pub(super) fn remove_address(&mut self, interface: u32, address: IpAddr) -> Result<(), Failure> {
        let name = label(interface);
        let removed = self.own_addresses.give_back(interface, address).map_err(|error| {
            let remedy = format!("remove it by hand: `ip address del {address} dev {name}`");
            system(format!("can not remove {address} from {name}"), &error, &remedy)
        })?;
        if removed {
            self.notices.push(format!("{address} is removed from {name}: no relay sends with it any more"));
        }
        Ok(())
    }

    /// Removes what the policy does not let interfaces have any more.
    pub(super) fn take_away_forbidden_addresses(&mut self) {
        let is_allowed = |(interface, address): &(u32, IpAddr)| {
            let name = crate::interface::name(*interface).ok().flatten();
            name.is_some_and(|name| self.policy.allows_source(&name, *address))
        };
        for (interface, address) in self.own_addresses.iter().filter(|held| !is_allowed(held)).collect::<Vec<_>>() {
            self.take_away(interface, address, "the policy forbids it");
        }
    }

    /// Removes all of an interface that is no output any more.
    pub(super) fn take_away_addresses(&mut self, interface: u32) -> bool {
        self.own_addresses.end_questions_on(interface);
        let addresses: Vec<IpAddr> = self.own_addresses.on(interface).collect();
        for address in &addresses {
            self.take_away(interface, *address, "the policy does not let it be an output");
        }
        !addresses.is_empty()
    }

    fn take_away(&mut self, interface: u32, address: IpAddr, why: &str) {
        let name = label(interface);
        let told = match self.own_addresses.give_back(interface, address) {
            Ok(_) => format!("{address} is taken away from {name}: {why}"),
            Err(error) => format!("{address} can not be removed from {name}, although {why}: {error}"),
        };
        self.notices.push(told);
    }

    /// What the administrator should find in the log, since this was asked last.
    pub(crate) fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    fn foreign_source(&self, name: &str, address: IpAddr) -> Failure {
        let allowed = self.policy.allowed_sources(name);
        Failure {
            kind: FailureKind::Policy,
            errno: None,
            reason: format!("the keeper's policy does not allow to add {address} to {name} (allowed: {allowed})"),
            remedy: format!(
                "write `[source_addresses]` and `{name} = [\"{address}\"]` (or a network) in the keeper's policy \
                 (/etc/mcr/policy.toml) and have it read again (systemctl reload mcr-netd, or kill -HUP {}), or leave own_source out",
                std::process::id()
            ),
        }
    }
}

fn taken(name: &str, address: IpAddr, rival: Option<[u8; 6]>) -> Failure {
    let who = rival.map_or(String::new(), |[a, b, c, d, e, f]| {
        format!(": {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} answers for it")
    });
    Failure {
        kind: FailureKind::System,
        errno: Some(libc::EADDRINUSE),
        reason: format!("another host on {name} has {address}{who}"),
        remedy: "use another source, or take the address from that host; it is tried again".to_owned(),
    }
}

fn add_remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EACCES) => {
            "switch IPv6 on there (sysctl net.ipv6.conf.*.disable_ipv6=0), and an MTU of at least 1280"
        }
        Some(libc::ENETDOWN) => "nothing: it is added when the interface is up",
        _ => "check the interface (ip address show)",
    }
}
