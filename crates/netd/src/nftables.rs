//! The table of nftables that drops what leaves on an interface that is closed (`net/netfilter/nf_tables_api.c`).
//!
//! ```text
//! table netdev mcr_one_way_… { chain 0 { type filter hook egress device ot0 priority -500; meta mark … drop; meta skuid … drop } }
//! ```
//!
//! The egress hook is passed by all frames, also by those that are sent around the queueing discipline
//! (`net/packet/af_packet.c: packet_direct_xmit`) or through an interface on top.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::netlink::{Message, Read, Socket, attributes, messages};

/// `NFPROTO_NETDEV` (`include/uapi/linux/netfilter.h`).
const NETDEV: u8 = 5;
/// `NF_NETDEV_EGRESS`.
const EGRESS: u32 = 1;
/// Before whatever else filters there.
const PRIORITY: i32 = -500;
/// `NFNL_SUBSYS_NFTABLES` (`include/uapi/linux/netfilter/nfnetlink.h`).
const NFTABLES: u16 = 10;
/// `NFNLGRP_NFTABLES`: where changes are told.
const NFNLGRP_NFTABLES: libc::c_int = 7;
/// Bytes of `struct nfgenmsg`.
const FAMILY_BYTES: usize = 4;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

/// The commands of `enum nf_tables_msg_types` (`include/uapi/linux/netfilter/nf_tables.h`) that are used here.
#[derive(Debug, Clone, Copy)]
enum Command {
    NewTable = 0,
    GetTable = 1,
    DeleteTable = 2,
    NewChain = 3,
    NewRule = 6,
}

/// What of a frame is looked at: `enum nft_meta_keys`.
#[derive(Debug, Clone, Copy)]
enum Meta {
    Mark = 3,
    SocketUser = 10,
}

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_HOOK_DEV: u16 = 3;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
/// `NFT_REG_VERDICT`, and the first that holds data.
const VERDICT_REGISTER: u32 = 0;
const REGISTER: u32 = 1;
/// `NFT_CMP_EQ`.
const EQUAL: u32 = 0;
/// `NF_DROP`.
const DROP: u32 = 0;

/// Makes and removes tables.
#[derive(Debug)]
pub(crate) struct Hand {
    socket: Socket,
    /// By which its changes are told from those of others.
    number: u32,
}

/// Hears of everything that is done to tables of nftables, by anybody.
#[derive(Debug)]
pub(crate) struct Watch(Socket);

