//! Rivals that are programs: each gets the precedence on the CPU that MCR takes for itself.

use std::fmt::Write;
use std::process::{Child, Command};

use mcr_testbed::Topology;

use super::{GROUP, OUTPUT_PORT, ROUTABLE, Running, spawn};
use crate::cpu;
use crate::families::Families;

/// The static route of smcroute.conf(5); the kernel forwards, and rewrites nothing but the TTL.
pub(super) fn smcroute(net: &Topology, outputs: usize) -> Result<Running, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let (mut config, mut to) = (String::from("phyint dev0 enable\n"), String::new());
    for output in 1..=outputs {
        let _ = writeln!(config, "phyint lan{output} enable");
        let _ = write!(to, " lan{output}");
    }
    let group = GROUP.ip();
    let _ = writeln!(config, "mgroup from dev0 group {group}\nmroute from dev0 source {ROUTABLE} group {group} to{to}");
    std::fs::write(at("smcroute.conf"), config).expect("write the configuration");
    let mut command = net.relay().command("smcrouted");
    command.args(["-n", "-N", "-l", "err", "-f"]).arg(at("smcroute.conf"));
    command.arg("-P").arg(at("pid")).arg("-u").arg(at("sock"));
    let child = with_precedence(&mut command)?;
    Ok(Running { folder: Some(folder), ..Running::of(vec![child]) })
}

/// One `socat` for each output: it has no way to send to several. Its buffer is as large as `net.core.rmem_max` allows (it
/// has no way to force more), so that a burst is not what it loses.
pub(super) fn socat(net: &Topology, outputs: usize) -> Result<Running, String> {
    let from = format!("UDP4-RECV:{},reuseaddr,ip-add-membership={}:dev0,so-rcvbuf=16777216", GROUP.port(), GROUP.ip());
    let one = |output: usize| {
        let group = Families::Ipv4.output_group(output);
        let to = format!("UDP4-DATAGRAM:{group}:{OUTPUT_PORT},ip-multicast-if=10.0.{output}.1,ip-multicast-ttl=16");
        with_precedence(net.relay().command("socat").args(["-u", "-b", "65536", &from, &to]))
    };
    let mut running = Running::default();
    for output in 1..=outputs {
        running.children.0.push(one(output)?);
    }
    Ok(running)
}

/// [`crate::plain`], in a process of its own.
pub(super) fn plain(net: &Topology, families: Families, outputs: usize) -> Result<Running, String> {
    let own = std::env::current_exe().expect("the path of this program");
    let child =
        with_precedence(net.relay().command(own).args(["plain-relay", &outputs.to_string(), &families.argument()]))?;
    Ok(Running::of(vec![child]))
}

fn with_precedence(command: &mut Command) -> Result<Child, String> {
    let child = spawn(command, None)?;
    // SAFETY: a plain system call on the id of our own child, which is not waited for yet.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, child.id(), cpu::NICE) };
    Ok(child)
}
