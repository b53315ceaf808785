//! Any bytes as a message between daemon and keeper: nothing panics, and a request that is understood has one form.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mcr_netd::fuzzing::message(bytes));
