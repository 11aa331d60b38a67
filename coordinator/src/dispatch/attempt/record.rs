//! What came of an attempt goes into the store, and then to everybody else.

use std::{sync::Arc, time::Duration};

use cloister_api::{Job, Outcome, Past, Reason, Status, Timestamp};

use super::{super::release, Attempt, End, Untaken};
use crate::scheduler::{Action, Event, RunnerName};

/// A runner that is full is left alone until its health shows a slot, and for so long at most.
const FULL: Duration = Duration::from_secs(5);

impl Attempt {
    pub(super) async fn conclude(self, end: End) {
        let term = self.term;
        match end {
            End::NotTaken(why) => self.return_it(why).await,
            End::Ended { outcome, held } => {
                let (engine, runner) = (Arc::clone(&self.engine), self.runner.clone());
                let execution = self.claim.execution_id;
                let to_tell = held.then(|| engine.to_tell());
                self.record(*outcome).await;
                if let Some(to_tell) = to_tell {
                    let telling =
                        release::acknowledge(Arc::clone(&engine), term, runner, execution, to_tell);
                    engine.spawn_in(term, telling);
                }
            }
            End::Lost(message) => self.give_up(message).await,
            End::Overdue(message) => {
                let (engine, runner) = (&self.engine, self.runner.clone());
                let (why, jitter) = (message.clone(), engine.world.fraction());
                engine.apply(Event::Failed { runner, why, jitter });
                self.give_up(message).await;
            }
        }
    }

    /// What became of it is not known: should the runner still have it, it is to end it.
    async fn give_up(self, message: String) {
        let (engine, runner, term) = (Arc::clone(&self.engine), self.runner.clone(), self.term);
        let execution = self.claim.execution_id;
        let reason = Some(Reason::RunnerLost);
        self.record(Outcome::never_ran(Status::Failed, reason, message)).await;
        let abandon = release::abandon(Arc::clone(&engine), term, runner, execution);
        engine.spawn_in(term, abandon);
    }

    /// Back into the queue: no runner has it after all.
    async fn return_it(self, why: Untaken) {
        let (engine, runner) = (&self.engine, self.runner.clone());
        engine.apply(match why {
            Untaken::Down(why) => Event::Down { runner, why },
            Untaken::Full(why) => {
                tracing::debug!(%runner, why, "a runner takes nothing now");
                let pause = i64::try_from(FULL.as_millis()).unwrap_or(i64::MAX);
                let until = Timestamp(engine.now().0.saturating_add(pause));
                Event::Held { runner, until }
            }
            Untaken::Strange(why) => Event::Failed { runner, why, jitter: engine.world.fraction() },
        });
        self.post.ask_soon();
        let (job, attempt) = (self.job.job_id, self.claim.attempt);
        let term = self.term;
        engine.persist(term, || engine.store.unclaim(term.epoch, job)).await;
        engine.apply_in(term, Event::Returned { job, attempt });
    }

    async fn record(mut self, outcome: Outcome) {
        let (engine, term) = (&self.engine, self.term);
        let (id, attempt, reason) = (self.job.job_id, self.claim.attempt, outcome.reason);
        let jitter = engine.world.fraction();
        let action = engine.apply_in(term, Event::Ended { job: id, attempt, reason, jitter });
        if let Some(Action::Retry { attempt: next, not_before, .. }) = action {
            if let Some(reason) = reason {
                engine.metrics.repeated(reason);
            }
            tracing::info!(
                job_id = %id,
                attempt,
                execution_id = %self.claim.execution_id,
                runner = %self.runner,
                reason = reason.map(Reason::as_str),
                "attempt failed, another follows"
            );
            let job = again(self.job, &self.runner, outcome, next);
            let retry = || engine.store.retry(term.epoch, job.clone(), not_before);
            if let Some(size) = engine.persist(term, retry).await {
                engine.apply_in(term, Event::Resized { job: id, size });
            }
        } else {
            self.job.runner = Some(self.runner.to_string());
            self.job.finish(outcome);
            let job = &self.job;
            let now = engine.now();
            engine.persist(term, || engine.store.finish(term.epoch, job.clone(), now)).await;
            engine.ended(job, Some(self.claim.execution_id));
        }
        engine.recorded(term, id);
    }
}

/// The job as it waits for its next attempt.
fn again(mut job: Job, runner: &RunnerName, mut outcome: Outcome, next: u32) -> Job {
    outcome.started_at = outcome.started_at.or(job.started_at);
    job.attempts.push(Past { attempt: job.attempt, runner: Some(runner.to_string()), outcome });
    job.attempt = next;
    job.status = Status::Pending;
    (job.runner, job.started_at, job.queue_ms) = (None, None, None);
    job
}
