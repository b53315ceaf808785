//! The store under what happens to stores: killed writers, full disks, damaged files, a second daemon.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use mcr_daemon::store::{NewRevision, OpenError, RelayChange, Standing, Store, StoreError};
use mcr_model::revision::Cause;
use mcr_model::span::PortSpec;
use mcr_model::spec::{InputSpec, OutputSpec, RelaySpec};

fn relay(name: &str, port: i64) -> RelaySpec {
    RelaySpec {
        name: name.to_owned(),
        input: InputSpec {
            interface: "eth0".into(),
            group: Some("239.1.1.1".into()),
            port: port.into(),
            ..InputSpec::default()
        },
        output: vec![OutputSpec {
            interface: "eth1".into(),
            group: Some("239.2.2.2".into()),
            port: port.into(),
            ..OutputSpec::default()
        }],
        ..RelaySpec::default()
    }
}

fn open(folder: &Path) -> Store {
    let (store, set_aside) = Store::open(folder).unwrap();
    assert_eq!(set_aside, None);
    store
}

fn number(port: &PortSpec) -> i64 {
    match port {
        PortSpec::Number(number) => *number,
        PortSpec::Text(text) => panic!("{text} is no number"),
    }
}

fn put(store: &Store, names: &[&str], port: i64) -> Result<(), StoreError> {
    store.change_relays(&names.iter().map(|name| RelayChange::Put(relay(name, port))).collect::<Vec<_>>())
}

fn revision(text: &str) -> NewRevision {
    NewRevision {
        by: "test".into(),
        cause: Cause::Apply,
        note: None,
        text: text.into(),
        relays: 0,
        file_hash: None,
        confirm_until: None,
    }
}

#[test]
fn what_was_stored_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, &["b", "a"], 5001).unwrap();
    store.change_relays(&[RelayChange::Put(relay("c", 1)), RelayChange::Remove("c".parse().unwrap())]).unwrap();
    store.put_token("t1", &("hash", 7)).unwrap();
    store.put_token("t2", &("other", 8)).unwrap();
    assert!(store.remove_token("t2").unwrap());
    assert!(!store.remove_token("t2").unwrap());
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.relays().unwrap(), [relay("a", 5001), relay("b", 5001)]);
    assert_eq!(store.tokens::<(String, u8)>().unwrap(), [("hash".to_owned(), 7)]);
}

#[test]
fn revisions_count_up_and_know_which_is_in_force() {
    let store = Store::in_memory();
    assert_eq!(store.standing().unwrap(), None);
    let (first, _) = store.revise(revision("# one")).unwrap();
    let until = mcr_model::time::Timestamp::from_unix_seconds(99);
    let trial = NewRevision { confirm_until: Some(until), note: Some("try".into()), ..revision("# two") };
    let (second, standing) = store.revise(trial).unwrap();
    assert_eq!((first.number, second.number, standing.revision), (1, 2, 2));
    assert_eq!(standing.pending.as_ref().map(|pending| (pending.previous, pending.until)), Some((1, until)));
    assert_eq!(store.standing().unwrap().as_ref(), Some(&standing));
    let confirmed = Standing { pending: None, ..standing };
    store.set_standing(&confirmed).unwrap();
    assert_eq!(store.standing().unwrap(), Some(confirmed));
    assert_eq!(store.revision(2).unwrap(), Some((second.clone(), "# two".to_owned())));
    assert_eq!(store.revision(3).unwrap(), None);
    assert_eq!(store.revisions().unwrap(), [first, second]);
}

#[test]
fn old_revisions_are_forgotten_and_their_numbers_are_not_used_again() {
    let store = Store::in_memory();
    for i in 0..230 {
        store.revise(revision(&format!("# {}", i % 2))).unwrap();
    }
    let kept = store.revisions().unwrap();
    assert_eq!((kept.len(), kept[0].number, kept[199].number), (200, 31, 230));
    assert_eq!(store.revision(31).unwrap().unwrap().1, "# 0");
    assert_eq!(store.revise(revision("# 2")).unwrap().0.number, 231);
}

#[test]
fn large_texts_leave_room_for_the_one_in_force_and_the_one_before() {
    let store = Store::in_memory();
    for i in 0..4 {
        store.revise(revision(&format!("{i}{}", "#".repeat(20 << 20)))).unwrap();
    }
    let kept: Vec<u64> = store.revisions().unwrap().iter().map(|revision| revision.number).collect();
    assert_eq!(kept, [3, 4]);
    assert!(store.revision(3).unwrap().unwrap().1.starts_with('2'));
}

#[test]
fn two_daemons_do_not_share_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path());
    let error = Store::open(folder.path()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("--state-dir"), "{error}");
}

