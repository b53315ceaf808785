//! ARP beside the kernel's own: asking whether another host has an address before this one takes it, and saying that it has
//! taken it (RFC 5227).
//!
//! The questions follow one another faster than in section 2.1.1 of the RFC, which takes 5 to 7 s: who is there answers within
//! milliseconds, and a relay waits.

use std::collections::BTreeMap;
use std::io;
use std::mem::size_of;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::channel::{check, open_socket, retry, set_option};

/// How often is asked, and how long is waited after each question.
const QUESTIONS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(140);
/// A question that nobody has gone on with for so long is begun anew: who has come since was not asked.
const OUTDATED: Duration = Duration::from_secs(5);
/// Bytes of a message about IPv4 and Ethernet.
const BYTES: usize = 28;
/// Its beginning: Ethernet, IPv4, and the lengths of their addresses (RFC 826).
const HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
/// `PACKET_IGNORE_OUTGOING` (`include/uapi/linux/if_packet.h`).
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// ARP on one interface.
#[derive(Debug)]
pub(crate) struct Arp {
    socket: OwnedFd,
    interface: u32,
    /// The interface's own link-layer address.
    own: [u8; 6],
    asked: BTreeMap<Ipv4Addr, Question>,
}

#[derive(Debug)]
struct Question {
    asked: u32,
    last: Instant,
    /// Who has the address.
    rival: Option<[u8; 6]>,
}

/// What is known of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing yet: to be asked for again.
    Open,
    /// Nobody has said that it is his.
    Free,
    /// The host with that link-layer address has it, or wants it, too.
    Taken([u8; 6]),
}

impl Arp {
    /// `None`: hosts do not ask for link-layer addresses there.
    pub(crate) fn open(interface: u32) -> io::Result<Option<Self>> {
        let socket = open_socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, 0)?;
        set_option(socket.as_fd(), libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1_i32)?;
        let here = link_address(interface, [0; 6]);
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: pointer and length describe `here`, which outlives the call.
        check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const here).cast(), length) })?;
        let mut bound = here;
        let mut length = length;
        // SAFETY: the pointers describe `bound` and `length`, which outlive the call.
        check(unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut bound).cast(), &raw mut length) })?;
        if bound.sll_hatype != libc::ARPHRD_ETHER || bound.sll_halen != 6 {
            return Ok(None);
        }
        let mut own = [0; 6];
        own.copy_from_slice(&bound.sll_addr[..6]);
        Ok(Some(Self { socket, interface, own, asked: BTreeMap::new() }))
    }

    /// Asks whether another host has that address, and again with each call until it is known.
    pub(crate) fn ask(&mut self, address: Ipv4Addr) -> io::Result<Verdict> {
        self.listen();
        let now = Instant::now();
        self.asked.retain(|_, question| !question.is_outdated(now));
        if let Some(question) = self.asked.get(&address) {
            if let Some(rival) = question.rival {
                self.asked.remove(&address);
                return Ok(Verdict::Taken(rival));
            }
            if now.duration_since(question.last) < PAUSE {
                return Ok(Verdict::Open);
            }
            if question.asked >= QUESTIONS {
                self.asked.remove(&address);
                return Ok(Verdict::Free);
            }
        }
        // Nobody learns from a question of no sender (section 2.1.1).
        self.send(Ipv4Addr::UNSPECIFIED, address)?;
        let question = self.asked.entry(address).or_insert(Question { asked: 0, last: now, rival: None });
        (question.asked, question.last) = (question.asked + 1, now);
        Ok(Verdict::Open)
    }

    /// The address is not wanted any more.
    pub(crate) fn forget(&mut self, address: Ipv4Addr) {
        self.asked.remove(&address);
    }

    /// About how many addresses is being asked.
    pub(crate) fn count(&self) -> usize {
        self.asked.len()
    }

    /// Whether that is one of them.
    pub(crate) fn is_asking(&self, address: Ipv4Addr) -> bool {
        self.asked.contains_key(&address)
    }

    /// Says that the address is this host's: who knew another for it learns (section 2.3).
    pub(crate) fn announce(&self, address: Ipv4Addr) -> io::Result<()> {
        self.send(address, address)
    }

    fn send(&self, from: Ipv4Addr, about: Ipv4Addr) -> io::Result<()> {
        let message = [&HEAD[..], &REQUEST, &self.own, &from.octets(), &[0; 6], &about.octets()].concat();
        let to = link_address(self.interface, [0xff; 6]);
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        let fd = self.socket.as_raw_fd();
        // SAFETY: both pointers and their lengths describe values that outlive the call.
        let sent =
            || unsafe { libc::sendto(fd, message.as_ptr().cast(), message.len(), 0, (&raw const to).cast(), length) };
        retry(sent).map(drop)
    }

    /// Takes in what others say of the addresses that are asked for.
    fn listen(&mut self) {
        let mut bytes = [0; 64];
        let fd = self.socket.as_raw_fd();
        // SAFETY: the pointer and the length describe `bytes`, which outlives the call.
        while let Ok(length) = retry(|| unsafe { libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), 0) }) {
            let Some((address, rival)) = claim(&bytes[..length]).filter(|(_, rival)| *rival != self.own) else {
                continue;
            };
            if let Some(question) = self.asked.get_mut(&address) {
                question.rival = Some(rival);
            }
        }
    }
}

