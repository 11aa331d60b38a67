//! What came of an attempt goes into the store, and then to everybody else.

use std::{sync::Arc, time::Duration};

use cloister_api::{Job, Outcome, Past, Reason, Status, Timestamp};

use super::{super::release, Attempt, End, Untaken, output::with_loss};
use crate::{
    engine::{Engine, Term},
    scheduler::{Action, Event, RunnerName},
    store::{Answer, Unreadable},
};

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
            let outcome = self.store_output(outcome).await;
            let (engine, runner) = (Arc::clone(&self.engine), self.runner.clone());
            let job = again(self.job, &runner, outcome, next);
            let retry = |job| engine.store.retry(term.epoch, job, not_before);
            if let Some(Some(size)) = write(&engine, term, job, retry).await.1 {
                engine.apply_in(term, Event::Resized { job: id, size });
            }
        } else {
            let outcome = self.store_output(outcome).await;
            self.job.runner = Some(self.runner.to_string());
            self.job.finish(outcome);
            let engine = &self.engine;
            let now = engine.now();
            let finish = |job| engine.store.finish(term.epoch, job, now);
            let (job, _) = write(engine, term, self.job, finish).await;
            engine.ended(&job, Some(self.claim.execution_id));
        }
        engine.recorded(term, id);
    }
}

/// Writes a job until it is written. What the store refuses is written without what its attempts printed,
/// and says so; what it refuses even then stays as it was, for an operator to look at. Answers the job as
/// it was written.
async fn write<'a, T: Send + 'a>(
    engine: &'a Arc<Engine>,
    term: Term,
    mut job: Job,
    writing: impl Fn(Job) -> Answer<'a, T>,
) -> (Job, Option<T>) {
    let error = match engine.persist_unless_refused(term, || writing(job.clone())).await {
        Ok(done) => return (job, Some(done)),
        Err(error) => error,
    };
    tracing::error!(job_id = %job.job_id, %error, "the store refuses a job; its output is dropped");
    drop_output(&mut job, &error.to_string());
    match engine.persist_unless_refused(term, || writing(job.clone())).await {
        Ok(done) => (job, Some(done)),
        Err(error) => {
            engine.unreadable(&Unreadable { job: job.job_id, why: error.to_string() });
            (job, None)
        }
    }
}

/// Drops what the attempts printed, where it is in the job, and says so where the job, or else its last
/// attempt, says how it ended.
fn drop_output(job: &mut Job, why: &str) {
    let empty = |text: &mut Option<String>, base64: &mut Option<String>, cut: &mut Option<bool>| {
        if let Some(text) = text {
            *cut = Some(cut.unwrap_or_default() || !text.is_empty());
            text.clear();
        }
        *base64 = None;
    };
    empty(&mut job.stdout, &mut job.stdout_base64, &mut job.stdout_truncated);
    empty(&mut job.stderr, &mut job.stderr_base64, &mut job.stderr_truncated);
    for past in &mut job.attempts {
        let outcome = &mut past.outcome;
        empty(&mut outcome.stdout, &mut outcome.stdout_base64, &mut outcome.stdout_truncated);
        empty(&mut outcome.stderr, &mut outcome.stderr_base64, &mut outcome.stderr_truncated);
    }
    let message = match job.attempts.last_mut() {
        Some(past) if !job.status.ended() => &mut past.outcome.message,
        _ => &mut job.message,
    };
    *message = Some(with_loss(message.take(), why));
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
