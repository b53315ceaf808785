//! Changes that go before those that wait for the disk.
//!
//! A change of which nothing has to be stored is made at once, although others that came before it wait for the disk,
//! unless
//!
//! - one of those is about the same relay, or is a whole configuration: changes of one name keep their order;
//! - what the disk writes would not fit any more after it: that was promised a place, and may be stored already.
//!
//! None of those who asked has an answer yet, so nobody can tell that another order was theirs; and each change is still
//! tried against exactly what it meets when it is put in force.

use std::collections::BTreeSet;

use mcr_engine::Refusal;
use mcr_model::RelayName;
use mcr_model::status::Origin;
use mcr_model::trouble::TroubleKind;

use super::{Command, Fit, Journal, RelayRequest, Request};

impl Journal {
    /// Makes what need not wait.
    pub(super) fn overtake(&mut self) {
        let light = self.take_light();
        if light.is_empty() {
            return;
        }
        let Some(verdicts) = self.verdicts_before_the_disk(&light) else {
            light.into_iter().rev().for_each(|request| self.waiting.push_front(Request::Relay(Box::new(request))));
            return;
        };
        for (request, verdict) in light.into_iter().zip(verdicts) {
            match verdict {
                Ok(_) => self.enforce(request),
                Err(refusal) => request.refuse(refusal.into()),
            }
        }
    }

    /// Takes what needs no store out of what waits; what has to keep its place stays.
    fn take_light(&mut self) -> Vec<RelayRequest> {
        let writing = self.writing.iter().flat_map(|writing| &writing.changes);
        let mut before: BTreeSet<RelayName> = writing.map(|(request, _)| request.name().clone()).collect();
        let mut light = Vec::new();
        let mut waiting = std::mem::take(&mut self.waiting).into_iter();
        for request in waiting.by_ref() {
            match request {
                Request::Relay(request) if !before.contains(request.name()) && self.needs_no_store(&request) => {
                    light.push(*request);
                }
                Request::Relay(request) => {
                    before.insert(request.name().clone());
                    self.waiting.push_back(Request::Relay(request));
                }
                configuration => {
                    self.waiting.push_back(configuration);
                    break;
                }
            }
        }
        self.waiting.extend(waiting);
        light
    }

    /// Whether nothing in the store is different by a change, when no other of its name goes before it.
    fn needs_no_store(&self, request: &RelayRequest) -> bool {
        self.record(request, Origin::Api, &[]).is_none()
            && !self.troubles.has(TroubleKind::RelayLeftOut, request.name().as_str())
    }

    /// What becomes of `light`; `None`: what the disk writes would not fit after it.
    fn verdicts_before_the_disk(&self, light: &[RelayRequest]) -> Option<Vec<Result<Origin, Refusal>>> {
        let writing = self.writing.iter().flat_map(|writing| &writing.changes);
        let in_force_later = writing.filter(|(_, fit)| *fit != Fit::LeftOut).map(|(request, _)| request);
        let wishes = light.iter().chain(in_force_later).map(RelayRequest::wish).collect();
        let mut verdicts = self.ask(|reply| Command::Rehearse(wishes, reply))?;
        let later = verdicts.split_off(light.len());
        later.iter().all(Result::is_ok).then_some(verdicts)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use mcr_engine::Engine;
    use mcr_model::{Grant, Lease, Role};
    use tokio::sync::oneshot;

    use super::super::{ApplyError, ChangeError, RelayChange, Reply};
    use super::*;
    use crate::events::EventLog;
    use crate::store::{Store, StoreError};
    use crate::troubles::Troubles;

    const SOON: Duration = Duration::from_secs(10);

    /// A journal with a control thread that has nothing but an engine, and a test in the place of the disk.
    struct Desk {
        journal: Sender<Request>,
        disk: Receiver<Vec<RelayChange>>,
        /// How many changes the control thread is asked to try together.
        tried: Receiver<usize>,
    }

    /// A change that was asked for, and its answer when that has come.
    struct Asked(Receiver<Result<(), ChangeError>>);

    impl Desk {
        fn new() -> Self {
            let (commands, inbox) = channel();
            let (to_disk, disk) = channel();
            let (journal, requests) = channel();
            let (trying, tried) = channel();
            std::thread::spawn(move || control(&inbox, &trying));
            let (events, troubles) = (EventLog::new(), Troubles::default());
            let keeping = Journal::new(Store::in_memory(), to_disk, commands, None, events, troubles);
            std::thread::spawn(move || keeping.run(&requests));
            Self { journal, disk, tried }
        }

        /// Asks for a relay between these interfaces of `group`.
        fn put(&self, name: &str, [from, to]: [&str; 2], lease: Option<Lease>) -> Asked {
            let text = format!(
                "[[relay]]\nname = \"{name}\"\ninput = {{ interface = \"{from}\", group = \"239.1.1.1\", port = 5001 }}\n\
                 output = [ {{ interface = \"{to}\", group = \"239.1.1.1\", port = 5001 }} ]\n"
            );
            let relay = crate::config::check_text("test", &text).unwrap().remove(0);
            self.ask(|reply| RelayRequest::Replace(relay, lease, Grant::unlimited(Role::Operator).into(), reply))
        }

        fn remove(&self, name: &str) -> Asked {
            let name = name.parse().unwrap();
            self.ask(|reply| RelayRequest::Remove(name, Grant::unlimited(Role::Operator).into(), reply))
        }

        fn ask<T: Send + 'static>(&self, request: impl FnOnce(Reply<T>) -> RelayRequest) -> Asked {
            let (reply, answer) = oneshot::channel();
            let (done, asked) = channel();
            self.journal.send(Request::Relay(Box::new(request(reply)))).unwrap();
            std::thread::spawn(move || done.send(answer.blocking_recv().unwrap().map(drop)));
            Asked(asked)
        }

        /// What the disk is to write next.
        fn written(&self) -> Vec<RelayChange> {
            self.disk.recv_timeout(SOON).expect("something to write")
        }

        fn has_written(&self, outcome: Result<(), StoreError>) {
            self.journal.send(Request::Stored(outcome)).unwrap();
        }
    }

