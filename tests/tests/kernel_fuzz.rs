//! A short run of `kernel-fuzz`: random system calls in cells take no kernel memory that nobody is charged for.
//! The long one is a command (docs/endurance.md).

use cloister_api::ByteSize;
use cloister_tests::kernel_fuzz::{Options, fuzz};

#[test]
fn random_calls_take_little_uncharged_kernel_memory() {
    let options = Options {
        seed: 1,
        minutes: 20.0 / 60.0,
        cells: 4,
        memory: ByteSize::mib(256),
        bound: ByteSize::mib(96),
        only: Vec::new(),
    };
    let outcome = fuzz(&options).unwrap();
    assert!(outcome.findings.is_empty(), "{}", outcome.findings.join("\n\n"));
    assert!(outcome.calls > 100_000, "only {} calls were made", outcome.calls);
}
