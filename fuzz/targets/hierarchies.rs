//! What the kernel lists of mounts and cgroups; in a container that may look odd.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| cloister_sandbox::fuzzing::hierarchies(data));
