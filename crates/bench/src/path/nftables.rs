//! nftables at netdev ingress: stateless rewriting, `dup` to each output but the last, `fwd` to that (nft(8), "DUP STATEMENT" and "FWD
//! STATEMENT"). It joins no group and answers for nothing, but it takes unroutable sources.

use std::fmt::Write;
use std::process::{Command, Stdio};

use mcr_testbed::{Mac, Namespace, Topology};

use super::{GROUP, OUTPUT_PORT, Running, output_group};

/// The rules of a namespace; they go with `Drop`.
pub(super) struct Rules {
    namespace: Namespace,
}

impl Drop for Rules {
    fn drop(&mut self) {
        if let Err(error) = nft(&self.namespace, "delete table netdev bench\n") {
            eprintln!("the rules of nftables are left behind: {error}");
        }
    }
}

pub(super) fn start(net: &Topology, outputs: usize, relays: usize) -> Result<Running, String> {
    nft(net.relay(), &rules(net, outputs, relays))?;
    Ok(Running { _rules: Some(Rules { namespace: net.relay().clone() }), ..Running::default() })
}

/// One relay is one rule; of several, a verdict map finds the chain, in the time of one look-up.
fn rules(net: &Topology, outputs: usize, relays: usize) -> String {
    let relay = statements(net, outputs);
    let mut text = String::from("table netdev bench {\n");
    let mut input = format!("ip daddr {} udp dport {} {relay}", GROUP.ip(), GROUP.port());
    if relays > 1 {
        let _ = writeln!(text, "chain relay0 {{ {relay}; }}");
        let mut elements = format!("{} . {} : goto relay0", GROUP.ip(), GROUP.port());
        for i in 1..relays {
            let _ = writeln!(text, "chain relay{i} {{ {relay}; }}");
            let _ = write!(elements, ", 239.10.{}.{} . 5001 : goto relay{i}", i / 250, i % 250);
        }
        input = format!("ip daddr . udp dport vmap {{ {elements} }}");
    }
    let _ = writeln!(text, "chain input {{ type filter hook ingress device \"dev0\" priority 0; {input}; }}\n}}");
    text
}

/// What is the same for all outputs is set once.
fn statements(net: &Topology, outputs: usize) -> String {
    let mut text = format!("ip ttl set 16 udp dport set {OUTPUT_PORT}");
    for (lan, number) in net.lans().iter().zip(1..=outputs) {
        let group = output_group(number);
        let _ = write!(
            text,
            " ip saddr set {} ip daddr set {group} ether saddr set {} ether daddr set {} {} to \"lan{number}\"",
            lan.relay_address(),
            lan.relay_side().mac(),
            Mac::of_group(group),
            if number < outputs { "dup" } else { "fwd" },
        );
    }
    text
}

fn nft(namespace: &Namespace, rules: &str) -> Result<(), String> {
    use std::io::Write;
    let mut command: Command = namespace.command("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("nft can not be started: {error}"))?;
    // A program that ends early closes the pipe; its status tells.
    let _ = child.stdin.take().map(|mut pipe| pipe.write_all(rules.as_bytes()));
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).lines().take(2).collect::<Vec<_>>().join("; "))
}
