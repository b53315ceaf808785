//! Who asks for memberships on which link, and speaking up there beside the kernel: asking in the place of a router, and
//! reporting what is joined once more.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::board::{self, HeardQuerier};
use crate::igmp::Igmp;
use crate::membership::Family;
use crate::mld::Mld;
use crate::report::Membership;

/// Most pairs of an interface and a querier that are remembered.
const MOST_HEARD: usize = 1_024;
/// Most of one interface and family. It has one querier but for a moment; whoever sends queries from many addresses gets no more.
const MOST_OF_AN_INTERFACE: usize = 8;
/// How long others wait for a querier before one of them takes its place (RFC 3376 section 8.5, RFC 3810 section 9.5).
const PRESENCE: Duration = Duration::from_secs(255);
/// Most messages of a family that are read at once.
const MOST_AT_ONCE: usize = 256;

/// Who asked on which interface, and when last.
#[derive(Debug)]
pub(crate) struct Queries {
    igmp: Igmp,
    /// `None`: this kernel has no IPv6.
    mld: Option<Mld>,
    heard: Heard,
}

/// When each querier of an interface was heard last, by `CLOCK_MONOTONIC`.
#[derive(Debug, Default)]
struct Heard(BTreeMap<(u32, IpAddr), Duration>);

impl Queries {
    /// Listens on all interfaces from now on.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { igmp: Igmp::open()?, mld: Mld::open().ok(), heard: Heard::default() })
    }

    /// What is readable when somebody has asked.
    pub(crate) fn sockets(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [Some(self.igmp.as_fd()), self.mld.as_ref().map(AsFd::as_fd)]
    }

    /// Takes note of what has come.
    pub(crate) fn take(&mut self) {
        for _ in 0..MOST_AT_ONCE {
            let Ok((interface, querier)) = self.igmp.next_query() else { break };
            self.heard.note(interface, querier, board::now());
        }
        if let Some(mld) = &mut self.mld {
            for _ in 0..MOST_AT_ONCE {
                let Ok(query) = mld.next_query() else { break };
                query.into_iter().for_each(|(interface, querier)| self.heard.note(interface, querier, board::now()));
            }
        }
    }

    /// Knows of none on an interface that is gone.
    pub(crate) fn forget(&mut self, interface: u32) {
        self.heard.0.retain(|(index, _), _| *index != interface);
        self.mld.iter_mut().for_each(|mld| mld.forget(interface));
    }

    /// Everybody who has asked.
    pub(crate) fn heard(&self) -> Vec<HeardQuerier> {
        let heard = self.heard.0.iter();
        heard.map(|(&(interface, querier), &at)| HeardQuerier { interface, querier, at }).collect()
    }

    /// Asks everybody on the link of an interface for their memberships, this host too.
    pub(crate) fn ask(&self, interface: u32, family: Family) -> io::Result<()> {
        match family {
            Family::V4 => self.igmp.ask(interface),
            Family::V6 => self.mld()?.ask(interface),
        }
    }

    /// Asks who on the link of an interface wants this group.
    pub(crate) fn ask_for(&self, interface: u32, group: IpAddr) -> io::Result<()> {
        match group {
            IpAddr::V4(group) => self.igmp.ask_for(interface, group),
            IpAddr::V6(group) => self.mld()?.ask_for(interface, group),
        }
    }

    /// Reports memberships on an interface.
    pub(crate) fn report(&self, interface: u32, memberships: Vec<Membership>) -> io::Result<()> {
        let (of_ipv4, of_ipv6): (Vec<_>, Vec<_>) = memberships.into_iter().partition(|(group, _)| group.is_ipv4());
        self.igmp.report(interface, &of_ipv4)?;
        if of_ipv6.is_empty() { Ok(()) } else { self.mld()?.report(interface, &of_ipv6) }
    }

    fn mld(&self) -> io::Result<&Mld> {
        self.mld.as_ref().ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
    }
}

impl Heard {
    /// Room is made by who has been silent for too long to be the querier, then by the highest address: the lowest is the
    /// querier (RFC 3376 section 6.6.2).
    fn note(&mut self, interface: u32, querier: IpAddr, now: Duration) {
        self.0.insert((interface, querier), now);
        let (first, last): (IpAddr, IpAddr) = match querier {
            IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into()),
            IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::from([0xff; 16]).into()),
        };
        let of_interface = self.0.range((interface, first)..=(interface, last));
        if of_interface.clone().count() > MOST_OF_AN_INTERFACE {
            let is_silent = |at: &Duration| now.saturating_sub(*at) > PRESENCE;
            let least = of_interface.max_by_key(|((_, querier), at)| (is_silent(at), *querier)).map(|(key, _)| *key);
            least.map(|key| self.0.remove(&key));
        }
        if self.0.len() > MOST_HEARD {
            let oldest = self.0.iter().min_by_key(|(_, at)| **at).map(|(key, _)| *key);
            oldest.map(|key| self.0.remove(&key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_queriers_do_not_displace_the_real_one_nor_those_of_other_interfaces() {
        let (mut heard, address) = (Heard::default(), |last: u32| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + last)));
        heard.note(1, address(9), Duration::ZERO);
        heard.note(2, address(5), Duration::ZERO);
        let of_ipv6 = IpAddr::from(Ipv6Addr::LOCALHOST);
        heard.note(2, of_ipv6, Duration::ZERO);
        for forged in 100..3_000 {
            heard.note(2, address(forged), Duration::from_secs(1));
        }
        let of_2 = std::iter::once(5).chain(100..=106).map(|querier| (2, address(querier)));
        let expected: Vec<_> = std::iter::once((1, address(9))).chain(of_2).chain([(2, of_ipv6)]).collect();
        assert_eq!(heard.0.keys().copied().collect::<Vec<_>>(), expected);
        // One that has been silent for long makes room also when it is the lowest.
        heard.note(2, address(200), PRESENCE + Duration::from_millis(500));
        assert!(!heard.0.contains_key(&(2, address(5))) && heard.0.contains_key(&(2, address(200))));
    }
}
