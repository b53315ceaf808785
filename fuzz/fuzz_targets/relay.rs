//! Any body where the API takes a relay: nothing panics, and a relay that was accepted is read as the same relay again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcr_model::spec::RelaySpec;

fuzz_target!(|body: &[u8]| {
    let Some(relay) = mcr_daemon::fuzzing::relay_body(body) else { return };
    let json = serde_json::to_vec(&RelaySpec::from(&relay)).expect("a relay is JSON");
    assert_eq!(mcr_daemon::fuzzing::relay_body(&json), Some(relay));
});
