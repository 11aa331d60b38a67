//! Whether an attempt that ended is followed by another, and when.

use std::time::Duration;

use cloister_api::{Reason, Timestamp};

use super::job::{CELL_TRIES, Facts};

/// A cell may fail for a moment's want (a slow unmount, a full table): soon again, elsewhere first.
const CELL_DELAY: Duration = Duration::from_millis(250);
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Nothing that is put off is put off for longer, whatever a clock says.
pub(super) const MAX_DELAY: Duration = Duration::from_secs(60);

/// When the next attempt may start, or `None` when this end is the job's.
pub(super) fn again(
    facts: &Facts,
    reason: Option<Reason>,
    jitter: f64,
    now: Timestamp,
) -> Option<Timestamp> {
    let reason = reason?;
    let delay = if reason == Reason::SandboxError && facts.failed_cells + 1 < CELL_TRIES {
        back_off(CELL_DELAY, facts.failed_cells, jitter)
    } else if facts.charged < facts.retries && facts.retry_on.contains(reason) {
        back_off(RETRY_DELAY, facts.charged, jitter)
    } else {
        return None;
    };
    let millis = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
    Some(Timestamp(now.0.saturating_add(millis)))
}

/// Doubles each time up to a maximum; half of it is random, so that jobs that failed together do
/// not come back together.
pub(super) fn back_off(base: Duration, before: u32, jitter: f64) -> Duration {
    let full = base.saturating_mul(1 << before.min(16)).min(MAX_DELAY);
    full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_within_its_bounds() {
        assert_eq!(back_off(RETRY_DELAY, 0, 1.0), Duration::from_secs(1));
        assert_eq!(back_off(RETRY_DELAY, 0, 0.0), Duration::from_millis(500));
        assert_eq!(back_off(RETRY_DELAY, 3, 1.0), Duration::from_secs(8));
        assert_eq!(back_off(RETRY_DELAY, 40, 1.0), MAX_DELAY);
    }
}
