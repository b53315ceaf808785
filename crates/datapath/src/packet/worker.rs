//! The threads of an input, one for each of its rings: ring in, sockets out.
//!
//! It works in rounds: gather what is ready, send it, give the slots back. It waits only when the
//! ring is empty, without a timer: a lone packet leaves at once, and a backlog makes its own
//! batches. Slots are given back after their payloads were sent, since the kernel reads those
//! straight from the ring.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use mcr_wire::DropReason;

use super::forward::Forwarder;
use super::mailbox::Mailbox;
use super::ring::{Ring, RingGeometry};
use super::wait::{self, Waiter};
use crate::counters::{InputCounters, InputShare};
use crate::table::{CompiledTable, InputTable};

pub use super::mailbox::WorkerGone;

/// The running workers of an input. Dropping them ends each thread after the round it is in; the
/// rings stay as they are, for the next workers.
#[derive(Debug)]
pub struct InputWorkers(Vec<InputWorker>);

impl InputWorkers {
    /// Starts a worker for each ring by [`open_inputs`](super::open_inputs). They leave the rings alone
    /// until [`install`](Self::install) has told them what to do with the frames. A ring that another
    /// worker used, in this process or another, is taken on where that one left it, also after it
    /// was killed. Only one worker may use a ring at a time.
    ///
    /// `name` is that of the first thread, and the beginning of the others'; the kernel shows its first 15 bytes.
    ///
    /// # Errors
    ///
    /// `EINVAL` when a ring is not of this geometry; what `mmap`, `eventfd` and the start of
    /// a thread may say.
    pub fn start(
        name: &str,
        rings: impl IntoIterator<Item = OwnedFd>,
        geometry: RingGeometry,
        counters: &InputCounters,
    ) -> io::Result<Self> {
        let start = |(number, ring)| {
            let name = if number == 0 { name.to_owned() } else { format!("{name}#{}", number + 1) };
            InputWorker::start(name, number, ring, geometry, counters.share(number))
        };
        rings.into_iter().enumerate().map(start).collect::<io::Result<_>>().map(Self)
    }

    /// Replaces the table. On return every later frame is looked up in the new one, and no
    /// send by the old one is under way; what was in the ring before the call was looked up in the old one.
    ///
    /// # Errors
    ///
    /// [`WorkerGone`] when a thread has ended, which it does by itself only after a panic, or when
    /// the kernel refuses the new ring that [`poll_statistics`](Self::poll_statistics) is about.
    pub fn install(&self, table: &InputTable) -> Result<(), WorkerGone> {
        self.0.iter().try_for_each(|worker| worker.install(table))
    }

    /// Adds what the kernel dropped since the last call, because a ring was full, to the input's
    /// `ring_full`. The workers do so themselves when they see that frames are missing; this is for
    /// a reader who wants the books up to date.
    ///
    /// It is to be called now and then all the same: that the kernel dropped frames, and the worker
    /// had none to take, since the last call, is how a ring is found that the kernel cannot fill any
    /// more (a super-frame of a kind without a name in `virtio_net_hdr` does that). The worker then
    /// makes a new one, with the loss of what was dropped meanwhile, which counts as `ring_full`.
    pub fn poll_statistics(&self) {
        self.0.iter().for_each(InputWorker::poll_statistics);
    }

