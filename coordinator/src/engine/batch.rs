//! Taking many jobs in at once: all of them or none, in one commit.
//!
//! What one submission is asked, each of a batch is asked as well; places in the queue are promised
//! to all of them under one lock, so that two batches cannot each get half of what they need.

use std::sync::Arc;

use cloister_api::{FieldProblem, Job, JobRequest, Kind, Problem};
use uuid::Uuid;

use super::{
    Engine,
    jobs::{new_facts, other_request, store_problem, with_digest},
};
use crate::{
    scheduler::Needs,
    store::{Key, Submitted},
};

/// Jobs that were taken in together, in their order, or that the same key made before.
#[derive(Debug)]
pub(crate) struct AcceptedAll {
    pub(crate) jobs: Vec<Job>,
    pub(crate) new: bool,
}

impl Engine {
    /// Takes jobs in, all or none. They are durable when this returns. A client that goes away
    /// meanwhile does not stop it half-way.
    pub(crate) async fn submit_all(
        self: &Arc<Self>,
        requests: Vec<JobRequest>,
        key: Option<String>,
    ) -> Result<AcceptedAll, Problem> {
        let engine = Arc::clone(self);
        self.to_its_end(async move { engine.take_in_all(requests, key).await }).await
    }

    async fn take_in_all(
        self: &Arc<Self>,
        requests: Vec<JobRequest>,
        key: Option<String>,
    ) -> Result<AcceptedAll, Problem> {
        let key = key.map(|key| with_digest(key, &requests)).transpose()?;
        let known = match &key {
            Some(key) => self.is_known(key).await?,
            None => false,
        };
        if !known {
            self.all_possible(&requests)?;
        }
        let now = self.now();
        let new = |request| Job::new(self.world.job_id(), now, request);
        let mut jobs: Vec<_> = requests.into_iter().map(new).collect();
        let facts = jobs.iter_mut().map(new_facts).collect::<Result<Vec<_>, _>>()?;
        self.figures_known().await;
        // What is known is answered also where nothing new would be taken. Should it be removed in
        // this very moment, the jobs are new after all, and come by the inbox.
        let facts = if known { Vec::new() } else { facts };
        let term = if known { None } else { self.reserve(&facts)? };
        let epoch = term.map(|term| term.epoch);
        let submitted = self.store.submit_all(jobs.clone(), key, epoch).await;
        let committed = matches!(submitted, Ok(Submitted::New { .. }));
        let taken = matches!(submitted, Ok(Submitted::New { taken: true }));
        self.settle(term, facts, committed, taken);
        match submitted {
            Ok(Submitted::New { .. }) => {
                for job in &jobs {
                    self.metrics.submitted();
                    let priority = job.request.priority;
                    tracing::info!(job_id = %job.job_id, priority, "job accepted");
                }
                let jobs = jobs.into_iter().map(|job| self.as_it_stands(job)).collect();
                Ok(AcceptedAll { jobs, new: true })
            }
            Ok(Submitted::Same(ids)) => self.all_made_before(&ids, jobs.len()).await,
            Ok(Submitted::Other) => Err(other_request()),
            Err(error) => {
                self.store_failed(&error);
                Err(store_problem(&error))
            }
        }
    }

    /// Whether the key made these jobs before. Where the first is kept no longer, the store knows.
    async fn is_known(&self, key: &Key) -> Result<bool, Problem> {
        let found = self.store.find_key(key.tenant.clone(), key.name.clone());
        match found.await.map_err(|error| store_problem(&error))? {
            None => Ok(false),
            Some((_, digest)) if digest == key.digest => Ok(true),
            Some(_) => Err(other_request()),
        }
    }

    /// Refuses them if no runner could ever hold one of them.
    fn all_possible(&self, requests: &[JobRequest]) -> Result<(), Problem> {
        let faults = self.read(|scheduler| {
            let each = requests.iter().map(|request| scheduler.impossible(&Needs::of(request)));
            let named = each.enumerate().flat_map(|(at, faults)| {
                faults.into_iter().map(move |FieldProblem { pointer, detail }| FieldProblem {
                    pointer: format!("/jobs/{at}{pointer}"),
                    detail,
                })
            });
            named.collect::<Vec<_>>()
        });
        if faults.is_empty() { Ok(()) } else { Err(Problem::invalid(faults)) }
    }

    /// The jobs that a key made before, without what they read and printed, which could be gigabytes.
    async fn all_made_before(&self, ids: &[Uuid], of: usize) -> Result<AcceptedAll, Problem> {
        let mut jobs = Vec::with_capacity(ids.len());
        for id in ids {
            let job = self.view(*id).await.map_err(|error| store_problem(&error))?;
            jobs.extend(job.map(Job::without_outputs));
        }
        if jobs.len() == of {
            return Ok(AcceptedAll { jobs, new: false });
        }
        // To make those that are gone again would run them twice; so would making all of them.
        let detail = format!(
            "of the {of} jobs that this Idempotency-Key made {} are kept no longer, as ended jobs are for a \
             limited time; ask for each by its id, or use a new key for new jobs",
            of - jobs.len()
        );
        Err(Problem::new(Kind::NotFound, detail))
    }
}
