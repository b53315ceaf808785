//! Which datapath serves a relay, and why no faster one.

use mcr_model::{Datapath, DatapathChoice};

use crate::effect::{Failure, InputKey, Subject};
use crate::engine::Entry;
use crate::plan::View;

/// The datapaths that `auto` tries, from the best to the one that always works.
const AUTO: [Datapath; 2] = [Datapath::Tcx, Datapath::Packet];

/// The datapath of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Serving {
    pub(crate) datapath: Datapath,
    /// Why no faster one, in a sentence without a final stop; `None`: there is nothing to say.
    pub(crate) because: Option<String>,
}

impl View<'_> {
    /// What moves the packets of `entry`, or would, as far as it is known what works.
    pub(crate) fn serving(&self, entry: &Entry) -> Serving {
        match self.choice(entry) {
            DatapathChoice::Only(datapath) => Serving { datapath, because: asked_for(datapath) },
            DatapathChoice::Auto => self.best(entry),
        }
    }

    fn choice(&self, entry: &Entry) -> DatapathChoice {
        entry.relay.datapath().unwrap_or(self.datapath)
    }

    fn best(&self, entry: &Entry) -> Serving {
        let mut because = None;
        for datapath in AUTO {
            match self.hindrance(entry, datapath) {
                Some(reason) if datapath != Datapath::Packet => because = Some(format!("not {datapath}: {reason}")),
                Some(_) | None => return Serving { datapath, because },
            }
        }
        unreachable!("`packet` ends the list and has no hindrance")
    }

    /// Why a datapath can not serve the relay; `None` while nothing is known against it.
    fn hindrance(&self, entry: &Entry, datapath: Datapath) -> Option<&str> {
        let interface = self.facts.get(&entry.relay.input().interface)?.index;
        let input = self.failures.get(&Subject::Input(InputKey { interface, datapath }));
        input.or_else(|| self.refusal(entry, datapath)).map(|failure| failure.error.reason.as_str())
    }

    /// Why a table of the kernel has no room for the relay.
    fn refusal(&self, entry: &Entry, datapath: Datapath) -> Option<&Failure> {
        match datapath {
            Datapath::Packet => None,
            Datapath::Tcx | Datapath::Xdp => self.failures.get(&Subject::Relay(entry.relay.name().clone())),
        }
    }

    /// Whether the datapath that is to serve the relay has no room for it.
    pub(crate) fn is_refused(&self, entry: &Entry, datapath: Datapath) -> bool {
        self.refusal(entry, datapath).is_some()
    }

    /// The datapaths whose receiving side is to be open for the relay: the one that serves it, and the better ones that
    /// are tried again.
    pub(crate) fn worth_opening(&self, entry: &Entry, serving: Datapath) -> Vec<Datapath> {
        match self.choice(entry) {
            DatapathChoice::Only(datapath) => vec![datapath],
            DatapathChoice::Auto => AUTO.into_iter().filter(|datapath| *datapath >= serving).collect(),
        }
    }
}

fn asked_for(datapath: Datapath) -> Option<String> {
    (datapath != Datapath::Xdp).then(|| format!("{datapath} is what was asked for"))
}