    /// Whether every thread is there to move packets.
    #[must_use]
    pub fn are_running(&self) -> bool {
        self.0.iter().all(InputWorker::is_running)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// A running worker.
#[derive(Debug)]
struct InputWorker {
    /// Which of the input's it is.
    number: usize,
    mailbox: Arc<Mailbox>,
    socket: Arc<OwnedFd>,
    counters: Arc<InputShare>,
    /// Frames that were taken when the kernel's statistics were read last.
    frames: AtomicU64,
    thread: Option<JoinHandle<()>>,
}

impl InputWorker {
    fn start(
        name: String,
        number: usize,
        ring: OwnedFd,
        geometry: RingGeometry,
        counters: Arc<InputShare>,
    ) -> io::Result<Self> {
        let socket = Arc::new(ring);
        let ring = Ring::map(Arc::clone(&socket), geometry)?;
        let mailbox = Arc::new(Mailbox::new()?);
        let worker = Worker {
            waiter: Waiter::default(),
            forwarder: Forwarder::new(Arc::clone(&counters)),
            table: Box::default(),
            ring,
            mailbox: Arc::clone(&mailbox),
            counters: Arc::clone(&counters),
        };
        let thread = thread::Builder::new().name(name).spawn(move || worker.run())?;
        Ok(Self { number, mailbox, socket, counters, frames: AtomicU64::new(u64::MAX), thread: Some(thread) })
    }

    fn install(&self, table: &InputTable) -> Result<(), WorkerGone> {
        // Compiled here and dropped here: the worker only swaps two pointers.
        self.mailbox.exchange(Box::new(CompiledTable::new(table, self.number))).map(drop)
    }

    fn poll_statistics(&self) {
        // In this order: what was dropped since the last call was so after `frames` was read there.
        let frames = self.counters.frames();
        let drops = count_ring_drops(&self.socket, &self.counters);
        if self.frames.swap(frames, Ordering::Relaxed) == frames && drops > 0 {
            self.mailbox.suspect(frames);
        }
    }

    fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for InputWorker {
    fn drop(&mut self) {
        self.mailbox.stop();
        if let Some(thread) = self.thread.take() {
            // A panic of the worker was reported by its hook; there is nothing to add.
            let _ = thread.join();
        }
        self.poll_statistics();
    }
}

/// What the thread owns.
struct Worker {
    // The forwarder points into the ring between `gather` and `send`; both are here to stay.
    forwarder: Forwarder,
    table: Box<CompiledTable>,
    waiter: Waiter,
    ring: Ring,
    mailbox: Arc<Mailbox>,
    counters: Arc<InputShare>,
}

impl Worker {
    fn run(mut self) {
        let mailbox = Arc::clone(&self.mailbox);
        let _farewell = mailbox.farewell();
        // A ring that is taken over may hold frames already: without a table they would be lost.
        while !mailbox.is_stopped() && !self.collect_table() {
            wait::until_called(mailbox.wake_up());
        }
        while !mailbox.is_stopped() {
            if mailbox.has_table() {
                self.finish_table();
                self.collect_table();
            }
            let suspected = mailbox.take_suspicion();
            if self.round() > 0 {
                self.waiter.progressed();
            } else if suspected.is_none_or(|frames| !self.is_stuck(frames)) {
                self.waiter.wait(&mut self.ring, mailbox.wake_up());
            } else if self.ring.renew().is_err() {
                // Without a ring there is nothing to do here; `is_running` tells.
                return;
            }
        }
    }

    /// Whether the kernel cannot fill the ring, given that it dropped frames when this many had been
    /// taken: a ring that was full then, of which nothing was taken since, would not be empty.
    #[cold]
    fn is_stuck(&self, frames: u64) -> bool {
        self.counters.frames() == frames && self.ring.is_empty()
    }

    /// Takes a new table if there is one; whether there was.
    #[inline]
    fn collect_table(&mut self) -> bool {
        self.mailbox.collect(&mut self.table, |table| self.forwarder.prepare(table))
    }

    /// Moves by the present table what came while it was in force, before another is taken: a relay that leaves, since
    /// another datapath has it now, would lose what waits in the ring. At most a ring full: more may come all the time.
    #[cold]
    fn finish_table(&mut self) {
        let mut left = self.ring.slots();
        while left > 0 && !self.mailbox.is_stopped() {
            match self.round() {
                0 => return,
                moved => left = left.saturating_sub(moved),
            }
        }
    }

    /// Moves what is ready, up to a round's worth; how many slots that were.
    fn round(&mut self) -> u32 {
        let gathered = self.forwarder.gather(&self.ring, &self.table);
        if gathered.slots == 0 {
            return 0;
        }
        self.forwarder.send(&self.table);
        self.ring.release(gathered.slots);
        if gathered.losing {
            count_ring_drops(self.ring.shared_socket(), &self.counters);
        }
        gathered.slots
    }
}

/// Reads and resets the kernel's count of frames that found the ring full; how many there were.
fn count_ring_drops(socket: &OwnedFd, counters: &InputShare) -> u32 {
    let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let read = wait::get_option(socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, &mut statistics);
    let drops = read.map_or(0, |()| statistics.tp_drops);
    if drops > 0 {
        counters.count_dropped(DropReason::RingFull, drops.into());
    }
    drops
}
