//! What the sabotages stand on: a device that sends all the time, a host with a listener, and `mcr explain` on it.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mcr_testbed::{Frame, Interface, Namespace, RawSender, Topology};
use serde_json::Value;
use socket2::{Domain, InterfaceIndexOrAddress, Socket, Type};

use crate::service::MCR;

/// What is asked for unless a test says otherwise.
pub(crate) const TARGET: &str = "dev0:239.1.1.1:5001";
pub(crate) const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 1, 1);
pub(crate) const PORT: u16 = 5001;
/// A sender that the host has a route back to.
pub(crate) const NEAR: &str = "10.0.0.55:5000";

/// How long `explain` looks at the wire here.
const LOOK: &str = "120ms";
/// Between two frames of the device.
const PACE: Duration = Duration::from_millis(3);

/// A frame to the group as it should be.
pub(crate) fn good() -> Frame {
    Frame::udp(NEAR, "239.1.1.1:5001", vec![7; 400])
}

/// Sends the same frames over and over until it is dropped.
pub(crate) struct Pump {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pump {
    /// Sends out of `interface`.
    pub(crate) fn start(interface: &Interface, frames: Vec<Vec<u8>>) -> Pump {
        let sender = RawSender::new(interface);
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            // A test takes seconds; whatever happens, this ends.
            let most = 20_000;
            for frame in frames.iter().cycle().take(most).take_while(|_| !told.load(Ordering::Relaxed)) {
                // A link that a test takes down refuses frames.
                let _ = sender.try_send(frame);
                std::thread::sleep(PACE);
            }
        });
        Pump { stop, thread: Some(thread) }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A socket of the port in a namespace, to be joined, bound and filtered as a test likes.
pub(crate) fn socket(namespace: &Namespace, address: Ipv4Addr) -> Socket {
    namespace.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("shared");
        socket.bind(&SocketAddrV4::new(address, PORT).into()).expect("bound");
        socket
    })
}

/// Joins a group on an interface.
pub(crate) fn join(socket: &Socket, interface: &Interface, group: Ipv4Addr) {
    let index = InterfaceIndexOrAddress::Index(interface.index());
    socket.join_multicast_v4_n(&group, &index).expect("joined");
}

/// An application that does everything right: bound, joined, and read by a thread.
pub(crate) struct Listener {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    pub(crate) fn start(socket: Socket) -> Listener {
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let socket: UdpSocket = socket.into();
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !told.load(Ordering::Relaxed) {
                let _ = socket.recv(&mut buffer);
            }
        });
        Listener { stop, thread: Some(thread) }
    }

    /// One of the group, on an interface.
    pub(crate) fn of_group(interface: &Interface) -> Listener {
        let socket = socket(interface.namespace(), Ipv4Addr::UNSPECIFIED);
        join(&socket, interface, GROUP);
        Listener::start(socket)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Runs `mcr explain` on a host. `socket` is where a daemon may be.
#[track_caller]
pub(crate) fn explain(host: &Namespace, socket: &Path, arguments: &[&str]) -> Value {
    let mut command = host.command(MCR);
    command.arg("explain").args(arguments).args(["--look", LOOK, "-o", "json"]).env("MCR_SOCKET", socket);
    let output = command.output().expect("run mcr");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    let code = if report["verdict"] == "lost" { 1 } else { 0 };
    assert_eq!(output.status.code(), Some(code), "the exit code tells the verdict: {err}");
    report
}

/// Where no daemon is.
pub(crate) fn nowhere() -> &'static Path {
    Path::new("/nonexistent/mcr.sock")
}

/// Asserts that the culprit, the first fault, is this one, and that a remedy comes with it.
#[track_caller]
pub(crate) fn expect(report: &Value, step: &str, code: &str) {
    let culprit = &report["culprit"];
    assert_eq!((culprit["step"].as_str(), culprit["code"].as_str()), (Some(step), Some(code)), "{report:#}");
    assert!(culprit["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{report:#}");
}

/// Asserts that nothing is called wrong.
#[track_caller]
pub(crate) fn expect_nothing(report: &Value) {
    assert_eq!((report["verdict"].as_str(), report.get("culprit")), (Some("passes"), None), "{report:#}");
    let steps = report["steps"].as_array().expect("steps");
    assert!(steps.iter().all(|step| step["mark"] != "fault"), "{report:#}");
}

/// A device and a host, with a second interface on the host.
pub(crate) fn hosts() -> Topology {
    Topology::device_relay_lan(1)
}

/// A host whose application listens as it should, a device that sends these frames, and what `explain` says of it.
#[track_caller]
pub(crate) fn told(net: &Topology, frames: Vec<Vec<u8>>) -> Value {
    let _listener = Listener::of_group(net.relay_input());
    let _pump = Pump::start(net.device_interface(), frames);
    explain(net.relay(), nowhere(), &[TARGET])
}

/// What `explain` says where the device sends as it should.
#[track_caller]
pub(crate) fn told_of_good(net: &Topology) -> Value {
    let _pump = Pump::start(net.device_interface(), vec![good().bytes()]);
    explain(net.relay(), nowhere(), &[TARGET])
}
