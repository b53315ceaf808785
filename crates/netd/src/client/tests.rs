//! The client against a keeper that is late, silent, gone or of another version.

use std::os::fd::AsFd;
use std::thread;

use super::*;
use crate::protocol::{Failure, FailureKind};

/// A client, and the other end of its connection; both ends give up soon.
fn pair() -> (Keeper, Channel) {
    let (ours, theirs) = Channel::pair().unwrap();
    for channel in [&ours, &theirs] {
        channel.set_timeout(Duration::from_millis(50)).unwrap();
    }
    (Keeper { channel: ours, sequence: 0, process: None, _life: Vec::new(), _own: None }, theirs)
}

fn read(channel: &Channel) -> Numbered<Request> {
    let Received::Message(bytes, _) = channel.receive_bytes(Patience::Wait).unwrap() else { panic!("no request came") };
    Request::decode(&bytes).unwrap()
}

fn reply(channel: &Channel, sequence: u32, reply: &Reply) {
    channel.send(&reply.encode(sequence), &[], Patience::Now).unwrap();
}

#[test]
fn a_late_answer_is_not_taken_for_the_next() {
    let (mut keeper, theirs) = pair();
    let error = keeper.open_output(3).unwrap_err();
    assert_eq!(error.kind(), KeeperErrorKind::TimedOut);
    assert!(error.to_string().starts_with("opening an output: the keeper does not answer; restart"), "{error}");
    let late = read(&theirs).sequence;
    let descriptor = std::fs::File::open("/proc/self/status").unwrap();
    theirs.send(&Reply::Sending { port: 1 }.encode(late), &[descriptor.as_fd()], Patience::Now).unwrap();
    let failure = Failure {
        kind: FailureKind::Policy,
        errno: None,
        reason: "not there".to_owned(),
        remedy: "go elsewhere".to_owned(),
    };
    reply(&theirs, late + 1, &Reply::Failed(failure));
    let error = keeper.join(3, "239.1.1.1".parse().unwrap(), &[]).unwrap_err();
    assert_eq!(error.to_string(), "not there; go elsewhere");
}

#[test]
fn what_a_keeper_says_last_is_heard() {
    let (mut keeper, theirs) = pair();
    // It goes with a request unread, which the kernel reports before what the keeper sent.
    keeper.channel.send(&Request::Release.encode(1), &[], Patience::Now).unwrap();
    let failure = Failure {
        kind: FailureKind::Startup,
        errno: None,
        reason: "no room".to_owned(),
        remedy: "make some".to_owned(),
    };
    reply(&theirs, 0, &Reply::Failed(failure));
    drop(theirs);
    let error = keeper.release().unwrap_err();
    assert_eq!(error.to_string(), "no room; make some");
    let error = keeper.release().unwrap_err();
    assert_eq!(error.kind(), KeeperErrorKind::Lost);
    assert!(!error.is_nobody_there());
}

#[test]
fn another_version_is_refused() {
    let (keeper, theirs) = pair();
    let answer = thread::spawn(move || {
        let Numbered { sequence, message } = read(&theirs);
        assert_eq!(message, Request::Hello { version: VERSION });
        reply(&theirs, sequence, &Reply::Welcome { version: VERSION + 1, process: 1 });
    });
    let error = Keeper::greet(keeper.channel, None).unwrap_err();
    let expected =
        format!("speaks version {} of its protocol, this program speaks version {VERSION}; install", VERSION + 1);
    assert!(error.to_string().contains(&expected), "{error}");
    answer.join().unwrap();
}

#[test]
fn answers_that_make_no_sense_are_errors() {
    let (mut keeper, theirs) = pair();
    // An inventory that does not advance would be asked for ever.
    reply(&theirs, 1, &Reply::Held { next: 1, items: Vec::new() });
    reply(&theirs, 2, &Reply::Held { next: 1, items: Vec::new() });
    assert_eq!(keeper.inventory().unwrap_err().kind(), KeeperErrorKind::Protocol);
    reply(&theirs, 3, &Reply::Done);
    assert_eq!(keeper.inventory().unwrap_err().kind(), KeeperErrorKind::Protocol);
    reply(&theirs, 4, &Reply::Sending { port: 1 });
    let error = keeper.open_output(3).unwrap_err();
    assert!(error.reason().contains("did not arrive"), "{error}");
    theirs.send(&[1, 2, 3], &[], Patience::Now).unwrap();
    assert_eq!(keeper.release().unwrap_err().kind(), KeeperErrorKind::Protocol);
}

#[test]
fn memberships_that_change_together_are_answered_one_by_one() {
    let (mut keeper, theirs) = pair();
    let group = |last: u8| IpAddr::from([239, 1, 1, last]);
    let changes: Vec<_> = (0..40).map(|last| MembershipChange::Leave { interface: 3, group: group(last) }).collect();
    let answer = thread::spawn(move || {
        for last in 0..40 {
            let Numbered { sequence, message } = read(&theirs);
            assert_eq!(message, Request::Leave { interface: 3, group: group(last) });
            if last == 7 {
                let (reason, remedy) = ("not there".to_owned(), "go elsewhere".to_owned());
                let failure = Failure { kind: FailureKind::Policy, errno: None, reason, remedy };
                reply(&theirs, sequence, &Reply::Failed(failure));
            } else {
                reply(&theirs, sequence, &Reply::Done);
            }
        }
        theirs
    });
    let results = keeper.change_memberships(&changes);
    let refused: Vec<usize> = (0..40).filter(|&index| results[index].is_err()).collect();
    assert_eq!((results.len(), refused), (40, vec![7]));
    // One that says nothing is waited for once.
    let theirs = answer.join().unwrap();
    let begun = std::time::Instant::now();
    let results = keeper.change_memberships(&changes);
    let is_silent = |result: &Result<(), KeeperError>| {
        result.as_ref().is_err_and(|error| error.kind() == KeeperErrorKind::TimedOut)
    };
    assert!(results.len() == 40 && results.iter().all(is_silent), "{results:?}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    drop(theirs);
}
