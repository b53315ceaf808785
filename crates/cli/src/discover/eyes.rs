//! Who looks: this process, or the daemon for it.

use std::time::Duration;

use mcr_diagnose::{Blind, Gaze, Link, lookable};
use mcr_model::Prefix;
use mcr_model::duration;
use mcr_model::flow::FlowReport;
use serde_json::json;
use socket2::Socket;

use crate::client::Client;
use crate::failure::Failure;
use crate::traffic::socket::probing;

/// What somebody wants to look at.
#[derive(Debug)]
pub(crate) struct Wish {
    /// The interfaces; none: all.
    pub(crate) interfaces: Vec<String>,
    /// Groups to be joined meanwhile.
    pub(crate) probe_groups: Vec<Prefix>,
}

/// Who looks.
pub(crate) enum Eyes {
    /// This process.
    Own(Own),
    /// The daemon.
    OfDaemon(Far),
}

/// Sockets of this process.
pub(crate) struct Own {
    pub(crate) gaze: Gaze,
    pub(crate) links: Vec<Link>,
    /// Held until the end of the look.
    pub(crate) _joined: Vec<Socket>,
}

/// A daemon that looks.
pub(crate) struct Far {
    client: Client,
    interfaces: Vec<String>,
}

impl Eyes {
    /// Those of this process, or of the daemon when that is elsewhere or this process may not look.
    pub(crate) fn open(wish: &Wish, client: Client) -> Result<Self, Failure> {
        let Wish { interfaces, probe_groups } = wish;
        let own = if client.is_remote() { None } else { Some(own(interfaces)?) };
        let (gaze, links) = match own {
            Some((Ok(gaze), links)) => (gaze, links),
            Some((Err(blind), _)) if !client.is_served() => return Err(failed(blind)),
            Some(_) | None => return Self::far(wish, client),
        };
        let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
        let _joined = probing(&names, probe_groups)?;
        Ok(Self::Own(Own { gaze, links, _joined }))
    }

    fn far(wish: &Wish, client: Client) -> Result<Self, Failure> {
        if !wish.probe_groups.is_empty() {
            return Err(Failure::usage(
                "--probe-groups joins from this host and as root; the daemon looks, but joins only for its relays",
            ));
        }
        Ok(Self::OfDaemon(Far { client, interfaces: wish.interfaces.clone() }))
    }

    /// What there is to know before.
    pub(crate) fn notice(&self) -> String {
        const SWITCH: &str = "a switch that snoops sends here only what somebody here has joined, or floods";
        let own = match self {
            Self::Own(own) => own,
            Self::OfDaemon(Far { client, interfaces }) => {
                let all = "all interfaces that its keeper lets it".to_owned();
                let names = if interfaces.is_empty() { all } else { interfaces.join(", ") };
                let server = client.server();
                return format!("the daemon at {server} looks at {names} (promiscuous meanwhile); {SWITCH}");
            }
        };
        let names: Vec<&str> = own.links.iter().map(|link| link.name.as_str()).collect();
        let switch = if own._joined.is_empty() { SWITCH } else { "the groups to probe are joined" };
        let notice = format!("looking at {} (promiscuous meanwhile); {switch}", names.join(", "));
        match self.hidden().join(", ") {
            taken if taken.is_empty() => notice,
            taken => format!("{notice}\nnot seen is what an XDP program takes before anybody sees it, on {taken}"),
        }
    }

    /// The interfaces with an XDP program; of a daemon's host it is not known.
    pub(crate) fn hidden(&self) -> Vec<String> {
        match self {
            Self::Own(own) => own.links.iter().filter(|link| link.xdp).map(|link| link.name.clone()).collect(),
            Self::OfDaemon(_) => Vec::new(),
        }
    }
}

impl Far {
    /// Looks for so long.
    pub(crate) fn look(&self, length: Duration) -> Result<FlowReport, Failure> {
        let body = json!({ "interfaces": self.interfaces, "duration": duration::text(length) });
        self.client.post_waiting("flows", body.to_string(), length)?.read()
    }
}

fn own(interfaces: &[String]) -> Result<(Result<Gaze, Blind>, Vec<Link>), Failure> {
    let links = lookable(interfaces).map_err(failed)?;
    let indexes: Vec<u32> = links.iter().map(|link| link.index).collect();
    Ok((Gaze::open(&indexes), links))
}

fn failed(Blind { reason, remedy }: Blind) -> Failure {
    Failure::failed(format!("{reason}; {remedy}"))
}