impl Watch {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Socket::open(libc::NETLINK_NETFILTER)?;
        socket.listen(NFNLGRP_NFTABLES)?;
        Ok(Self(socket))
    }

    /// Whether another hand has changed that table, or may have, since this was asked last.
    pub(crate) fn is_touched(&self, table: &str, own: &Hand) -> bool {
        let mut is_touched = false;
        loop {
            match self.0.receive_now() {
                Ok(bytes) => {
                    is_touched |= messages(&bytes).any(|read| is_by_another(&read, own) && is_of(&read, table))
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return is_touched,
                // Some of it was lost.
                Err(_) => return true,
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What the kernel does by itself, as when an interface goes, nobody has asked for: it has no number.
fn is_by_another(read: &Read<'_>, own: &Hand) -> bool {
    read.asker != 0 && read.asker != own.number
}

/// Whether a message is about that table, or about a part of it: all of them name it in the same attribute.
fn is_of(read: &Read<'_>, table: &str) -> bool {
    name_of(read).is_some_and(|name| name == table)
}

/// The table that a message is about, if it is one of this family.
fn name_of(read: &Read<'_>) -> Option<String> {
    let is_family = read.kind >> 8 == NFTABLES && read.body.first() == Some(&NETDEV);
    let mut found = attributes(read.body.get(FAMILY_BYTES..).filter(|_| is_family)?);
    let (_, name) = found.find(|(kind, _)| *kind == NFTA_TABLE_NAME)?;
    Some(String::from_utf8_lossy(name.strip_suffix(&[0])?).into_owned())
}

impl Hand {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Socket::open(libc::NETLINK_NETFILTER)?;
        let number = socket.number()?;
        Ok(Self { socket, number })
    }

    /// Closes these interfaces to frames with that mark, and to those of that user's sockets, in place of the interfaces that
    /// were closed before: in one transaction.
    ///
    /// # Errors
    /// When the kernel has no such filter; then nothing is changed.
    pub(crate) fn close<'a>(
        &self,
        table: &str,
        interfaces: impl IntoIterator<Item = &'a str>,
        mark: u32,
        user: Option<libc::uid_t>,
    ) -> io::Result<()> {
        let mut batch = Batch::default();
        // Made before it is deleted, so that it surely is there.
        batch.push(whole(Command::NewTable, table));
        batch.push(whole(Command::DeleteTable, table));
        batch.push(whole(Command::NewTable, table));
        for (number, interface) in interfaces.into_iter().enumerate() {
            let chain = number.to_string();
            batch.push(egress_chain(table, &chain, interface));
            batch.push(drop_rule((table, &chain), Meta::Mark, mark));
            if let Some(user) = user {
                batch.push(drop_rule((table, &chain), Meta::SocketUser, user));
            }
        }
        batch.commit(&self.socket)
    }

    /// The names of all tables of this family.
    pub(crate) fn tables(&self) -> io::Result<Vec<String>> {
        self.socket.send(&message(Command::GetTable).finish(0))?;
        let mut tables = Vec::new();
        loop {
            for read in messages(&self.socket.receive()?) {
                match read.outcome() {
                    Some(outcome) => outcome?,
                    None if i32::from(read.kind) == libc::NLMSG_DONE => return Ok(tables),
                    None => tables.extend(name_of(&read)),
                }
            }
        }
    }

    /// Closes none any more.
    pub(crate) fn remove(&self, table: &str) -> io::Result<()> {
        let mut batch = Batch::default();
        batch.push(whole(Command::NewTable, table));
        batch.push(whole(Command::DeleteTable, table));
        batch.commit(&self.socket)
    }
}

/// Changes that the kernel makes together or not at all.
#[derive(Debug, Default)]
struct Batch(Vec<Message>);

impl Batch {
    fn push(&mut self, message: Message) {
        self.0.push(message);
    }

    /// The last change is answered, and each that fails; the first error tells why none was made. Answers to all would not
    /// fit into the socket's buffer with a hundred interfaces.
    fn commit(mut self, socket: &Socket) -> io::Result<()> {
        if let Some(last) = self.0.last_mut() {
            last.acknowledge();
        }
        let last = self.0.len() as u32;
        let frame = |kind| Message::new(kind, 0, &family(0, NFTABLES));
        let ordered = std::iter::once(frame(BATCH_BEGIN)).chain(self.0).chain([frame(BATCH_END)]);
        let bytes: Vec<u8> = (0..).zip(ordered).flat_map(|(number, message)| message.finish(number)).collect();
        // What else was answered when a batch before failed.
        while socket.receive_now().is_ok() {}
        socket.send(&bytes)?;
        loop {
            for read in messages(&socket.receive()?) {
                match read.outcome() {
                    Some(Err(error)) => return Err(error),
                    Some(Ok(())) if read.sequence == last => return Ok(()),
                    _ => {}
                }
            }
        }
    }
}

/// `struct nfgenmsg`; the resource is in network order.
fn family(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn message(command: Command) -> Message {
    let flags = match command {
        Command::NewTable | Command::NewChain | Command::NewRule => libc::NLM_F_CREATE,
        Command::GetTable => libc::NLM_F_DUMP,
        Command::DeleteTable => 0,
    };
    Message::new(NFTABLES << 8 | command as u16, flags as u16, &family(NETDEV, 0))
}

fn whole(command: Command, table: &str) -> Message {
    let mut message = message(command);
    message.text(NFTA_TABLE_NAME, table);
    message
}

fn egress_chain(table: &str, name: &str, interface: &str) -> Message {
    let mut message = message(Command::NewChain);
    message.text(NFTA_CHAIN_TABLE, table).text(NFTA_CHAIN_NAME, name).text(NFTA_CHAIN_TYPE, "filter");
    message.nested(NFTA_CHAIN_HOOK, |hook| {
        hook.attribute(NFTA_HOOK_HOOKNUM, &EGRESS.to_be_bytes());
        hook.attribute(NFTA_HOOK_PRIORITY, &PRIORITY.to_be_bytes());
        hook.text(NFTA_HOOK_DEV, interface);
    });
    message
}

/// Drops the frames of which that is the value.
fn drop_rule((table, chain): (&str, &str), key: Meta, value: u32) -> Message {
    let mut message = message(Command::NewRule);
    message.text(NFTA_RULE_TABLE, table).text(NFTA_RULE_CHAIN, chain);
    message.nested(NFTA_RULE_EXPRESSIONS, |rule| {
        expression(rule, "meta", |data| {
            data.attribute(NFTA_META_DREG, &REGISTER.to_be_bytes());
            data.attribute(NFTA_META_KEY, &(key as u32).to_be_bytes());
        });
        expression(rule, "cmp", |data| {
            data.attribute(NFTA_CMP_SREG, &REGISTER.to_be_bytes());
            data.attribute(NFTA_CMP_OP, &EQUAL.to_be_bytes());
            // As the kernel has them: in host order.
            data.nested(NFTA_CMP_DATA, |to| {
                to.attribute(NFTA_DATA_VALUE, &value.to_ne_bytes());
            });
        });
        // Says how many, to whoever lists the rules.
        expression(rule, "counter", |_| {});
        expression(rule, "immediate", |data| {
            data.attribute(NFTA_IMMEDIATE_DREG, &VERDICT_REGISTER.to_be_bytes());
            data.nested(NFTA_IMMEDIATE_DATA, |to| {
                to.nested(NFTA_DATA_VERDICT, |verdict| {
                    verdict.attribute(NFTA_VERDICT_CODE, &DROP.to_be_bytes());
                });
            });
        });
    });
    message
}

fn expression(rule: &mut Message, name: &str, fill: impl FnOnce(&mut Message)) {
    rule.nested(NFTA_LIST_ELEM, |element| {
        element.text(NFTA_EXPR_NAME, name).nested(NFTA_EXPR_DATA, fill);
    });
}
