//! What a service manager hears. One test alone in its process: it sets variables of the environment.

mod backend;

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use backend::Bench;
use mcr_daemon::notify;

#[test]
fn the_service_manager_hears_it_all() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let hear = || {
        let mut message = [0; 1000];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };

    notify::ready();
    // SAFETY: this process has no other thread that reads the environment: it runs one test.
    unsafe {
        std::env::set_var("NOTIFY_SOCKET", &path);
        std::env::set_var("WATCHDOG_USEC", "100000");
        std::env::set_var("WATCHDOG_PID", std::process::id().to_string());
    }
    notify::ready();
    assert_eq!(hear(), "READY=1\n", "and nothing of the time before there was a manager");
    notify::reloading();
    let reloading = hear();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    notify::status("3 relays");
    assert_eq!(hear(), "STATUS=3 relays\n");
    notify::stopping();
    assert_eq!(hear(), "STOPPING=1\n");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Five signs of life: a socket holds about ten that nobody reads (net.unix.max_dgram_qlen), then its sender waits.
    let alive = notify::watchdog(Bench::with_file(""));
    assert!(runtime.block_on(async { tokio::time::timeout(Duration::from_millis(200), alive).await }).is_err());
    assert_eq!([hear(), hear(), hear()], ["WATCHDOG=1\n", "WATCHDOG=1\n", "WATCHDOG=1\n"]);
}