    impl Asked {
        fn answer(self) -> Result<(), ChangeError> {
            self.0.recv_timeout(SOON).expect("an answer")
        }

        fn is_not_answered(&self) -> bool {
            self.0.try_recv().is_err()
        }
    }

    fn control(inbox: &Receiver<Command>, trying: &Sender<usize>) {
        let mut engine = Engine::new("(none)");
        for command in inbox {
            match command {
                Command::Rehearse(wishes, reply) => {
                    let _ = trying.send(wishes.len());
                    let _ = reply.send(engine.rehearse(&wishes));
                }
                Command::Replace(relay, _, reply) => {
                    let name = relay.name().clone();
                    let replaced = engine.replace(relay).map_err(ChangeError::from);
                    let status = engine.status(&name, Duration::ZERO);
                    drop(reply.send(replaced.map(|replaced| (replaced, status.unwrap()))));
                }
                Command::Remove(name, reply) => drop(reply.send(engine.remove(&name).map_err(ChangeError::from))),
                other => panic!("{other:?}"),
            }
        }
    }

    fn lease() -> Option<Lease> {
        Some("30s".parse().unwrap())
    }

    const ANY: [&str; 2] = ["eth0", "eth1"];
    const OTHER: [&str; 2] = ["eth2", "eth3"];

    #[test]
    fn a_lease_does_not_wait_for_the_disk() {
        let desk = Desk::new();
        let kept = desk.put("kept", ANY, None);
        assert_eq!(desk.written().len(), 1);
        desk.put("lent", OTHER, lease()).answer().unwrap();
        desk.put("lent", ["eth2", "eth4"], lease()).answer().unwrap();
        desk.remove("lent").answer().unwrap();
        assert!(matches!(desk.remove("lent").answer(), Err(ChangeError::Refused(Refusal::NotFound { .. }))));
        assert!(kept.is_not_answered(), "it is not stored yet");
        desk.has_written(Ok(()));
        kept.answer().unwrap();
        // The same again is stored already.
        desk.put("kept", ANY, None).answer().unwrap();
    }

    #[test]
    fn changes_of_one_relay_keep_their_order() {
        let desk = Desk::new();
        let first = desk.put("kept", ANY, None);
        desk.written();
        let second = desk.put("kept", ANY, lease());
        let third = desk.remove("kept");
        desk.put("lent", OTHER, lease()).answer().unwrap();
        assert!(second.is_not_answered(), "the first one is not in force yet");
        desk.has_written(Ok(()));
        first.answer().unwrap();
        assert!(matches!(&desk.written()[..], [RelayChange::Remove(name)] if name.as_str() == "kept"));
        desk.has_written(Ok(()));
        second.answer().unwrap();
        third.answer().unwrap();
    }

    #[test]
    fn nothing_overtakes_a_configuration() {
        let desk = Desk::new();
        let kept = desk.put("kept", ANY, None);
        desk.written();
        assert_eq!(desk.tried.recv(), Ok(1));
        let (reply, confirmed) = oneshot::channel();
        desk.journal.send(Request::Confirm("somebody".to_owned(), reply)).unwrap();
        let behind = desk.put("lent", OTHER, lease());
        assert!(desk.tried.recv_timeout(Duration::from_millis(100)).is_err(), "it waits");
        desk.has_written(Ok(()));
        kept.answer().unwrap();
        assert_eq!(confirmed.blocking_recv().unwrap(), Err(ApplyError::NothingToConfirm));
        behind.answer().unwrap();
    }

    /// A relay that would close a loop with one that the disk writes waits, and is judged by what became of that.
    #[test]
    fn what_is_being_stored_keeps_its_place() {
        for (outcome, is_made) in [(Ok(()), false), (Err(StoreError::Full { path: "/store".into() }), true)] {
            let desk = Desk::new();
            let kept = desk.put("kept", ["eth0", "eth1"], None);
            desk.written();
            let loops = desk.put("loops", ["eth1", "eth0"], lease());
            // The first alone, then both.
            assert_eq!((desk.tried.recv(), desk.tried.recv()), (Ok(1), Ok(2)));
            desk.has_written(outcome.clone());
            assert_eq!(kept.answer().is_ok(), outcome.is_ok());
            assert_eq!(loops.answer().is_ok(), is_made);
        }
    }
}
