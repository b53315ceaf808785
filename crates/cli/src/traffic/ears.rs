//! Sockets that listen, and the account of what they hear: of each, and of all together.

use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mcr_model::Input;

use crate::failure::Failure;
use crate::traffic::MAX_PAYLOAD_BYTES;
use crate::traffic::payload::parse;
use crate::traffic::socket;
use crate::traffic::tally::{Heard, Tally};

/// Everything that is listened to.
pub(crate) struct Ears {
    sockets: Vec<UdpSocket>,
    inputs: Vec<Input>,
    tallies: Vec<Tally>,
    /// Of several; of one it is the same.
    total: Tally,
    buffer: Vec<u8>,
}

impl Ears {
    /// Listens from now on; all groups are joined when it returns.
    pub(crate) fn open(inputs: Vec<Input>) -> Result<Self, Failure> {
        socket::raise_file_limit();
        let sockets: Vec<UdpSocket> = inputs.iter().map(socket::listening).collect::<Result<_, _>>()?;
        for socket in &sockets {
            socket.set_nonblocking(true).map_err(|error| failed(&error))?;
        }
        let tallies = inputs.iter().map(|_| Tally::default()).collect();
        Ok(Self { sockets, inputs, tallies, total: Tally::default(), buffer: vec![0; MAX_PAYLOAD_BYTES + 1] })
    }

    /// Counts what comes, `most` datagrams at most, until `patience` is over or something has come; whether it has.
    pub(crate) fn listen(&mut self, patience: Duration, most: u64) -> Result<Heed, Failure> {
        /// So many from each in turn, so that a busy one does not hide the others.
        const BATCH: u64 = 64;
        let (mut heed, mut left) = (Heed::Nothing, most);
        for index in socket::readable(&self.sockets, patience) {
            for _ in 0..BATCH.min(left) {
                match self.sockets[index].recv_from(&mut self.buffer) {
                    Ok((bytes, source)) => {
                        let now = Instant::now();
                        let nanoseconds =
                            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
                        let payload = &self.buffer[..bytes];
                        let port = self.inputs[index].port.get();
                        let heard = Heard { payload, content: parse(payload), source, port, now, nanoseconds };
                        self.tallies[index].count(&heard);
                        if self.sockets.len() > 1 {
                            self.total.count(&heard);
                        }
                        heed = Heed::Something;
                        left -= 1;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(failed(&error)),
                }
            }
        }
        Ok(heed)
    }

    /// All of it.
    pub(crate) fn total(&self) -> &Tally {
        match self.tallies.as_slice() {
            [only] => only,
            _ => &self.total,
        }
    }

    /// Each input with what was heard there, and what its socket had no room for.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&Input, &Tally, Option<u64>)> {
        let drops = socket::own_drops(&self.sockets);
        self.inputs.iter().zip(&self.tallies).zip(drops).map(|((input, tally), drops)| (input, tally, drops))
    }
}

/// Whether anything came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heed {
    Something,
    Nothing,
}

fn failed(error: &io::Error) -> Failure {
    Failure::failed(format!("cannot receive: {error}"))
}
