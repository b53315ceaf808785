//! Any text as a configuration: nothing panics, and each mistake is shown in its lines.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match mcr_daemon::config::check_text("mcr.toml", text) {
        Ok(relays) => assert!(relays.len() <= text.len()),
        Err(error) => {
            assert!(!error.mistakes().is_empty());
            assert!(!error.to_string().is_empty() && !error.plain().is_empty());
        }
    }
});
