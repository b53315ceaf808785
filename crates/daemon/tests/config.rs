//! Configuration files: each bad one in `tests/config` has what a person reads about it beside it in
//! `tests/snapshots`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mcr_daemon::config::{self, MAX_BYTES};
use mcr_model::spec::{ConfigSpec, RelaySpec};

fn cases() -> Vec<(String, String)> {
    let mut cases: Vec<(String, String)> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    cases.sort();
    cases
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

#[test]
fn every_bad_file_says_what_is_wrong_where_and_what_to_do() {
    for (name, text) in cases().into_iter().filter(|(name, _)| !name.starts_with("good-")) {
        let error = config::check_text("mcr.toml", &text).expect_err(&name);
        insta::assert_snapshot!(name.as_str(), format!("{error}\n\n{}", error.mistakes().join("\n")));
    }
}

/// The reader of configurations and the one of API requests are two: what one accepts means the same to the other.
#[test]
fn a_good_file_means_the_same_as_by_serde() {
    for (name, text) in cases().into_iter().filter(|(name, _)| name.starts_with("good-")) {
        let relays = config::check_text("mcr.toml", &text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let ConfigSpec { relay, .. } = toml::from_str(&text).unwrap();
        let by_serde: Vec<_> = relay.iter().map(|spec| spec.check().unwrap()).collect();
        assert_eq!(relays, by_serde, "{name}");
        let again = ConfigSpec { datapath: None, relay: relays.iter().map(RelaySpec::from).collect() };
        assert_eq!(config::check_text("", &toml::to_string(&again).unwrap()).unwrap(), relays, "{name}");
    }
}

#[test]
fn an_empty_file_has_no_relays() {
    for text in ["", "\n", "# nothing yet\n", "\u{feff}"] {
        assert_eq!(config::check_text("mcr.toml", text).unwrap(), []);
    }
}

#[test]
fn unreadable_files_are_sentences() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    fs::write(path("latin1.toml"), b"[[relay]]\nname = \"s\xfcd\"\n").unwrap();
    fs::write(path("huge.toml"), "#".repeat(10_000_000)).unwrap();
    let said = |name: &str| {
        let text = config::load(&path(name)).unwrap_err().to_string();
        text.replace(home.path().to_str().unwrap(), "/etc/mcr")
    };
    insta::assert_snapshot!(
        "unreadable",
        [said("missing.toml"), said("latin1.toml"), said("huge.toml"), said("."), said("latin1.toml/x"),].join("\n")
    );
}

#[test]
fn an_endless_file_is_not_read_to_its_end() {
    let error = config::load(Path::new("/dev/zero")).unwrap_err();
    assert!(error.to_string().contains("larger than 8 MiB"), "{error}");
}

/// Texts that could cost time or memory out of proportion, or break an assumption about offsets.
#[test]
fn no_text_panics_or_takes_long() {
    let start = Instant::now();
    let fits = |piece: &str, bytes: usize| piece.repeat(bytes / piece.len());
    for bytes in [2_000, 200_000, 1_000_000] {
        for piece in
            ["[", "a = {", "\"", "x\n", "\0", "ä = 1 ", "[[relay]]\n", "x = \"\"\"", "[[relay]]\nname = 1\n", "日"]
        {
            let _ = config::check_text("x", &fits(piece, bytes)).map_err(|error| error.to_string());
        }
    }
    for costly in ["x\n", "[[relay]]\n"] {
        assert!(config::check_text("x", &fits(costly, MAX_BYTES)).is_err());
    }
    let (_, whole) = cases().into_iter().find(|(name, _)| name == "good-all-fields").unwrap();
    for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
        let _ = config::check_text("x", &whole[..end]);
        let _ = config::check_text("x", &format!("{}\u{1}ß{}", &whole[..end], &whole[end..]));
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn ten_thousand_relays_are_read_fast() {
    let relay = |i: usize| {
        let (high, low) = (i / 250, i % 250);
        format!(
            "[[relay]]\nname = \"r{i}\"\ninput = {{ interface = \"eth0\", group = \"239.1.{high}.{low}\", port = 5001 }}\n\
             output = [ {{ interface = \"eth1\", group = \"239.2.{high}.{low}\", port = 6001 }} ]\n"
        )
    };
    let text: String = (0..10_000).map(relay).collect();
    let start = Instant::now();
    assert_eq!(config::check_text("x", &text).unwrap().len(), 10_000);
    let took = start.elapsed();
    println!("10,000 relays, {} bytes: {took:?}", text.len());
    // Far more than it takes where nothing else runs; what grew with the square of their number would take minutes.
    assert!(took < Duration::from_secs(20), "{took:?}");
}