impl Question {
    fn is_outdated(&self, now: Instant) -> bool {
        now.duration_since(self.last) > OUTDATED
    }
}

/// Who has an address, or asks for it to take it (section 2.1.1).
fn claim(message: &[u8]) -> Option<(Ipv4Addr, [u8; 6])> {
    let message = message.get(..BYTES)?;
    let (head, rest) = message.split_at(HEAD.len());
    let address = |at: usize| Ipv4Addr::from([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
    let hardware = rest[2..8].try_into().ok()?;
    let (sender, target) = (address(8), address(18));
    let is_question = sender.is_unspecified() && rest[..2] == REQUEST;
    (head == HEAD).then_some((if is_question { target } else { sender }, hardware))
}

fn link_address(interface: u32, to: [u8; 6]) -> libc::sockaddr_ll {
    // SAFETY: all-zero bytes are a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = (libc::ETH_P_ARP as u16).to_be();
    address.sll_ifindex = interface.cast_signed();
    address.sll_halen = 6;
    address.sll_addr[..6].copy_from_slice(&to);
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_that_nobody_went_on_with_is_begun_anew() {
        let last = Instant::now();
        let question = Question { asked: QUESTIONS, last, rival: None };
        assert!(!question.is_outdated(last + PAUSE) && question.is_outdated(last + OUTDATED + PAUSE));
    }

    #[test]
    fn who_has_an_address_and_who_wants_it_is_told_from_who_asks_for_it() {
        let message = |operation: u8, sender: [u8; 4], target: [u8; 4]| {
            [&HEAD[..], &[0, operation], &[2, 0, 0, 0, 0, 9], &sender, &[0; 6], &target].concat()
        };
        let (ours, other, none) = ([10, 1, 0, 77], [10, 1, 0, 20], [0; 4]);
        let rival = [2, 0, 0, 0, 0, 9];
        assert_eq!(claim(&message(2, ours, other)), Some((ours.into(), rival)), "an answer");
        assert_eq!(claim(&message(1, none, ours)), Some((ours.into(), rival)), "somebody is about to take it");
        assert_eq!(claim(&message(1, other, ours)), Some((other.into(), rival)), "somebody looks for it");
        assert_eq!(claim(&message(1, ours, ours)), Some((ours.into(), rival)), "somebody says that it is his");
        assert_eq!(claim(&message(1, ours, ours)[..27]), None);
        let mut of_another_kind = message(2, ours, other);
        of_another_kind[1] = 6;
        assert_eq!(claim(&of_another_kind), None);
    }
}
