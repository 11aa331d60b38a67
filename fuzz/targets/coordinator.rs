//! What else the coordinator reads, told apart by the first byte: the query of `GET /jobs` with its
//! page token, an `Idempotency-Key`, a runner's URL, a line that a runner answered.
#![no_main]

use cloister_coordinator::fuzzing::{key, line, query, runner_url};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((which, data)) = data.split_first() else { return };
    match which % 4 {
        0 => query(data),
        1 => key(data),
        2 => runner_url(data),
        _ => line(data),
    }
});
