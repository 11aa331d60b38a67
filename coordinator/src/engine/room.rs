//! Places in the queue, which are promised before jobs are committed.
//!
//! Where this process leads, the scheduler knows exactly what waits. Else that is what the store said
//! when it was last asked, and what this process has taken in since.

use std::sync::Arc;

use cloister_api::{ByteSize, FieldProblem, Kind, Problem};

use super::{
    Engine, Term,
    jobs::{COME_AGAIN, draining},
};
use crate::scheduler::{Event, Facts, NoRoom, Waiting};

/// What this process takes in for another leader.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Elsewhere {
    /// Jobs that are being committed.
    storing: Waiting,
    /// Jobs that were committed since the store was last asked what waits.
    stored: Waiting,
}

impl Elsewhere {
    /// What the store must know when it is asked now.
    pub(super) const fn stored(self) -> Waiting {
        self.stored
    }

    /// The store was asked when so much was stored.
    pub(super) fn told(&mut self, stored: Waiting) {
        self.stored = self.stored.without(stored);
    }
}

impl Engine {
    /// Promises a place in the queue to each of these jobs, or to none: in the scheduler's, where this
    /// process leads; the answer is its term then. Else the leader finds them in the inbox.
    /// [`settle`](Self::settle) ends the promise.
    pub(super) fn reserve(&self, all: &[Facts]) -> Result<Option<Term>, Problem> {
        self.could_ever_hold(all)?;
        // What hangs is not to fill the memory with jobs that wait for it.
        if let Some(why) = self.store_late() {
            return Err(Problem::new(Kind::Unavailable, why).retry_after(COME_AGAIN));
        }
        let mut state = self.state();
        if state.scheduler.is_draining() {
            return Err(draining());
        }
        if let Some(term) = Self::leading(&state) {
            for (at, facts) in all.iter().enumerate() {
                if let Err(why) = state.scheduler.reserve(facts) {
                    for promised in &all[..at] {
                        state.scheduler.release(promised.id);
                    }
                    return Err(full(why, state.scheduler.waiting()));
                }
            }
            return Ok(Some(term));
        }
        let figures = self.figures();
        let known = Waiting { jobs: figures.pending, size: figures.pending_size };
        let waiting = known + state.elsewhere.stored + state.elsewhere.storing;
        let mut with = waiting;
        for facts in all {
            self.bounds.check(with, facts.size).map_err(|why| full(why, waiting))?;
            with.add(facts.size);
        }
        for facts in all {
            state.elsewhere.storing.add(facts.size);
        }
        Ok(None)
    }

    /// Refuses what would find no place in an empty queue.
    fn could_ever_hold(&self, all: &[Facts]) -> Result<(), Problem> {
        if all.len() > self.bounds.jobs {
            let detail = format!(
                "has {} jobs, and the queue never holds more than {} (--max-queue); send fewer at once",
                all.len(),
                self.bounds.jobs
            );
            return Err(Problem::invalid(vec![FieldProblem { pointer: "/jobs".into(), detail }]));
        }
        let size = all.iter().map(|facts| facts.size).fold(0, u64::saturating_add);
        if size > self.bounds.size {
            let detail = format!(
                "it takes {} as it is stored, and the queue never holds more than {} (--max-queue-size)",
                ByteSize(size),
                ByteSize(self.bounds.size),
            );
            return Err(Problem::new(Kind::TooLarge, detail));
        }
        Ok(())
    }

    /// What was promised is over: the jobs were committed or not, and if so are this leader's (`taken`)
    /// or another's.
    pub(super) fn settle(
        self: &Arc<Self>,
        term: Option<Term>,
        all: Vec<Facts>,
        committed: bool,
        taken: bool,
    ) {
        let mut state = self.state();
        let Some(term) = term else {
            for facts in all {
                state.elsewhere.storing.take(facts.size);
                if committed {
                    state.elsewhere.stored.add(facts.size);
                }
            }
            return;
        };
        if !state.is_in(term) {
            return;
        }
        for facts in all {
            if taken {
                self.apply_within(&mut state, Event::Submitted(facts));
            } else {
                state.scheduler.release(facts.id);
            }
        }
    }
}

/// There is no room in the queue, where so much waits.
fn full(why: NoRoom, waiting: Waiting) -> Problem {
    let detail = match why {
        NoRoom::Closed => return draining(),
        NoRoom::Jobs => format!("the queue is full: {} jobs wait; try again later", waiting.jobs),
        NoRoom::Size => format!(
            "the queue is full: the {} jobs that wait take {}, and this is too large for what is left; \
             try again later",
            waiting.jobs,
            ByteSize(waiting.size),
        ),
    };
    Problem::new(Kind::Unavailable, detail).retry_after(COME_AGAIN)
}
