//! A packet from the service to the launcher, and what the launcher decides.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| cloister_sandbox::fuzzing::launcher_request(data));
