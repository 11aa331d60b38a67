//! Which exit code tells how a job ended: the same for `run`, `submit --wait` and `wait`.

use cloister_api::Reason;

/// As timeout(1) and docker-run(1) have them.
const TIMED_OUT: u8 = 124;
/// The command never ran, or nobody knows how it ended.
pub(crate) const NO_CELL: u8 = 125;

/// The exit code of a job that has ended so.
pub(crate) fn code(reason: Option<Reason>, exit_code: Option<i32>) -> u8 {
    match (reason, exit_code) {
        (Some(Reason::Timeout), _) => TIMED_OUT,
        (_, Some(code)) => u8::try_from(code).unwrap_or(u8::MAX),
        (_, None) => NO_CELL,
    }
}
