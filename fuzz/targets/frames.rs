//! The stream between the engine and a cell's PID 1, in either direction, cut anywhere.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| cloister_sandbox::fuzzing::frames(data));
