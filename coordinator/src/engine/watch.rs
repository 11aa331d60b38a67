//! What those who ask are told of a job: the stored record, with how it stands at this moment laid
//! over it; and waiting for its end.

use std::time::Duration;

use cloister_api::{Job, Status, Timestamp};
use tokio::time::timeout;
use uuid::Uuid;

use super::{Engine, channel};
use crate::{
    scheduler::Live,
    store::{Query, StoreError},
};

impl Engine {
    /// A job as it is now.
    pub(crate) async fn view(&self, id: Uuid) -> Result<Option<Job>, StoreError> {
        // In this order: a job that is over here is over in the store.
        let (live, leads) = self.stand(id);
        let job = self.store.get(id).await.inspect_err(|error| {
            self.is_unreadable(error);
        })?;
        Ok(job.map(|job| if leads { overlay(job, live) } else { self.elsewhere(job) }))
    }

    /// A job that was just read or made, as it is now.
    pub(super) fn as_it_stands(&self, job: Job) -> Job {
        let (live, leads) = self.stand(job.job_id);
        if leads { overlay(job, live) } else { self.elsewhere(job) }
    }

    /// How a job stands here, and whether this is where it would.
    fn stand(&self, id: Uuid) -> (Option<Live>, bool) {
        let state = self.state();
        (state.scheduler.live(id), Self::leading(&state).is_some())
    }

    /// A job that another coordinator schedules.
    fn elsewhere(&self, mut job: Job) -> Job {
        if job.status == Status::Pending {
            job.pending_reason = Some(match self.leader() {
                Some(found) if found.leader.id == self.me.id => {
                    "this coordinator takes up what the one before it had".into()
                }
                Some(found) => format!(
                    "waits; the coordinator {} schedules, and can tell for what",
                    found.leader.name
                ),
                None => "no coordinator leads yet".into(),
            });
        }
        job
    }

    /// A job as it is when it has ended, or after `wait`.
    pub(crate) async fn wait(&self, id: Uuid, wait: Duration) -> Result<Option<Job>, StoreError> {
        let mut end = self.end_of(id);
        if self.read(|scheduler| scheduler.live(id).is_none()) {
            // It is over, or another coordinator's.
            let job = self.view(id).await?;
            if job.as_ref().is_none_or(|job| job.status.ended()) {
                return Ok(job);
            }
        }
        let mut closing = self.closing.subscribe();
        let either = async {
            tokio::select! {
                biased;
                _ = end.changed() => {}
                _ = closing.wait_for(|closing| *closing) => {}
            }
        };
        let _ = timeout(wait, either).await;
        self.view(id).await
    }

    /// Closes when the job's end is recorded. Whoever asks looks afterwards whether it is over
    /// already, and so can miss no end.
    pub(super) fn end_of(&self, id: Uuid) -> channel::Receiver<()> {
        let mut state = self.state();
        let end = state.ends.entry(id).or_insert_with(|| channel::Sender::new(())).subscribe();
        self.awaited.notify_one();
        end
    }

    /// Those who wait are answered now.
    pub(crate) fn close_waits(&self) {
        self.closing.send_replace(true);
    }

    /// A page of jobs as they are now. A job that moved on since it was selected by its status is
    /// left out.
    pub(crate) async fn list(&self, query: Query) -> Result<Listed, StoreError> {
        let status = query.status;
        let page = self.store.list(query).await?;
        for found in &page.unreadable {
            self.unreadable(found);
        }
        let jobs = page.jobs.into_iter().map(|job| self.as_it_stands(job));
        Ok(Listed {
            next: page.last.filter(|_| page.more),
            unreadable: page.unreadable.into_iter().map(|found| found.job).collect(),
            jobs: jobs.filter(|job| status.is_none_or(|status| status == job.status)).collect(),
        })
    }
}

/// A page of jobs, and the job after which the next one starts.
pub(crate) struct Listed {
    pub(crate) jobs: Vec<Job>,
    /// Jobs that would be on it, and whose records cannot be read.
    pub(crate) unreadable: Vec<Uuid>,
    pub(crate) next: Option<Uuid>,
}

/// Lays how a job stands at this moment over its record.
pub(super) fn overlay(mut job: Job, live: Option<Live>) -> Job {
    if job.status != Status::Pending {
        return job;
    }
    match live {
        Some(live) if live.attempt == job.attempt => {
            if let Some((runner, Some(started_at))) = live.out {
                start(&mut job, &runner, started_at);
            }
            job.pending_reason = live.pending_reason;
        }
        // It moved on while it was read, or another coordinator took it in this moment.
        _ => job.pending_reason = Some("its state is just changing".into()),
    }
    job
}

/// The command of a job was executed.
pub(crate) fn start(job: &mut Job, runner: &str, at: Timestamp) {
    job.status = Status::Running;
    job.pending_reason = None;
    job.runner = Some(runner.into());
    job.started_at = Some(at);
    job.queue_ms = Some(at.since_ms(job.created_at).max(0));
}
