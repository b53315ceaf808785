//! What the loop waits for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Instant;

use super::Service;
use super::visitors::Role;
use crate::channel::check;

/// What a wait brought.
pub(super) struct Ready {
    pub(super) signal: bool,
    pub(super) departure: bool,
    /// Somebody has changed rules of nftables.
    pub(super) rules: bool,
    pub(super) query: bool,
    pub(super) visitors: Vec<usize>,
    pub(super) listener: bool,
}

impl Service {
    pub(super) fn wait(&mut self) -> io::Result<Ready> {
        let left = |until: Option<Instant>| {
            until.map(|until| until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
        };
        let (deaf, mend) = (left(self.deaf_until), left(self.mend_at));
        let store = self.store_at.map(|at| at.saturating_duration_since(Instant::now()));
        // One more, so that the time is over when poll is.
        let timeout =
            deaf.into_iter().chain(mend).chain(store).min().map_or(-1, |left| left.as_millis() as libc::c_int + 1);
        let listener = self.listener.as_ref().filter(|_| deaf.is_none());
        let hears = listener.is_some();
        let listener = listener.map(|listener| readable(listener.as_fd()));
        let visitors = self.visitors.iter().map(|visitor| readable(visitor.channel.as_fd()));
        let [igmp, mld] = self.holdings.queries().map(|socket| socket.map_or(UNUSED, readable));
        let rules = self.holdings.rule_changes().filter(|_| mend.is_none()).map_or(UNUSED, readable);
        let own = [readable(self.signals.as_fd()), readable(self.holdings.departures()), rules, igmp, mld];
        let mut polled: Vec<libc::pollfd> = own.into_iter().chain(visitors).chain(listener).collect();
        loop {
            // SAFETY: the pointer and the length describe `polled`, which outlives the call.
            let result = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout) };
            match check(result) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let is_ready = |index: usize| polled[index].revents != 0;
        let mut visitors: Vec<usize> = (0..self.visitors.len()).filter(|index| is_ready(own.len() + index)).collect();
        visitors.sort_by_key(|index| self.visitors[*index].role != Role::Daemon);
        let listener = hears && is_ready(own.len() + self.visitors.len());
        Ok(Ready {
            signal: is_ready(0),
            departure: is_ready(1),
            rules: is_ready(2),
            query: is_ready(3) || is_ready(4),
            visitors,
            listener,
        })
    }
}

impl Ready {
    /// Whether what is held may have changed.
    pub(super) fn is_news(&self) -> bool {
        self.signal || self.departure || !self.visitors.is_empty()
    }
}

/// What poll passes over.
const UNUSED: libc::pollfd = libc::pollfd { fd: -1, events: 0, revents: 0 };

fn readable(fd: BorrowedFd<'_>) -> libc::pollfd {
    libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }
}
