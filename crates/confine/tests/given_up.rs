//! What a process that has given up calls and files can not do any more. Each attempt is this program again, as a process of its
//! own that gives up first; it needs root, so that nothing else stands in the way.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use mcr_confine::Reach;
use mcr_confine::calls::{self, Program};
use mcr_confine::files::{self, Level, Paths};

/// Runs an attempt in a process of its own.
fn attempt(name: &str) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", &format!("attempts::{name}")])
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap()
}

#[track_caller]
fn is_killed(name: &str) {
    assert_eq!(attempt(name).signal(), Some(libc::SIGSYS), "{name} is killed");
}

#[track_caller]
fn is_refused(name: &str) {
    assert!(attempt(name).success(), "{name} is refused");
}

#[test]
fn descriptors_that_were_handed_over_can_not_be_turned_elsewhere() {
    is_refused("binding_a_packet_socket_elsewhere");
    is_refused("opening_a_packet_socket");
    is_killed("setting_an_option_of_a_packet_socket");
    is_killed("attaching_a_program");
    is_refused("loading_a_program");
    is_refused("what_the_daemon_does");
}

#[test]
fn nothing_else_is_begun() {
    is_refused("starting_a_program");
    is_killed("tracing_a_process");
    is_killed("mounting");
    is_refused("borrowing_a_descriptor");
    is_killed("borrowing_a_descriptor_as_the_keeper");
    is_killed("asking_for_io_uring");
    is_refused("a_call_that_nobody_knows");
    is_killed("starting_a_program_as_the_keeper");
}

#[test]
fn threads_that_were_there_before_have_given_up_too() {
    is_killed("tracing_from_an_older_thread");
}

#[test]
fn files_that_are_not_needed_are_out_of_reach() {
    is_refused("reading_and_writing_files");
    is_refused("connecting_by_tcp");
}

fn errno() -> Option<i32> {
    io::Error::last_os_error().raw_os_error()
}

/// A packet socket on the loopback, as a keeper hands it over.
fn packet_socket() -> OwnedFd {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0, "this test needs root: run it with sudo");
    // SAFETY: `fd` was just opened and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn bpf(command: libc::c_int) -> (libc::c_long, Option<i32>) {
    let attribute = [0_u64; 16];
    // SAFETY: the attribute is as long as the call is told; it names no descriptor and no memory.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attribute.as_ptr(), size_of_val(&attribute)) };
    (result, errno())
}

fn trace() {
    let nobody = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: asks for nothing that takes memory.
    unsafe { libc::ptrace(libc::PTRACE_ATTACH, libc::getppid(), nobody, nobody) };
}

/// Asks for a copy of a descriptor of a process that runs: its own, so that nothing else stands in the way.
fn borrow() -> (libc::c_long, Option<i32>) {
    // SAFETY: pidfd_open takes two integers.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, std::process::id(), 0) };
    assert!(process >= 0, "{:?}", io::Error::last_os_error());
    // SAFETY: pidfd_getfd takes three integers.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, 1, 0) };
    (result, errno())
}

/// The attempts, each for a process of its own.
mod attempts {
    use super::*;

    #[test]
    #[ignore = "an attempt"]
    fn binding_a_packet_socket_elsewhere() {
        let socket = packet_socket();
        calls::give_up(Program::Daemon(Reach::Host)).unwrap();
        // SAFETY: all-zero bytes are a valid sockaddr_ll.
        let mut elsewhere: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        elsewhere.sll_family = libc::AF_PACKET as u16;
        elsewhere.sll_ifindex = 1;
        let length = size_of_val(&elsewhere) as libc::socklen_t;
        // SAFETY: pointer and length describe `elsewhere`.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const elsewhere).cast(), length) };
        assert_eq!((bound, errno()), (-1, Some(libc::EPERM)));
    }

    #[test]
    #[ignore = "an attempt"]
    fn opening_a_packet_socket() {
        calls::give_up(Program::Daemon(Reach::Host)).unwrap();
        for family in [libc::AF_PACKET, libc::AF_INET, libc::AF_INET6, libc::AF_XDP, libc::AF_VSOCK] {
            // SAFETY: no pointers are passed.
            let opened = unsafe { libc::socket(family, libc::SOCK_RAW, 0) };
            assert_eq!((opened, errno()), (-1, Some(libc::EPERM)), "family {family}");
        }
    }

