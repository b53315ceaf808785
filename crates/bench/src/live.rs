//! The fast generator: `bpf/generate.bpf.c` on live frames, two million packets a second and more.
//!
//! It waits by dropping, so that it takes a whole core at every rate; that core is kept free of everything else. What the relay
//! does in soft interrupts of its input runs there too, as on a host whose NIC interrupts that core.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, MapData};
use mcr_kernel_path::sys;
use mcr_testbed::Interface;

use crate::cpu;
use crate::generate::{Load, Offered, Stamp};
use crate::kernel;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/generate.bpf.o"));

/// Bytes of each frame that are written anew: headers, and a stamp.
const HEAD: usize = 64;

/// `struct orders`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Orders {
    interval_ns: u64,
    most_packets: u64,
    most_ns: u64,
    burst: u32,
    stamped: u32,
    head: [u8; HEAD],
}
// SAFETY: plain integers without holes.
unsafe impl aya::Pod for Orders {}

/// `struct progress`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Progress {
    begun_ns: u64,
    due_ns: u64,
    last_ns: u64,
    sent: u64,
    sent_ns: u64,
    ended_ns: u64,
    busy_ns: u64,
    busy_bursts: u64,
    left: u32,
    sending: u32,
}
// SAFETY: plain integers without holes.
unsafe impl aya::Pod for Progress {}

/// Sends copies of one frame from an interface.
pub(crate) struct LiveFrames {
    ebpf: Ebpf,
    interface: Interface,
}

impl LiveFrames {
    pub(crate) fn new(interface: &Interface) -> LiveFrames {
        let mut ebpf = kernel::load(OBJECT, |_| {});
        kernel::xdp(&mut ebpf, "generate");
        LiveFrames { ebpf, interface: interface.clone() }
    }

    /// Sends as the load says, or for a tenth of the time longer when the rate can't be kept.
    pub(crate) fn send(&mut self, frame: &[u8], load: Load) -> Offered {
        let mut head = [0; HEAD];
        head.copy_from_slice(&frame[..HEAD]);
        let burst = load.spacing.packets();
        let orders = Orders {
            interval_ns: burst as u64 * 1_000_000_000 / load.rate,
            most_packets: (load.rate as f64 * load.time.as_secs_f64()) as u64,
            most_ns: (load.time.as_nanos() * 11 / 10) as u64,
            burst: burst as u32,
            stamped: u32::from(load.stamp == Stamp::Time),
            head,
        };
        self.orders().set(0, orders, 0).expect("write the orders");
        self.progress().set(0, Progress::default(), 0).expect("write the progress");
        self.run(frame, burst as u32, load.time);
        let progress = self.progress().get(&0, 0).expect("read the progress");
        Offered {
            packets: progress.sent,
            time: Duration::from_nanos(progress.sent_ns.saturating_sub(progress.begun_ns)),
            nanoseconds_each: progress.busy_ns as f64 / (progress.busy_bursts.max(1) * burst as u64) as f64,
        }
    }

    /// Returns when the program has ended by its orders.
    fn run(&mut self, frame: &[u8], burst: u32, time: Duration) {
        let progress: Array<&MapData, Progress> =
            Array::try_from(self.ebpf.map("progress").expect("built with it")).expect("an array");
        let program = self.ebpf.program("generate").expect("built with it").try_into().expect("an XDP program");
        let (program, interface) = (kernel::descriptor(program), &self.interface);
        let (returned, thread) = (AtomicBool::new(false), AtomicI32::new(0));
        interface.namespace().run(|| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    // SAFETY: a plain system call.
                    thread.store(unsafe { libc::gettid() }, Ordering::Release);
                    cpu::become_the_generator();
                    let result = sys::run_on_live_frames(program, interface.index(), frame, burst);
                    returned.store(true, Ordering::Release);
                    result.expect("XDP programs run on live frames (Linux 5.18)");
                });
                std::thread::sleep(time);
                while progress.get(&0, 0).is_ok_and(|progress| progress.ended_ns == 0)
                    && !returned.load(Ordering::Acquire)
                {
                    std::thread::sleep(Duration::from_millis(1));
                }
                while !returned.load(Ordering::Acquire) {
                    interrupt(thread.load(Ordering::Acquire));
                    std::thread::sleep(Duration::from_micros(200));
                }
            });
        });
    }

    fn orders(&mut self) -> Array<&mut MapData, Orders> {
        Array::try_from(self.ebpf.map_mut("orders").expect("built with it")).expect("an array")
    }

    fn progress(&mut self) -> Array<&mut MapData, Progress> {
        Array::try_from(self.ebpf.map_mut("progress").expect("built with it")).expect("an array")
    }
}

/// Ends a system call of a thread of this process.
fn interrupt(thread: i32) {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: the handler does nothing; its address and zeros make a valid `sigaction` (without SA_RESTART). `tgkill` to a thread
    // that has ended is refused.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(i32) as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
        libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGUSR1);
    }
}

#[cfg(test)]
mod tests {
    use mcr_testbed::{Frame, Topology};

    use super::*;
    use crate::generate::{Ingress, Spacing};
    use crate::path::GROUP;
    use crate::receive::Receiver;

    #[test]
    fn sends_what_it_is_told_at_the_rate_that_it_is_told() {
        let net = Topology::device_relay_lan(0);
        let mut sender = LiveFrames::new(net.device_interface());
        let receiver = Receiver::new(net.relay_input());
        let load = Load {
            ingress: Ingress::Raw,
            source: [10, 0, 0, 55].into(),
            group: GROUP.into(),
            payload_bytes: 64,
            rate: 20_000,
            time: Duration::from_millis(200),
            spacing: Spacing::Bursts,
            stamp: Stamp::Zero,
        };
        let frame = Frame::udp("10.0.0.55:4000", &GROUP.to_string(), vec![0; 64]).bytes();
        let offered = sender.send(&frame, load);
        assert_eq!((offered.packets, receiver.total()), (4_000, 4_000), "{offered:?}");
        assert!(offered.time.as_secs_f64() > 0.195, "{offered:?}");
    }
}
