//! Waiting until a job has ended.

use std::time::Duration;

use cloister_api::{Job, Status, Timestamp};
use tokio::time::Instant;
use uuid::Uuid;

use super::{api::Api, error::Error, retry::Patience, table, terminal::Progress};

/// The longest that a coordinator waits for us.
const LONG: Duration = Duration::from_secs(60);
/// Often enough for somebody who looks.
const SHORT: Duration = Duration::from_secs(2);
/// A coordinator that does not wait is not asked more often than this.
const APART: Duration = Duration::from_millis(500);

/// The job as it is when it has ended. A coordinator may go away and come back meanwhile; until it
/// has answered for the first time, `patience` says how long it is looked for.
pub(super) async fn ended(
    api: &Api,
    id: Uuid,
    mut patience: Patience,
    progress: &Progress,
) -> Result<Job, Error> {
    let wait = if progress.is_seen() { SHORT } else { LONG };
    loop {
        let asked = Instant::now();
        let job = patience.persist(progress, async || api.job(id, wait).await).await?;
        patience = Patience::RESTART;
        if job.status.ended() {
            progress.clear();
            return Ok(job);
        }
        progress.tell(&standing(&job));
        tokio::time::sleep_until(asked + APART).await;
    }
}

fn standing(job: &Job) -> String {
    let since = job.started_at.filter(|_| job.status == Status::Running);
    let age = table::age(since.unwrap_or(job.created_at), Timestamp::now());
    let why = job.pending_reason.as_deref().map(|why| format!(": {why}"));
    let (id, status) = (job.job_id, job.status.as_str());
    format!("job {id}: {status} for {age}{}", why.unwrap_or_default())
}
