//! nftables at netdev ingress: stateless rewriting, `dup` to each output but the last, `fwd` to that (nft(8), "DUP STATEMENT" and "FWD
//! STATEMENT"). It joins no group and answers for nothing, but it takes unroutable sources.

use std::fmt::Write;
use std::process::{Command, Stdio};

use mcr_testbed::{Mac, Namespace, Topology};

use super::{GROUP, OUTPUT_PORT, Running, other};
use crate::families::Families;

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

pub(super) fn start(net: &Topology, families: Families, outputs: usize, relays: usize) -> Result<Running, String> {
    nft(net.relay(), &rules(net, families, outputs, relays))?;
    Ok(Running { _rules: Some(Rules { namespace: net.relay().clone() }), ..Running::default() })
}

/// The matches of one relay stand in the base chain; of several, a verdict map finds the relay's chain, in the time of one look-up.
fn rules(net: &Topology, families: Families, outputs: usize, relays: usize) -> String {
    let relay = statements(net, families, outputs);
    let (ip, group) = (protocol(families), families.group());
    let chain = relay.join("; ");
    let mut text = String::from("table netdev bench {\n");
    let is_one_rule = relays == 1 && relay.len() == 1;
    let input = if is_one_rule {
        format!("{ip} daddr {} udp dport {} {chain}", group.ip(), group.port())
    } else if relays == 1 {
        let _ = writeln!(text, "chain relay0 {{ {chain}; }}");
        format!("{ip} daddr {} udp dport {} goto relay0", group.ip(), group.port())
    } else {
        let mut elements = Vec::with_capacity(relays);
        for i in 0..relays {
            let _ = writeln!(text, "chain relay{i} {{ {chain}; }}");
            let at = if i == 0 { GROUP } else { other(i) };
            elements.push(format!("{} . {} : goto relay{i}", at.ip(), at.port()));
        }
        format!("ip daddr . udp dport vmap {{ {} }}", elements.join(", "))
    };
    let _ = writeln!(text, "chain input {{ type filter hook ingress device \"dev0\" priority 0; {input}; }}\n}}");
    text
}

/// The statements of a relay: as few rules as the kernel allows (128 expressions each). What is the same for all outputs is set once.
fn statements(net: &Topology, families: Families, outputs: usize) -> Vec<String> {
    const OUTPUTS_OF_A_RULE: usize = 8;
    let ip = protocol(families);
    let to = |output: usize| {
        let (lan, group) = (net.lan(output), families.output_group(output));
        format!(
            "{ip} saddr set {} {ip} daddr set {group} ether saddr set {} ether daddr set {} {} to \"lan{output}\"",
            families.output_source(output),
            lan.relay_side().mac(),
            Mac::of_group(group),
            if output < outputs { "dup" } else { "fwd" },
        )
    };
    let all: Vec<String> = (1..=outputs).map(to).collect();
    let mut rules: Vec<String> = all.chunks(OUTPUTS_OF_A_RULE).map(|outputs| outputs.join(" ")).collect();
    let time_to_live = if families == Families::Ipv6 { "hoplimit" } else { "ttl" };
    rules[0].insert_str(0, &format!("{ip} {time_to_live} set 16 udp dport set {OUTPUT_PORT} "));
    rules
}

/// What nft calls the header; it stays the same one.
fn protocol(families: Families) -> &'static str {
    match families {
        Families::Ipv4 | Families::Ipv4ToIpv6 => "ip",
        Families::Ipv6 => "ip6",
    }
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
    Err(String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("nft failed").to_owned())
}
