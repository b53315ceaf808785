//! The interface: is it there, up, and plugged in.

use super::Case;
use crate::facts::Link;
use crate::report::Step;

const STEP: &str = "link";

pub(super) fn step(case: &Case<'_>) -> Option<Step> {
    let name = case.interface();
    let Some(link) = case.link else {
        let there = super::listed(case.facts.links.iter().map(|link| &link.name), 8);
        let step =
            Step::fault(STEP, "link_missing", format!("there is no interface {name}"), "create it or correct the name");
        return Some(step.because([format!("interfaces: {there}")]));
    };
    Some(if !link.up {
        Step::fault(STEP, "link_down", format!("{name} is set down"), format!("ip link set {name} up"))
    } else if !link.carrier {
        let remedy =
            format!("check the cable and the other end; `ip link show {name}` shows LOWER_UP when there is a link");
        Step::fault(STEP, "no_carrier", format!("{name} is up and has no link (no carrier)"), remedy)
    } else if case.question.input.target.is_group() && !link.multicast {
        let remedy = format!("ip link set {name} multicast on");
        Step::fault(STEP, "multicast_off", format!("{name} has multicast switched off"), remedy)
    } else if case.is_ipv6() && case.facts.settings.without_ipv6.contains(name) && case.relays.is_empty() {
        let remedy = format!("sysctl -w net.ipv6.conf.{name}.disable_ipv6=0 (and net.ipv6.conf.all.disable_ipv6=0)");
        Step::fault(STEP, "ipv6_off", format!("{name} has IPv6 switched off: no socket hears IPv6 there"), remedy)
    } else {
        let step = Step::ok(STEP, "link_up", format!("{name} is up, has a link, mtu {}", link.mtu));
        step.because(drops(link)).because(xdp(link))
    })
}

fn drops(link: &Link) -> Option<String> {
    let text = || format!("the device lost {} (ring full, overrun) meanwhile", super::counted(link.device_drops));
    (link.device_drops > 0).then(text)
}

fn xdp(link: &Link) -> Option<String> {
    let text = "an XDP program is on it: frames that it takes are seen by nobody here";
    link.xdp.then(|| text.to_owned())
}
