//! Taking jobs in, and cancelling them.

use std::{sync::Arc, time::Duration};

use cloister_api::{Job, JobRequest, Kind, Problem, Status};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::{sync::oneshot, time::timeout};
use uuid::Uuid;

use super::{Engine, Term};
use crate::{
    scheduler::{Event, Facts, Needs},
    store::{Key, StoreError, Submitted, size_of},
};

/// After which a client may try again that was refused for want of room, or of a store.
pub(super) const COME_AGAIN: u64 = 5;
/// How long a cancellation waits to see whether a job that is just being handed to a runner starts.
const HANDING_OVER: Duration = Duration::from_secs(2);

/// A job whose end was asked for, as it is then.
#[derive(Debug)]
pub(crate) struct CalledOff {
    pub(crate) job: Job,
    /// Whether its command ran when it was asked, so that it ends in its own time.
    pub(crate) ran: bool,
}

/// A job that was taken in, or that the same key made before.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) job: Job,
    pub(crate) new: bool,
}

impl Engine {
    /// Takes a job in. It is durable when this returns. A client that goes away meanwhile does not
    /// stop it half-way.
    pub(crate) async fn submit(
        self: &Arc<Self>,
        request: JobRequest,
        key: Option<String>,
    ) -> Result<Accepted, Problem> {
        let engine = Arc::clone(self);
        self.to_its_end(async move { engine.take_in(request, key).await }).await
    }

    /// Does this also when whoever waits for it goes away meanwhile.
    pub(super) async fn to_its_end<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<T, Problem> {
        let (answer, answered) = oneshot::channel();
        self.spawn(async move {
            let _ = answer.send(work.await);
        });
        answered.await.unwrap_or_else(|_| Err(draining()))
    }

    async fn take_in(
        self: &Arc<Self>,
        request: JobRequest,
        key: Option<String>,
    ) -> Result<Accepted, Problem> {
        let key = key.map(|key| with_digest(key, &request)).transpose()?;
        if let Some(key) = &key
            && let Some(known) = self.known(key).await?
        {
            return Ok(known);
        }
        let needs = Needs::of(&request);
        let faults = self.read(|scheduler| scheduler.impossible(&needs));
        if !faults.is_empty() {
            return Err(Problem::invalid(faults));
        }
        let mut job = Job::new(self.world.job_id(), self.now(), request);
        let facts = vec![new_facts(&mut job)?];
        self.figures_known().await;
        let term = self.reserve(&facts)?;
        let epoch = term.map(|term| term.epoch);
        let submitted = self.store.submit(job.clone(), key, epoch).await;
        let committed = matches!(submitted, Ok(Submitted::New { .. }));
        let taken = matches!(submitted, Ok(Submitted::New { taken: true }));
        self.settle(term, facts, committed, taken);
        match submitted {
            Ok(Submitted::New { .. }) => {
                self.metrics.submitted();
                tracing::info!(job_id = %job.job_id, priority = job.request.priority, "job accepted");
                let job = self.as_it_stands(job);
                Ok(Accepted { job, new: true })
            }
            Ok(Submitted::Same(id)) => self.made_before(id).await,
            Ok(Submitted::Other) => Err(other_request()),
            Err(error) => {
                self.store_failed(&error);
                Err(store_problem(&error))
            }
        }
    }

    /// The job that a key made before, if any. The store decides again when it writes; this is so
    /// that a known job is answered also where no new one would be taken.
    async fn known(&self, key: &Key) -> Result<Option<Accepted>, Problem> {
        let found = self.store.find_key(key.tenant.clone(), key.name.clone());
        match found.await.map_err(|error| store_problem(&error))? {
            None => Ok(None),
            Some((id, digest)) if digest == key.digest => self.made_before(id).await.map(Some),
            Some(_) => Err(other_request()),
        }
    }

    async fn made_before(&self, id: Uuid) -> Result<Accepted, Problem> {
        let job = self.view(id).await.map_err(|error| store_problem(&error))?;
        let job = job.ok_or_else(|| unknown_job(id))?;
        Ok(Accepted { job, new: false })
    }

    /// Asks for the end of a job; `None` where there is no such job.
    pub(crate) async fn cancel(self: &Arc<Self>, id: Uuid) -> Result<Option<CalledOff>, Problem> {
        let (answer, answered) = oneshot::channel();
        let engine = Arc::clone(self);
        self.spawn(async move {
            let _ = answer.send(engine.call_off(id).await);
        });
        let done = answered.await.unwrap_or_else(|_| Err(draining()));
        done.inspect_err(|error| {
            tracing::warn!(job_id = %id, detail = error.detail, "cannot cancel");
        })
    }

