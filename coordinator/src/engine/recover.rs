//! After a restart: every job that has not ended is taken up where it stood.

use std::sync::Arc;

use super::{Engine, channel};
use crate::{
    dispatch::{self, attempt},
    scheduler::{Event, Facts, RunnerName},
    store::{StoreError, Unfinished},
};

/// Jobs read at once.
const PAGE: usize = 1000;

impl Engine {
    /// Takes up what the store has: jobs that waited are queued; for those that a runner was given,
    /// the runner is asked.
    pub(crate) async fn recover(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut after = None;
        let (mut waiting, mut out) = (0_usize, 0_usize);
        loop {
            let page = self.store.unfinished(after, PAGE).await?;
            let Some(last) = page.last() else {
                break;
            };
            after = Some(last.job.job_id);
            for found in page {
                let asked = found.claim.is_some();
                out += usize::from(asked);
                waiting += usize::from(!asked);
                self.take_up(found);
            }
        }
        if waiting + out > 0 {
            tracing::info!(waiting, out, "took up jobs from before the restart");
        }
        Ok(())
    }

    fn take_up(self: &Arc<Self>, found: Unfinished) {
        let id = found.job.job_id;
        let facts = Facts::of(&found.job, found.not_before);
        let Some(claim) = found.claim else {
            self.apply(Event::Submitted(facts));
            if found.cancel {
                self.apply(Event::Cancel { job: id });
            }
            return;
        };
        let runner = RunnerName::from(claim.runner.as_str());
        let (stop, stopped) = channel::channel(found.cancel);
        self.state().stops.insert(id, stop);
        self.apply(Event::Resumed {
            facts,
            runner: runner.clone(),
            started_at: found.job.started_at,
            cancel: found.cancel,
        });
        dispatch::watch(self, &runner);
        self.spawn(attempt::resumed(Arc::clone(self), id, claim, stopped));
    }
}
