//! What a scraper sees of the spool.

use prometheus::{Error, IntCounterVec, IntGauge, Registry};

use super::{Cut, Spool};
use crate::metrics::{add, counters};

#[derive(Debug)]
pub(crate) struct Metrics {
    held: IntGauge,
    size: IntGauge,
    truncated: IntCounterVec,
}

impl Metrics {
    pub(crate) fn new(at: &Registry) -> Result<Self, Error> {
        let held = IntGauge::new(
            "cloister_runner_spool_bytes",
            "Output of jobs that the runner holds, in memory and in files.",
        );
        let size = IntGauge::new(
            "cloister_runner_spool_size_bytes",
            "Output of jobs that the runner holds, at most.",
        );
        let metrics = Self {
            held: add(at, held?)?,
            size: add(at, size?)?,
            truncated: counters(
                at,
                "cloister_runner_outputs_truncated_total",
                "Outputs that were cut before the job's own limit, by what was wrong with the spool.",
                "reason",
            )?,
        };
        // From the start: a rate over a series that appears with its first event misses it.
        for cut in Cut::ALL {
            metrics.truncated.with_label_values(&[cut.as_str()]);
        }
        Ok(metrics)
    }

    pub(crate) fn truncated(&self, cut: Cut) {
        self.truncated.with_label_values(&[cut.as_str()]).inc();
    }

    /// What is only worth knowing when somebody looks.
    pub(crate) fn set(&self, spool: &Spool) {
        self.held.set(i64::try_from(spool.held()).unwrap_or(i64::MAX));
        self.size.set(i64::try_from(spool.quota()).unwrap_or(i64::MAX));
    }
}
