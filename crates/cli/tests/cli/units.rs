//! The systemd units, by systemd's own judgement.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The most exposure that a unit may have, in tenths (`systemd-analyze security`: 0 is none, 100 is everything).
const UNITS: [(&str, u32); 2] = [("mcr.service", 15), ("mcr-netd.service", 20)];

fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib/systemd").join(name)
}

fn analyze(arguments: &[&str], unit: &Path) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(arguments).arg(unit).output();
    let output = output.unwrap_or_else(|error| panic!("systemd-analyze: {error}; scripts/install-packages.sh test"));
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn units_leave_little_exposed() {
    for (name, most) in UNITS {
        let (is_good, report) = analyze(&["security", "--offline=true", &format!("--threshold={most}")], &unit(name));
        assert!(is_good, "{name} is exposed more than {most} tenths:\n{report}");
        assert!(report.contains(&format!("Overall exposure level for {name}")), "{report}");
    }
}

#[test]
fn units_have_no_key_that_systemd_does_not_know() {
    for (name, _) in UNITS {
        let (_, report) = analyze(&["verify"], &unit(name));
        for complaint in ["Unknown", "Failed to parse", "Invalid"] {
            assert!(!report.contains(complaint), "{name}: {report}");
        }
    }
}

/// A unit that filters calls has to let through those by which a process gives up more.
#[test]
fn units_let_processes_confine_themselves() {
    for (name, _) in UNITS {
        let text = std::fs::read_to_string(unit(name)).unwrap();
        for call in ["seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "bpf"] {
            let is_allowed = |line: &str| {
                line.strip_prefix("SystemCallFilter=").is_some_and(|calls| calls.split(' ').any(|known| known == call))
            };
            assert!(text.lines().any(is_allowed), "{name}: {call}");
        }
    }
}
