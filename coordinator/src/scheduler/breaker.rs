//! A breaker for each runner: one that fails again and again rests, and then proves itself with one
//! attempt before it gets more.
//!
//! - *Closed*: it gets work. [`IN_A_ROW`] failures in a row open it, or half of its last [`CELLS`]
//!   cells that could not be made.
//! - *Open*: it gets nothing for a second, and for twice as long each time that it opens anew without
//!   having been closed, up to a minute. Failures that come meanwhile change nothing: they are of
//!   attempts that it was given before.
//! - *Half-open*: it gets one attempt at a time. A cell that was made closes it; a failure opens it.
//!
//! A failure is a cell that could not be made, an answer that makes no sense or none at all to
//! somebody who wanted to give it an attempt, an attempt that it did not end in time although it
//! answers, and a failed health check. None are: a job that fails by
//! itself, since its cell was made; to be full or to drain, which is what a sound runner says; and an
//! attempt that was lost with its runner. What silenced that runner is counted by its health checks
//! already, and would else count once more for each attempt that it had: the largest runners would
//! rest the longest, for no other reason.
//!
//! A health check that succeeds takes back those that failed: whether cells can be made, it does not
//! tell. A breaker that opened for silence is half-open at once then; and in another life of the runner,
//! by its boot id, everything begins anew.

use std::time::Duration;

use cloister_api::Timestamp;
use uuid::Uuid;

use super::retry::back_off;

/// So many failures in a row open it.
const IN_A_ROW: u32 = 5;
/// So many attempts are looked at for how many of their cells could not be made.
const CELLS: u32 = 20;
/// For how long it opens first.
const REST: Duration = Duration::from_secs(1);

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BreakerState {
    /// The runner gets work.
    Closed,
    /// It rests.
    Open,
    /// It gets one attempt at a time.
    HalfOpen,
}

impl BreakerState {
    /// As it is written for others.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// What kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A cell that could not be made.
    Cell,
    /// No answer, or one without sense, to somebody who would give it an attempt.
    Talk,
    /// A health check that failed.
    Silence,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open {
        until: Timestamp,
        by: Failure,
    },
    HalfOpen {
        trial: Option<Uuid>,
    },
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Breaker {
    state: State,
    /// Failures in a row that no health check takes back, and those that one does.
    failures: u32,
    silences: u32,
    /// The last attempts, a bit each, set where the cell could not be made; and how many they are.
    cells: u32,
    seen: u32,
    /// How often it opened since it was closed.
    openings: u32,
    /// Why it opened last.
    why: String,
}

impl Breaker {
    /// The runner failed. `jitter` is between 0 and 1, and shortens the rest by up to a half.
    pub(super) fn failed(&mut self, failure: Failure, why: &str, jitter: f64, now: Timestamp) {
        match failure {
            Failure::Silence => self.silences = self.silences.saturating_add(1),
            Failure::Cell | Failure::Talk => self.failures = self.failures.saturating_add(1),
        }
        if failure == Failure::Cell {
            self.note(true);
        }
        let opens = match self.state {
            State::Closed => self.in_a_row() >= IN_A_ROW || self.half_fail(),
            State::HalfOpen { .. } => true,
            State::Open { .. } => false,
        };
        if opens {
            let rest = back_off(REST, self.openings, jitter).as_millis();
            let rest = i64::try_from(rest).unwrap_or(i64::MAX);
            self.openings = self.openings.saturating_add(1);
            self.why = format!("{}: {why}", self.after());
            self.state = State::Open { until: Timestamp(now.0.saturating_add(rest)), by: failure };
        }
    }

    /// The runner made a cell.
    pub(super) fn made_cell(&mut self) {
        self.failures = 0;
        self.note(false);
        if matches!(self.state, State::HalfOpen { .. }) {
            *self = Self::default();
        }
    }

    /// The runner answered for its health, in the life that it had before.
    pub(super) fn answered(&mut self) {
        let silences = std::mem::take(&mut self.silences);
        if let State::Open { by: Failure::Talk | Failure::Silence, .. } = self.state
            && silences > 0
        {
            self.state = State::HalfOpen { trial: None };
        }
    }

    /// The runner is given this job, which [`admits`](Self::admits) allowed.
    pub(super) fn given(&mut self, job: Uuid) {
        if let State::HalfOpen { trial } = &mut self.state {
            *trial = Some(job);
        }
    }

    /// The runner has this job no more. Where it was the trial and did not tell, another one follows.
    pub(super) fn left(&mut self, job: Uuid) {
        if let State::HalfOpen { trial } = &mut self.state {
            *trial = trial.filter(|trial| *trial != job);
        }
    }

    /// The runner has no job any more.
    pub(super) fn emptied(&mut self) {
        if let State::HalfOpen { trial } = &mut self.state {
            *trial = None;
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Timestamp) {
        if self.opens_until().is_some_and(|until| until <= now) {
            self.state = State::HalfOpen { trial: None };
        }
    }

    /// The clock was set back by so many milliseconds.
    pub(super) fn set_back(&mut self, by: i64) {
        if let State::Open { until, .. } = &mut self.state {
            until.0 = until.0.saturating_sub(by);
        }
    }

    /// Whether the runner may be given an attempt now.
    pub(super) const fn admits(&self) -> bool {
        matches!(self.state, State::Closed | State::HalfOpen { trial: None })
    }

    /// Whether the runner has the one attempt by which it is tried.
    pub(super) const fn is_trying(&self) -> bool {
        matches!(self.state, State::HalfOpen { trial: Some(_) })
    }

    pub(super) const fn state(&self) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Until when it is open, if it is.
    pub(super) const fn opens_until(&self) -> Option<Timestamp> {
        match self.state {
            State::Open { until, .. } => Some(until),
            State::Closed | State::HalfOpen { .. } => None,
        }
    }

    /// Why the runner gets nothing, for a person: "runner x" and this.
    pub(super) fn trouble(&self) -> Option<String> {
        match self.state {
            State::Open { until, .. } => Some(format!("rests until {until} after {}", self.why)),
            State::HalfOpen { trial: Some(_) } => {
                Some(format!("is tried with one job after {}", self.why))
            }
            State::Closed | State::HalfOpen { trial: None } => None,
        }
    }

    fn note(&mut self, failed: bool) {
        self.cells = (self.cells << 1 | u32::from(failed)) & ((1 << CELLS) - 1);
        self.seen = (self.seen + 1).min(CELLS);
    }

    const fn in_a_row(&self) -> u32 {
        self.failures.saturating_add(self.silences)
    }

    const fn half_fail(&self) -> bool {
        self.seen == CELLS && self.cells.count_ones() * 2 >= CELLS
    }

    fn after(&self) -> String {
        if self.in_a_row() >= IN_A_ROW {
            format!("{} failures in a row", self.in_a_row())
        } else if self.half_fail() {
            let failed = self.cells.count_ones();
            format!("{failed} of its last {CELLS} cells could not be made")
        } else {
            "another failure".into()
        }
    }
}
