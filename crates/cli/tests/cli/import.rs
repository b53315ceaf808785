//! `mcr import`: what is printed passes `mcr check`.

use std::path::Path;

use insta::assert_snapshot;

use crate::mcr::{command, run};

const SMCROUTE: &str = "\
# A comment
phyint eth0 enable ttl-threshold 11
mgroup from eth0                     group 225.1.2.3
mroute from eth0 source 192.168.1.42 group 225.1.2.3 to eth1 eth2   # and another
mroute from eth0 source 10.1.2.3/24 group 239.1.0.7 to eth1
mroute from eth0 group 239.1.0.0/31 to eth1
mroute from eth0 group 239.1.0.0/31 to eth1
mroute from eth0 source 0.0.0.0 group 239.3.0.1 to eth0
mroute from eth+ group 239.3.0.1 to eth1
mroute from eth0 group 239.0.0.0/8 to eth1
mroute from eth0 group ff05::1 to eth1
mroute from eth0 group 239.3.0.1
mroute from eth0 group 224.0.0.5 to eth1
include /etc/smcroute.d/*.conf
route it
";

/// Runs an import, and has `mcr check` look at what it printed.
fn imported(directory: &Path, arguments: &[&str]) -> String {
    let output = command(&[&["import"], arguments].concat()).output().unwrap();
    let file = directory.join("imported.toml");
    std::fs::write(&file, &output.stdout).unwrap();
    let checked = run(directory, &["check", file.to_str().unwrap()]);
    assert!(checked.starts_with("exit 0"), "{checked}");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap().replace(&*directory.to_string_lossy(), "/run/test");
    format!("exit {}\n{text}\n{checked}", output.status.code().unwrap())
}

#[test]
fn smcroute() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("smcroute.conf");
    std::fs::write(&file, SMCROUTE).unwrap();
    let file = file.to_str().unwrap();
    assert_snapshot!("smcroute", imported(directory.path(), &[file, "--port", "5001", "--port", "5002"]));
    assert_snapshot!("smcroute_without_ports", imported(directory.path(), &[file]));
}

#[test]
fn socat() {
    let directory = tempfile::tempdir().unwrap();
    let lines: [&[&str]; 7] = [
        &["UDP4-RECVFROM:5001,ip-add-membership=239.1.1.1:eth0,fork UDP4-DATAGRAM:239.2.2.2:6001,so-bindtodevice=eth1"],
        &["socat -u -T5 UDP4-RECV:5001,reuseaddr,ip-add-source-membership=239.1.1.1:10.0.0.1:192.168.168.55,rcvbuf=9 \
           'UDP-DATAGRAM:239.2.2.2:6001,ip-multicast-if=10.1.0.1,ip-multicast-ttl=8,tos=0x88,bind=:6000'"],
        &[
            "-U UDP-SENDTO:10.1.0.20:6001,ttl=9,interface=eth1,broadcast UDP4-DATAGRAM:224.255.0.1:6666,bind=:6666,ip-add-membership=224.255.0.1:eth0",
        ],
        &["UDP-LISTEN:5001,bind=10.0.0.1,if=eth0,range=10.0.0.9:255.255.252.0 UDP4:10.1.0.20:6001,if=eth1,sp=7000"],
        &["UDP4-RECV:5001,if=eth0 UDP4-SENDTO:10.1.0.20:6001,if=eth1"],
        &["TCP-LISTEN:80 UDP4-SENDTO:10.1.0.20:6001"],
        &["UDP4-RECV:5001,ip-add-membership=239.1.1.1:eth0 UDP4-SENDTO:example.com:6001,if=eth1"],
    ];
    for (i, line) in lines.into_iter().enumerate() {
        let interfaces: &[&str] = if i == 1 { &["--input", "eth0", "--output", "eth1"] } else { &[] };
        let arguments = [&["--socat"][..], line, interfaces].concat();
        assert_snapshot!(format!("socat_{i}"), imported(directory.path(), &arguments));
    }
    assert_snapshot!("socat_without_interface", imported(directory.path(), &["--socat", lines[1][0]]));
}
