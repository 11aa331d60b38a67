//! A packet from the launcher to the service.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| cloister_sandbox::fuzzing::reply(data));
