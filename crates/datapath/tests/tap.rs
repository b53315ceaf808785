//! Frames as a virtual machine's tap hands them over, super-frames of kinds that no datagram is relayed from included.

mod harness;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::time::Duration;

use harness::{GROUP_IN, Input, Output, PATIENCE, Relay};
use mcr_datapath::RingGeometry;
use mcr_testbed::{Frame, Interface, Topology, wait_until};
use mcr_wire::DropReason;

/// `VIRTIO_NET_HDR_GSO_NONE`: an ordinary frame.
const GSO_NONE: u8 = 0;
/// `VIRTIO_NET_HDR_GSO_UDP`: one datagram that is to be cut into fragments.
const GSO_UDP_FRAGMENTS: u8 = 3;

/// The machine's side of a tap interface.
struct Tap(File);

impl Tap {
    fn open(topology: &Topology) -> (Tap, Interface) {
        let file = topology.relay().run(|| {
            let file = File::options().read(true).write(true).open("/dev/net/tun").expect("the tun driver");
            // SAFETY: all-zero bytes are a valid ifreq.
            let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
            for (to, from) in request.ifr_name.iter_mut().zip(b"tap0") {
                *to = *from as libc::c_char;
            }
            request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
            // SAFETY: the request is an ifreq that outlives the call.
            let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
            assert_eq!(made, 0, "a tap: {}", std::io::Error::last_os_error());
            file
        });
        let interface = Interface::of(topology.relay(), "tap0");
        interface.up();
        (Tap(file), interface)
    }

    /// Sends a frame with this segmentation of `virtio_net_hdr`.
    fn send(&mut self, gso_type: u8, gso_bytes: u16, frame: &[u8]) {
        let mut bytes = vec![u8::from(gso_type != GSO_NONE), gso_type, 42, 0];
        bytes.extend(gso_bytes.to_ne_bytes());
        bytes.extend([34, 0, 6, 0]);
        bytes.extend(frame);
        self.0.write_all(&bytes).expect("the tap takes it");
    }
}

#[test]
fn a_frame_that_the_kernel_cannot_describe_does_not_stop_the_input() {
    let topology = Topology::device_relay_lan(1);
    let (mut tap, interface) = Tap::open(&topology);
    let relay = Relay::new(GROUP_IN, vec![Output::open(topology.lan(1))]);
    let input = Input::open(&interface, RingGeometry::for_mtu(1500));
    input.install(&[&relay]);
    let plain = Frame::udp("192.168.168.55:40000", "239.1.1.1:5001", vec![7; 100]).bytes();
    let fragments = Frame::udp("192.168.168.55:40000", "239.1.1.1:5001", vec![7; 4_000]).bytes();
    for _ in 0..3 {
        let received = relay.received();
        tap.send(GSO_UDP_FRAGMENTS, 1_480, &fragments);
        wait_until(PATIENCE, "frames again", || {
            tap.send(GSO_NONE, 0, &plain);
            std::thread::sleep(Duration::from_millis(5));
            input.worker().poll_statistics();
            relay.received() > received
        });
        let (received, lost) = (relay.received(), input.dropped(DropReason::RingFull));
        assert!(lost > 0, "the frame and what came behind it are counted");
        for _ in 0..1_000 {
            tap.send(GSO_NONE, 0, &plain);
        }
        wait_until(PATIENCE, "all of them", || relay.received() == received + 1_000);
    }
    relay.assert_balanced();
}
