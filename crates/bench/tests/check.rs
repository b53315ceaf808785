//! Every path of the bench carries the right bytes to the receivers: what is measured is what was asked for.

use std::process::Command;

#[test]
fn every_path_carries_what_it_should() {
    let output = Command::new(env!("CARGO_BIN_EXE_mcr-bench")).arg("check").output().expect("start the bench");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for path in ["xdp", "tcx", "packet", "auto", "nftables", "smcroute", "sockets", "socat", "redirect"] {
        assert!(said.contains(&format!("{path}: carries IPv4 to")), "{path} is not measured here:\n{said}");
    }
    for path in ["xdp", "tcx", "packet", "auto", "nftables", "sockets", "redirect"] {
        assert!(said.contains(&format!("{path}: carries IPv6 to")), "{path} is not measured with IPv6 here:\n{said}");
    }
    for path in ["xdp", "tcx", "packet", "auto", "sockets"] {
        let line = format!("{path}: carries IPv4 to IPv6 to");
        assert!(said.contains(&line), "{path} is not measured from IPv4 to IPv6 here:\n{said}");
    }
}
