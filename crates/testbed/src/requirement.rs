//! What network tests need from the machine; without it they fail in one line and never pass silently.

use std::path::Path;
use std::sync::OnceLock;

/// # Panics
/// In one line that says what is missing.
#[track_caller]
pub(crate) fn check() {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    if let Some(missing) = MISSING.get_or_init(missing) {
        panic!("network tests need {missing}");
    }
}

fn missing() -> Option<String> {
    // SAFETY: geteuid takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Some("root, to make network namespaces: run `sudo -E cargo test`".to_owned());
    }
    for (program, package) in [("ip", "iproute2"), ("ethtool", "ethtool")] {
        if !is_installed(program) {
            return Some(format!("`{program}`: install the package {package}"));
        }
    }
    None
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).is_file())
}