    #[test]
    #[ignore = "an attempt"]
    fn setting_an_option_of_a_packet_socket() {
        let socket = packet_socket();
        calls::give_up(Program::Daemon(Reach::Host)).unwrap();
        let (level, option, one) = (libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1_i32);
        // SAFETY: pointer and length describe `one`.
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const one).cast(), 4) };
    }

    #[test]
    #[ignore = "an attempt"]
    fn attaching_a_program() {
        const BPF_LINK_CREATE: libc::c_int = 28;
        calls::give_up(Program::Daemon(Reach::Host)).unwrap();
        bpf(BPF_LINK_CREATE);
    }

    #[test]
    #[ignore = "an attempt"]
    fn loading_a_program() {
        calls::give_up(Program::Daemon(Reach::Host)).unwrap();
        for command in [0, 5, 18] {
            assert_eq!(bpf(command), (-1, Some(libc::EPERM)), "command {command}");
        }
    }

    /// What the filter lets through reaches the kernel, which sees that it makes no sense.
    #[test]
    #[ignore = "an attempt"]
    fn what_the_daemon_does() {
        calls::give_up(Program::Daemon(Reach::Host)).unwrap();
        for command in [1, 2, 3, 4] {
            assert!(
                matches!(bpf(command), (-1, Some(libc::EBADF | libc::EINVAL))),
                "command {command}: {:?}",
                bpf(command)
            );
        }
        let (here, there) = std::os::unix::net::UnixDatagram::pair().unwrap();
        std::thread::spawn(move || here.send(b"still there").unwrap()).join().unwrap();
        let mut bytes = [0; 11];
        assert_eq!(there.recv(&mut bytes).unwrap(), bytes.len());
        // SAFETY: no pointers are passed.
        assert!(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE) } >= 0);
        assert!(calls::are_given_up());
    }

    #[test]
    #[ignore = "an attempt"]
    fn starting_a_program() {
        calls::give_up(Program::Daemon(Reach::Host)).unwrap();
        let error = Command::new("true").status().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    #[ignore = "an attempt"]
    fn starting_a_program_as_the_keeper() {
        calls::give_up(Program::Keeper).unwrap();
        let (program, none) = (c"/bin/true".as_ptr(), [std::ptr::null()]);
        // SAFETY: the name ends in NUL, and both lists in a null pointer.
        unsafe { libc::execve(program, none.as_ptr(), none.as_ptr()) };
    }

    #[test]
    #[ignore = "an attempt"]
    fn tracing_a_process() {
        calls::give_up(Program::Daemon(Reach::Host)).unwrap();
        trace();
    }

    #[test]
    #[ignore = "an attempt"]
    fn tracing_from_an_older_thread() {
        let (begin, begun) = std::sync::mpsc::channel::<()>();
        let older = std::thread::spawn(move || {
            begun.recv().unwrap();
            trace();
        });
        calls::give_up(Program::Daemon(Reach::Host)).unwrap();
        begin.send(()).unwrap();
        older.join().unwrap();
    }

    /// Which `explain` does in the daemon, too.
    #[test]
    #[ignore = "an attempt"]
    fn borrowing_a_descriptor() {
        assert!(borrow().0 >= 0, "it works before");
        calls::give_up(Program::Daemon(Reach::Host)).unwrap();
        assert_eq!(borrow(), (-1, Some(libc::EPERM)));
    }

    #[test]
    #[ignore = "an attempt"]
    fn borrowing_a_descriptor_as_the_keeper() {
        calls::give_up(Program::Keeper).unwrap();
        // SAFETY: it takes three integers, and is not made.
        unsafe { libc::syscall(libc::SYS_pidfd_getfd, -1, 1, 0) };
    }

    #[test]
    #[ignore = "an attempt"]
    fn mounting() {
        calls::give_up(Program::Keeper).unwrap();
        let nothing = std::ptr::null();
        // SAFETY: all texts end in NUL, and the data is none.
        unsafe { libc::mount(c"none".as_ptr(), c"/nowhere".as_ptr(), c"tmpfs".as_ptr(), 0, nothing) };
    }

    #[test]
    #[ignore = "an attempt"]
    fn asking_for_io_uring() {
        calls::give_up(Program::Daemon(Reach::Host)).unwrap();
        // SAFETY: the kernel refuses a null pointer.
        unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, std::ptr::null::<u8>()) };
    }

    #[test]
    #[ignore = "an attempt"]
    fn a_call_that_nobody_knows() {
        calls::give_up(Program::Daemon(Reach::Host)).unwrap();
        // SAFETY: it takes numbers only, and is not made.
        let result = unsafe { libc::syscall(libc::SYS_memfd_secret, 0) };
        assert_eq!((result, errno()), (-1, Some(libc::ENOSYS)));
    }

    #[test]
    #[ignore = "an attempt"]
    fn reading_and_writing_files() {
        let (read, write, other) = (folder(), folder(), folder());
        for folder in [&read, &write, &other] {
            fs::write(folder.path().join("file"), "text").unwrap();
        }
        let paths = Paths { read: vec![read.path().into(), "/nowhere".into()], write: vec![write.path().into()] };
        assert_eq!(files::give_up(&paths, Reach::Host).unwrap(), Level::Full);
        assert_eq!(files::level(), Level::Full);
        let kind = |result: io::Result<()>| result.err().map(|error| error.kind());
        let denied = Some(io::ErrorKind::PermissionDenied);
        assert_eq!(fs::read_to_string(read.path().join("file")).unwrap(), "text");
        assert_eq!(kind(fs::write(read.path().join("file"), "")), denied);
        assert_eq!(kind(fs::remove_file(read.path().join("file"))), denied);
        assert_eq!(kind(fs::write(write.path().join("new"), "")), None);
        assert_eq!(kind(fs::rename(write.path().join("new"), write.path().join("newer"))), None);
        assert_eq!(kind(fs::remove_file(write.path().join("file"))), None);
        assert_eq!(kind(File::open(other.path().join("file")).map(drop)), denied);
        assert_eq!(kind(Command::new("true").status().map(drop)), denied, "no file is a program");
    }

    #[test]
    #[ignore = "an attempt"]
    fn connecting_by_tcp() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::net::TcpStream::connect(address).unwrap();
        files::give_up(&Paths::default(), Reach::Host).unwrap();
        assert_eq!(std::net::TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(listener.accept().is_ok(), "who was there before is served");
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }
}
