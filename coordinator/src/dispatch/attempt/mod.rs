//! The life of one attempt: claimed in the store, given to a runner, followed to its end, recorded,
//! and acknowledged.
//!
//! Two promises shape it. What a runner may be running is never started elsewhere: the claim is
//! durable before the runner is asked, and when a connection breaks the runner itself is asked what
//! it knows (`GET /executions/{id}`). And what has ended is never lost: the result is committed
//! before the runner is told to forget it.
//!
//! An attempt is `runner_lost` when its runner answers in another life and knows nothing of it, or
//! answers nothing until the attempt's lease must have run out there, by the runner's own clock: then
//! it runs no more, wherever it was. When it answers in the same life and knows nothing, the request
//! never arrived, and is sent again under the same id.
//!
//! Neither does it outlast its job's timeout by much (`deadline`): a runner may answer for ever, and
//! never tell an end.
//!
//! An attempt belongs to a term. When another coordinator leads it ends here, without a word to its
//! runner, and the next leader takes it up.

mod backoff;
mod deadline;
mod output;
mod record;
mod talk;

use std::{sync::Arc, time::Duration};

use cloister_api::{Job, Outcome};
use tokio::{sync::watch as channel, time::Instant};
use uuid::Uuid;

use self::{backoff::Backoff, deadline::Deadline};
use super::{
    health::{Post, watch},
    stream::max_line,
};
use crate::{
    engine::{Engine, Hold, Term},
    scheduler::{Event, RunnerName},
    store::{Claim, StoreError},
};

/// How an attempt came out.
enum End {
    /// It has ended; `held` tells whether the runner keeps its result.
    Ended { outcome: Box<Outcome>, held: bool },
    /// It never began, and counts as none.
    NotTaken(Untaken),
    /// Nobody knows, or can know in time.
    Lost(String),
    /// The same, although the runner answers: it should have ended the attempt, and did not.
    Overdue(String),
}

/// Why a runner that seemed to have room took nothing.
enum Untaken {
    Down(String),
    Full(String),
    Strange(String),
}

/// How much longer than the lease a silent runner is waited for: for killing, and for clocks that do
/// not run alike.
const MARGIN: Duration = Duration::from_secs(5);

fn margin(lease: Duration) -> Duration {
    MARGIN.min(lease / 4)
}

struct Attempt {
    engine: Arc<Engine>,
    term: Term,
    job: Job,
    claim: Claim,
    runner: RunnerName,
    post: Post,
    /// The runner said that it has it, or had begun with it before this term.
    taken: bool,
    /// The runner answered what makes no sense.
    garbled: bool,
    hold: Hold,
    /// When it was last sent, by whomever, as far as is known: its lease may count from then.
    sent: Instant,
    deadline: Deadline,
    backoff: Backoff,
    stop: channel::Receiver<bool>,
}

impl Attempt {
    fn new(
        engine: Arc<Engine>,
        term: Term,
        (job, claim): (Job, Claim),
        hold: Hold,
        stop: channel::Receiver<bool>,
    ) -> Self {
        let runner = RunnerName::from(claim.runner.as_str());
        let post = watch(&engine, &runner);
        let task = &job.request.task;
        let deadline = Deadline::new(task.timeout.0, margin(engine.lease), max_line(&task.limits));
        let backoff = Backoff::new(engine.lease);
        Self {
            engine,
            term,
            job,
            claim,
            runner,
            post,
            taken: false,
            garbled: false,
            hold,
            sent: Instant::now(),
            deadline,
            backoff,
            stop,
        }
    }
}

/// Gives a job to a runner that the scheduler chose.
pub(crate) async fn fresh(
    engine: Arc<Engine>,
    term: Term,
    job: Uuid,
    attempt: u32,
    runner: RunnerName,
    stop: channel::Receiver<bool>,
) {
    let post = watch(&engine, &runner);
    let claim = Claim {
        attempt,
        execution_id: engine.world.id(),
        runner: runner.to_string(),
        boot_id: post.contact().boot_id,
    };
    let hold = engine.hold(term, &runner, claim.execution_id);
    match engine.store.claim(term.epoch, job, claim.clone()).await {
        Ok(Some(job)) => {
            tracing::info!(
                job_id = %job.job_id,
                attempt,
                execution_id = %claim.execution_id,
                %runner,
                "job is handed to a runner"
            );
            let mut attempt = Attempt::new(engine, term, (job, claim), hold, stop);
            let end = attempt.give().await;
            attempt.conclude(end).await;
        }
        Ok(None) => drop_out(&engine, term, job, attempt, "it does not wait in the store"),
        Err(error) if engine.is_unreadable(&error) => {
            // The claim may have been recorded, but no runner is given the job.
            engine.persist(term, || engine.store.unclaim(term.epoch, job)).await;
            drop_out(&engine, term, job, attempt, &error.to_string());
        }
        Err(StoreError::Stale { .. }) => engine.doubt(term),
        Err(error) => {
            engine.store_failed(&error);
            // It may have been recorded all the same.
            engine.persist(term, || engine.store.unclaim(term.epoch, job)).await;
            engine.apply_in(term, Event::Returned { job, attempt });
        }
    }
}

/// Takes up an attempt that a runner was given before this term.
pub(crate) async fn resumed(
    engine: Arc<Engine>,
    term: Term,
    job: Uuid,
    claim: Claim,
    hold: Hold,
    stop: channel::Receiver<bool>,
) {
    let Some(job) = engine.fetch(term, job).await else {
        return drop_out(&engine, term, job, claim.attempt, "it is not in the store");
    };
    // The previous leader may have sent it until it lost its term, which may have been just now.
    let mut attempt = Attempt::new(engine, term, (job, claim), hold, stop);
    if attempt.job.started_at.is_some() {
        attempt.taken = true;
        attempt.deadline.taken(Instant::now());
    }
    let end = attempt.follow(Some("it was given out before this term".into())).await;
    attempt.conclude(end).await;
}

/// A record that can't be is left as it is, for an operator to look at, and stops nothing else.
fn drop_out(engine: &Arc<Engine>, term: Term, job: Uuid, attempt: u32, why: &str) {
    tracing::error!(job_id = %job, attempt, why, "a job can't be run; its record is left as it is");
    let (reason, jitter) = (None, 0.0);
    engine.apply_in(term, Event::Ended { job, attempt, reason, jitter });
    engine.recorded(term, job);
}
