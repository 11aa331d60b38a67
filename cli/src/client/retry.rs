//! Trying again: only what is safe to send twice, only when it may help, and not for ever.

use std::time::{Duration, Instant};

use super::{error::Error, terminal::Progress};

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Attempts in all.
    attempts: u32,
    /// The longest pause that back-off comes to.
    longest: Duration,
    /// No pause begins that would end later than this after the first attempt.
    in_all: Duration,
}

impl Patience {
    /// For a person or a script that waits for an answer: about three seconds without a
    /// coordinator, and as long as a busy one asks for, within a minute.
    pub(super) const BRIEF: Self =
        Self { attempts: 5, longest: Duration::from_secs(2), in_all: Duration::from_secs(60) };

    /// For somebody who waits for a job anyway: long enough for a coordinator to be restarted.
    pub(super) const RESTART: Self =
        Self { attempts: 12, longest: Duration::from_secs(5), in_all: Duration::from_secs(60) };

    /// Makes an attempt until one succeeds, fails for good, or patience is at its end.
    pub(super) async fn persist<T>(
        self,
        progress: &Progress,
        mut attempt: impl AsyncFnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let start = Instant::now();
        for made in 1.. {
            let error = match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let Some(pause) = self.pause(made, start.elapsed(), &error) else {
                return Err(error);
            };
            let (next, all) = (made + 1, self.attempts);
            let line = error.to_string();
            progress
                .tell(&format!("attempt {next} of {all} in {:.1} s: {line}", pause.as_secs_f64()));
            tokio::time::sleep(pause).await;
        }
        unreachable!("the loop above has no end but its returns")
    }

    /// How long to pause after so many attempts, if there is to be another.
    fn pause(self, made: u32, elapsed: Duration, error: &Error) -> Option<Duration> {
        let asked = error.passes()?;
        let back_off = Duration::from_millis(100) * 2_u32.saturating_pow(made);
        let pause = asked.max(back_off.min(self.longest));
        (made < self.attempts && elapsed.saturating_add(pause) <= self.in_all).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use cloister_api::{Kind, Problem};

    use super::*;

    fn unreachable() -> Error {
        Error::Unreachable {
            server: "http://127.0.0.1:8000".parse().unwrap(),
            why: "connection refused".into(),
        }
    }

    fn busy(seconds: Option<u64>) -> Error {
        Error::Refused {
            problem: Box::new(Problem::new(Kind::Unavailable, "no room")),
            retry_after: seconds.map(Duration::from_secs),
        }
    }

    #[test]
    fn pauses_grow_and_attempts_end() {
        let pauses: Vec<_> = (1..=5)
            .map(|made| Patience::BRIEF.pause(made, Duration::ZERO, &unreachable()))
            .collect();
        let millis = |n| Some(Duration::from_millis(n));
        assert_eq!(pauses, [millis(200), millis(400), millis(800), millis(1600), None]);
        let last = Patience::RESTART.pause(11, Duration::ZERO, &unreachable());
        assert_eq!(last, Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_coordinator_that_says_when_is_heard() {
        let pause = |error| Patience::BRIEF.pause(1, Duration::ZERO, &error);
        assert_eq!(pause(busy(Some(7))), Some(Duration::from_secs(7)));
        assert_eq!(pause(busy(Some(0))), Some(Duration::from_millis(200)), "never at once");
        assert_eq!(pause(busy(Some(3600))), None, "longer than anybody waits");
        assert_eq!(pause(busy(Some(u64::MAX))), None);
        assert_eq!(pause(busy(None)), None, "it did not ask to come again");
    }

    #[test]
    fn what_will_not_change_is_not_tried_again() {
        let refused = Error::Refused {
            problem: Box::new(Problem::new(Kind::Invalid, "no")),
            retry_after: Some(Duration::ZERO),
        };
        assert_eq!(Patience::BRIEF.pause(1, Duration::ZERO, &refused), None);
        let late = Duration::from_secs(60);
        assert_eq!(Patience::BRIEF.pause(1, late, &unreachable()), None);
    }
}
