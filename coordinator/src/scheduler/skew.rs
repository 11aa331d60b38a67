//! How far a runner's clock is off.
//!
//! Leases and retention need no runner's clock, but the times in every result are told by it. A runner
//! whose clock is off by more than [`MAX_SKEW`] gets nothing new until that is mended.
//!
//! Two clocks that differ do not tell which one is wrong. Where there are several runners, and the
//! coordinator's clock differs from all of them by about as much, it is the coordinator's: then no runner
//! is refused, and `/health` says so.

use std::time::Duration;

use cloister_api::Timestamp;

use super::{Scheduler, runner::Runner};

/// By how much a runner's clock may differ from the coordinator's.
pub(super) const MAX_SKEW: Duration = Duration::from_millis(MAX.unsigned_abs());

const MAX: i64 = 15 * 60 * 1000;

/// By how much a runner's clock differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Skew {
    /// Milliseconds by which it is ahead.
    pub(crate) ms: i64,
    /// How far off that may be, in milliseconds.
    pub(crate) uncertainty: i64,
}

impl Skew {
    /// Of a runner that showed `time` in an answer that took `round_trip` until `now`.
    pub(crate) fn measured(time: Timestamp, now: Timestamp, round_trip: Duration) -> Self {
        // Rounded up: the clocks show whole milliseconds.
        let half = i64::try_from(round_trip.as_millis() / 2).unwrap_or(i64::MAX).saturating_add(1);
        Self { ms: time.since_ms(now).saturating_add(half), uncertainty: half }
    }

    /// Whether it is too large, however the uncertainty falls.
    pub(crate) const fn is_extreme(self) -> bool {
        self.ms.saturating_abs().saturating_sub(self.uncertainty) > MAX
    }
}

impl Scheduler {
    /// Finds out anew which runners' clocks are not to be lived with.
    pub(super) fn judge_clocks(&mut self) {
        let skew = |runner: &Runner| {
            runner.skew.filter(|_| runner.listed && runner.is_up() && !runner.twin)
        };
        let all: Vec<_> = self.runners.values().filter_map(skew).collect();
        let (least, most) =
            (all.iter().map(|skew| skew.ms).min(), all.iter().map(|skew| skew.ms).max());
        let together = matches!((least, most), (Some(a), Some(b)) if b.saturating_sub(a) <= MAX);
        let own = all.len() > 1 && together && all.iter().all(|skew| skew.is_extreme());
        self.own_skew = least.filter(|_| own);
        for runner in self.runners.values_mut() {
            runner.clock_is_off = !own && runner.skew.is_some_and(Skew::is_extreme);
        }
    }

    /// By how many milliseconds all runners' clocks are ahead of this coordinator's, where that is too
    /// much.
    pub(crate) const fn own_skew(&self) -> Option<i64> {
        self.own_skew
    }
}
