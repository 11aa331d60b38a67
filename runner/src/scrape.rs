//! One scrape: what was counted since the start, and what the cgroups of running jobs say now.

use std::sync::Arc;

use cloister_api::Kind;
use cloister_web::Rejection;
use prometheus::proto::MetricFamily;
use tokio::task::spawn_blocking;

use crate::{
    cgroups::{of_all, of_slots},
    runner::Runner,
};

/// In the first of so many slots each job is told by itself: labels are bounded.
const SLOTS: usize = 64;

impl Runner {
    /// Everything that a scraper reads.
    ///
    /// A file of a cgroup is read in microseconds, but there are hundreds: that is not done on a thread
    /// of the runtime. Scrapes come one after another, so that many at once take one thread as well.
    pub(crate) async fn scrape(self: Arc<Self>) -> Result<Vec<MetricFamily>, Rejection> {
        let turn = Arc::clone(&self.scraping).lock_owned().await;
        let read = move || {
            // Kept to the end, also when nobody waits for this any more.
            let _turn = turn;
            self.metrics.set_gauges(self.slots.used(), self.kept.count(), &self.spool);
            let taken = self.slots.taken(SLOTS).into_iter();
            let slots: Vec<_> =
                taken.filter_map(|(number, job)| Some((number, job.stats()?))).collect();
            let mut families = self.metrics.gather();
            families.extend(of_all(&self.cells.stats()));
            families.extend(of_slots(&slots));
            families
        };
        spawn_blocking(read).await.map_err(|error| {
            Rejection::new(Kind::Internal, format!("the metrics could not be read: {error}"))
        })
    }
}
