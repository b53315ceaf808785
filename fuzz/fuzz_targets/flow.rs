//! Any payloads, to any port: nothing panics, and what is shown of them is bounded and printable.
//!
//! The first two bytes are the port; each payload after them begins with its length in two bytes.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mcr_inspect::Recogniser;

fuzz_target!(|input: &[u8]| {
    let Some((port, mut rest)) = input.split_first_chunk() else { return };
    let mut recogniser = Recogniser::default();
    let mut number = 0;
    while let Some((length, after)) = rest.split_first_chunk() {
        let (payload, after) = after.split_at(usize::from(u16::from_be_bytes(*length)).min(after.len()));
        recogniser.see(u16::from_be_bytes(*port), payload, Duration::from_millis(number));
        (rest, number) = (after, number + 1);
    }
    let detail = recogniser.kind().detail();
    assert!(detail.chars().all(|c| !c.is_control()), "{detail:?}");
});