    async fn call_off(self: &Arc<Self>, id: Uuid) -> Result<Option<CalledOff>, Problem> {
        let failed = |error: StoreError| store_problem(&error);
        let mut end = self.end_of(id);
        let (term, live) = {
            let mut state = self.state();
            let (term, live) = (Self::leading(&state), state.scheduler.live(id));
            if live.as_ref().is_some_and(|live| live.waits) {
                self.apply_within(&mut state, Event::Cancel { job: id });
            }
            (term, live)
        };
        let Some(live) = live else {
            return self.call_off_elsewhere(term, id).await;
        };
        if !live.waits {
            // Written first: what was promised holds across a crash.
            let ours = self.store.request_cancel(id, term.map(|term| term.epoch)).await;
            let ours = ours.map_err(|error| {
                self.store_failed(&error);
                store_problem(&error)
            })?;
            if let Some(term) = term.filter(|_| ours) {
                self.apply_in(term, Event::Cancel { job: id });
            }
            let runner = live.out.as_ref().map(|(runner, _)| &**runner);
            tracing::info!(job_id = %id, attempt = live.attempt, runner, "job is being cancelled");
            let started = live.out.is_some_and(|(_, started_at)| started_at.is_some());
            if started {
                let job = self.view(id).await.map_err(failed)?;
                return Ok(job.map(|job| CalledOff { job, ran: true }));
            }
        }
        // It ends at once unless its command just starts, or the store fails or takes its time: then what
        // is promised is the wish, and so that is written.
        if timeout(HANDING_OVER, end.changed()).await.is_err() && live.waits {
            let epoch = term.map(|term| term.epoch);
            self.store.request_cancel(id, epoch).await.map_err(|error| {
                self.store_failed(&error);
                let detail = format!("the job is cancelled as soon as the store works: {error}");
                Problem::new(Kind::Unavailable, detail).retry_after(COME_AGAIN)
            })?;
            // What takes writes again writes the end in the same moment.
            let _ = timeout(HANDING_OVER, end.changed()).await;
        }
        let job = self.view(id).await.map_err(failed)?;
        Ok(job.map(|job| CalledOff { job, ran: false }))
    }

    /// A job that this process does not schedule: it has ended, or the leader is told by the store.
    async fn call_off_elsewhere(
        self: &Arc<Self>,
        term: Option<Term>,
        id: Uuid,
    ) -> Result<Option<CalledOff>, Problem> {
        let failed = |error: StoreError| {
            self.store_failed(&error);
            store_problem(&error)
        };
        let mut end = self.end_of(id);
        let Some(job) = self.store.get(id).await.map_err(failed)? else {
            return Ok(None);
        };
        if job.status.ended() {
            return Ok(Some(CalledOff { job, ran: false }));
        }
        let epoch = term.map(|term| term.epoch);
        if self.store.request_cancel(id, epoch).await.map_err(failed)?
            && let Some(term) = term
        {
            self.apply_in(term, Event::Cancel { job: id });
        }
        tracing::info!(job_id = %id, "the leader is told to cancel a job");
        let ran = job.status == Status::Running;
        if !ran {
            let _ = timeout(HANDING_OVER, end.changed()).await;
        }
        let job = self.view(id).await.map_err(failed)?;
        Ok(job.map(|job| CalledOff { job, ran }))
    }
}

pub(super) fn with_digest(key: String, request: &impl Serialize) -> Result<Key, Problem> {
    // The request as it was understood: fields in their order, defaults filled in.
    let canonical = serde_json::to_vec(request).map_err(|error| {
        Problem::new(Kind::Internal, format!("cannot write a request: {error}"))
    })?;
    Ok(Key { tenant: String::new(), name: key, digest: Sha256::digest(canonical).into() })
}

/// The store can't do it now.
pub(crate) fn store_problem(error: &StoreError) -> Problem {
    match error {
        StoreError::Record { .. } | StoreError::Refused { .. } => {
            Problem::new(Kind::Internal, error.to_string())
        }
        _ => Problem::new(Kind::Unavailable, error.to_string()).retry_after(COME_AGAIN),
    }
}

/// There is no such job (any more).
pub(crate) fn unknown_job(id: Uuid) -> Problem {
    let detail = format!("there is no job {id}; ended jobs are kept for a limited time");
    Problem::new(Kind::NotFound, detail)
}

/// What the scheduler is to know of a new job.
pub(super) fn new_facts(job: &mut Job) -> Result<Facts, Problem> {
    let size = size_of(job)
        .map_err(|error| Problem::new(Kind::Internal, format!("cannot write a job: {error}")))?;
    Ok(Facts::of(job, size, None))
}

pub(super) fn draining() -> Problem {
    let detail = "the coordinator is shutting down; try again when it is back";
    Problem::new(Kind::Unavailable, detail).retry_after(COME_AGAIN)
}

pub(super) fn other_request() -> Problem {
    let detail = "this Idempotency-Key made a job by another request; use a new key for a new job";
    Problem::new(Kind::KeyReused, detail)
}