#[test]
fn a_folder_that_can_not_be_is_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let error = Store::open(&folder.path().join("file/state")).unwrap_err().to_string();
    assert!(error.contains("can not keep state in") && error.contains("--state-dir"), "{error}");
}

#[test]
fn a_damaged_store_is_set_aside() {
    for damage in [damage_everything, damage_a_page, cut_off] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        put(&store, &["a"], 5001).unwrap();
        let path = store.path().to_owned();
        drop(store);
        damage(&path);
        let (store, aside) = Store::open(folder.path()).unwrap();
        let aside = aside.expect("it is damaged");
        assert!(aside.path.exists() && aside.path.to_string_lossy().contains("store.redb.damaged-20"), "{aside:?}");
        assert!(!aside.reason.is_empty());
        assert_eq!(store.relays().unwrap(), []);
        put(&store, &["b"], 5001).unwrap();
    }
}

fn damage_everything(path: &Path) {
    std::fs::write(path, "this is no database ".repeat(5000)).unwrap();
}

/// One byte of each page but the first, which is what a stray write or a bad sector looks like.
fn damage_a_page(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes.iter_mut().skip(4096 + 100).step_by(4096).for_each(|byte| *byte ^= 0x55);
    std::fs::write(path, bytes).unwrap();
}

fn cut_off(path: &Path) {
    std::fs::File::options().write(true).open(path).unwrap().set_len(5000).unwrap();
}

/// A process is killed in the middle of writing again and again. What it said was stored is there, and two relays
/// that are always stored together agree.
#[test]
fn a_killed_writer_leaves_the_old_state_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut told = 0;
    for round in 0..25 {
        let mut child = this_test("writes_until_it_is_killed", folder.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let numbers =
            lines.by_ref().map_while(Result::ok).filter_map(|line| line.strip_prefix("stored ")?.parse().ok());
        let first: i64 = numbers.take(1).next().expect("it stores");
        std::thread::sleep(Duration::from_micros(1500 * round % 9973));
        child.kill().unwrap();
        child.wait().unwrap();
        let last = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("stored ")?.parse().ok()).last();
        told = last.unwrap_or(first);
        let relays = open(folder.path()).relays().unwrap();
        let ports: Vec<i64> = relays.iter().map(|relay| number(&relay.input.port)).collect();
        assert!(ports == [told, told] || ports == [told + 1, told + 1], "told {told}, stored {ports:?}");
    }
    assert!(told > 25, "the writer got on: {told}");
}

#[test]
#[ignore = "run by a_killed_writer_leaves_the_old_state_or_the_new_one"]
fn writes_until_it_is_killed() {
    let store = open(&folder());
    let start = store.relays().unwrap().first().map_or(0, |relay| number(&relay.input.port));
    for port in start + 1.. {
        put(&store, &["a", "b"], port).unwrap();
        println!("stored {port}");
    }
}

/// The disk fills up: the refused change is not there, the earlier ones are, and with room again writing goes on.
#[test]
fn a_full_disk_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new("unshare");
    child.args(["--mount", "sh", "-c", "mount -t tmpfs -o size=400k none \"$FOLDER\" && exec \"$0\" \"$@\""]);
    let inner = this_test("fills_its_disk", folder.path());
    child.arg(inner.get_program()).args(inner.get_args()).env("FOLDER", folder.path());
    let output = child.output().expect("run unshare");
    assert!(
        output.status.success(),
        "needs root\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "run by a_full_disk_changes_nothing, with a disk of its own"]
fn fills_its_disk() {
    let store = open(&folder());
    let filler = folder().join("filler");
    std::fs::write(&filler, vec![0; 200 << 10]).unwrap();
    let mut stored = 0;
    let error = loop {
        let before = store.relays().unwrap();
        let names: Vec<String> = (0..20).map(|i| format!("r{stored}-{i}")).collect();
        match put(&store, &names.iter().map(String::as_str).collect::<Vec<_>>(), 5001) {
            Ok(()) => stored += 1,
            Err(error) => {
                assert_eq!(store.relays().unwrap(), before);
                break error;
            }
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(stored > 0);
    let again = store.put_token("t", &vec![7u8; 200 << 10]).unwrap_err();
    assert!(matches!(again, StoreError::Full { .. }), "{again}");
    assert_eq!(store.relays().unwrap().len(), 20 * stored);
    std::fs::remove_file(filler).unwrap();
    put(&store, &["later"], 5001).unwrap();
    drop(store);
    assert_eq!(open(&folder()).relays().unwrap().len(), 20 * stored + 1);
}

/// A test of this file in a process of its own.
fn this_test(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture"]).env("FOLDER", folder);
    command
}

fn folder() -> PathBuf {
    std::env::var_os("FOLDER").expect("the outer test names the folder").into()
}
