//! How long an attempt waits between two tries to reach its runner: the longer, the more of them failed.

use std::time::Duration;

/// After the first try that failed.
pub(super) const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(4);

/// See the module.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Within a lease there are several tries at least.
    pub(super) fn new(lease: Duration) -> Self {
        Self { next: SHORTEST, longest: (lease / 8).clamp(SHORTEST, LONGEST) }
    }

    /// A conversation failed that had lasted for so long. `jitter` is between 0 and 1, and shortens the
    /// pause by up to a quarter.
    pub(super) fn pause(&mut self, lasted: Duration, jitter: f64) -> Duration {
        if lasted > self.longest {
            self.next = SHORTEST;
        }
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause.mul_f64(1.0 - jitter / 4.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_a_conversation_lasts() {
        let mut backoff = Backoff::new(Duration::from_secs(30));
        let mut pause = |lasted: u64| backoff.pause(Duration::from_secs(lasted), 0.0).as_millis();
        assert_eq!([0; 6].map(&mut pause), [250, 500, 1000, 2000, 3750, 3750]);
        assert_eq!([1, 60, 0].map(&mut pause), [3750, 250, 500]);
    }

    #[test]
    fn a_short_lease_leaves_no_time_to_wait() {
        let mut backoff = Backoff::new(Duration::from_millis(480));
        for _ in 0..3 {
            assert_eq!(backoff.pause(Duration::ZERO, 0.0), SHORTEST);
        }
        assert!(backoff.pause(Duration::ZERO, 1.0) < SHORTEST);
    }
}
