//! What Prometheus reads. The names without `cloister_` are the contract's.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::response::Response;
use cloister_api::{Job, Reason, Status, Timestamp};
use cloister_web::metrics_text;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, core::Collector, exponential_buckets,
};

use crate::scheduler::{BreakerState, RunnerView, Waiting};

/// From an echo on an idle runner to a job that waited for a day.
const DURATION: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 14_400.0,
    86_400.0,
];

/// How things stand when somebody reads the gauges.
pub(crate) struct Standing<'a> {
    /// Jobs that wait for a runner, and that runners have, as a leader knows them.
    pub(crate) waiting: Waiting,
    pub(crate) running: usize,
    pub(crate) store_up: bool,
    /// Bytes.
    pub(crate) store_size: u64,
    pub(crate) leads: bool,
    /// The present term; 0 while none is known.
    pub(crate) epoch: u64,
    /// Terms that this process began.
    pub(crate) terms: u64,
    pub(crate) paused: bool,
    /// Records that are known to be unreadable.
    pub(crate) unreadable: usize,
    pub(crate) runners: &'a [RunnerView],
}

/// Counters of this process, and gauges that are set when somebody reads them.
pub(crate) struct Metrics {
    registry: Registry,
    scrape: Mutex<()>,
    jobs: IntCounter,
    completed: IntCounter,
    failed: IntCounter,
    runtime: Histogram,
    duration: Histogram,
    ends: IntCounterVec,
    attempts: IntCounterVec,
    queue_wait: Histogram,
    queue_depth: IntGauge,
    queue_size: IntGauge,
    running: IntGauge,
    store_up: IntGauge,
    store_size: IntGauge,
    leader: IntGauge,
    epoch: IntGauge,
    leader_changes: IntCounter,
    paused: IntGauge,
    unreadable: IntGauge,
    runner_up: IntGaugeVec,
    runner_slots: IntGaugeVec,
    runner_failed_cells: IntCounterVec,
    runner_breaker: IntGaugeVec,
    runner_drained: IntGaugeVec,
    runner_skew: GaugeVec,
    /// Jobs whose ends were counted.
    #[cfg(test)]
    pub(crate) counted: Mutex<Vec<uuid::Uuid>>,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let of = &registry;
        let info = IntGaugeVec::new(
            Opts::new("cloister_build_info", "Which program this is; always 1."),
            &["version"],
        )?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        put(of, info)?;
        let metrics = Self {
            jobs: counter(of, "jobs_total", "Jobs that were submitted.")?,
            completed: counter(of, "jobs_completed_total", "Jobs that ended with exit code 0.")?,
            failed: counter(of, "jobs_failed_total", "Jobs that failed, for whatever reason.")?,
            runtime: histogram(
                of,
                "job_runtime_seconds",
                "From the execution of a job's command to its end.",
                exponential_buckets(0.001, 4.0, 12)?,
            )?,
            duration: histogram(
                of,
                "cloister_job_duration_seconds",
                "From the acceptance of a job to its end, waiting and all attempts included.",
                DURATION.into(),
            )?,
            ends: counters(
                of,
                "cloister_job_ends_total",
                "Ends of jobs: completed, cancelled, or why they failed.",
                "end",
            )?,
            attempts: counters(
                of,
                "cloister_attempts_repeated_total",
                "Attempts that were followed by another, by reason.",
                "reason",
            )?,
            queue_wait: histogram(
                of,
                "cloister_queue_wait_seconds",
                "From the acceptance of a job to the execution of its command.",
                exponential_buckets(0.001, 4.0, 12)?,
            )?,
            queue_depth: gauge(of, "cloister_queue_depth", "Jobs that wait for a runner.")?,
            queue_size: gauge(
                of,
                "cloister_queue_size_bytes",
                "How much of the store jobs that wait for a runner take.",
            )?,
            running: gauge(of, "cloister_jobs_running", "Jobs that runners have.")?,
            store_up: gauge(of, "cloister_store_up", "Whether the store takes writes.")?,
            store_size: gauge(of, "cloister_store_size_bytes", "How much the store takes.")?,
            leader: gauge(of, "cloister_leader", "Whether this process leads and schedules.")?,
            epoch: gauge(of, "cloister_epoch", "The present term, as far as this process knows.")?,
            leader_changes: counter(
                of,
                "cloister_leader_changes_total",
                "Times that this process became the leader.",
            )?,
            unreadable: gauge(
                of,
                "cloister_unreadable_records",
                "Records of jobs that can't be read, as far as this process has met them.",
            )?,
            paused: gauge(of, "cloister_paused", "Whether nothing is dispatched, by an order.")?,
            runner_up: runner_gauge(of, "cloister_runner_up", "Whether a runner answers.")?,
            runner_slots: runner_gauge(of, "cloister_runner_slots", "Slots that a runner has.")?,
            runner_breaker: runner_gauge(
                of,
                "cloister_runner_breaker_state",
                "0 while a runner gets work, 1 while it is tried, 2 while it rests after failures.",
            )?,
            runner_drained: runner_gauge(
                of,
                "cloister_runner_drained",
                "Whether an operator drains a runner.",
            )?,
            runner_skew: put(
                of,
                GaugeVec::new(
                    Opts::new(
                        "cloister_runner_clock_skew_seconds",
                        "By how much a runner's clock is ahead of this process's.",
                    ),
                    &["runner"],
                )?,
            )?,
            #[cfg(test)]
            counted: Mutex::default(),
            runner_failed_cells: counters(
                of,
                "cloister_runner_failed_cells_total",
                "Cells that a runner could not make, since this process knows it.",
                "runner",
            )?,
            registry,
            scrape: Mutex::new(()),
        };
        metrics.name_labels();
        Ok(metrics)
    }

    /// Every label from the start: a rate over a series that appears with its first event misses it.
    fn name_labels(&self) {
        for end in [Status::Completed, Status::Cancelled].map(Status::as_str) {
            self.ends.with_label_values(&[end]);
        }
        for reason in Reason::ALL.map(Reason::as_str) {
            self.ends.with_label_values(&[reason]);
            self.attempts.with_label_values(&[reason]);
        }
    }

    pub(crate) fn submitted(&self) {
        self.jobs.inc();
    }

    pub(crate) fn started(&self, waited_ms: i64) {
        self.queue_wait.observe(seconds(waited_ms));
    }

    pub(crate) fn repeated(&self, reason: Reason) {
        self.attempts.with_label_values(&[reason.as_str()]).inc();
    }

    /// A job ended at `now`, by this process's clock: its runner's may be wrong.
    pub(crate) fn ended(&self, job: &Job, now: Timestamp) {
        match job.status {
            Status::Completed => self.completed.inc(),
            Status::Failed => self.failed.inc(),
            _ => {}
        }
        if let Some(ms) = job.runtime_ms {
            self.runtime.observe(ms / 1000.0);
        }
        self.duration.observe(seconds(now.since_ms(job.created_at)));
        #[cfg(test)]
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).push(job.job_id);
        let end = job.reason.map_or(job.status.as_str(), Reason::as_str);
        self.ends.with_label_values(&[end]).inc();
    }

    /// Everything as a scraper reads it, the gauges set to how things stand now.
    pub(crate) fn text(&self, now: &Standing<'_>) -> Response {
        // Two scrapes at once would read gauges that the other one just reset.
        let _one = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        self.queue_depth.set(whole(now.waiting.jobs));
        self.queue_size.set(whole(now.waiting.size));
        self.running.set(whole(now.running));
        self.store_up.set(i64::from(now.store_up));
        self.store_size.set(whole(now.store_size));
        self.leader.set(i64::from(now.leads));
        self.epoch.set(whole(now.epoch));
        self.leader_changes.inc_by(now.terms.saturating_sub(self.leader_changes.get()));
        self.paused.set(i64::from(now.paused));
        self.unreadable.set(whole(now.unreadable));
        // Those that left are told no more.
        self.runner_up.reset();
        self.runner_slots.reset();
        self.runner_failed_cells.reset();
        self.runner_breaker.reset();
        self.runner_drained.reset();
        self.runner_skew.reset();
        for runner in now.runners {
            let label = [&*runner.name];
            self.runner_up.with_label_values(&label).set(i64::from(runner.up));
            let slots = runner.health.as_ref().map_or(0, |health| health.slots.total);
            self.runner_slots.with_label_values(&label).set(whole(slots));
            self.runner_failed_cells.with_label_values(&label).inc_by(runner.failed_cells);
            let breaker = match runner.breaker {
                BreakerState::Closed => 0,
                BreakerState::HalfOpen => 1,
                BreakerState::Open => 2,
            };
            self.runner_breaker.with_label_values(&label).set(breaker);
            let drained = i64::from(runner.drained);
            self.runner_drained.with_label_values(&label).set(drained);
            if let Some(skew) = runner.skew {
                let skew = Duration::from_millis(skew.ms.unsigned_abs()).as_secs_f64()
                    * if skew.ms < 0 { -1.0 } else { 1.0 };
                self.runner_skew.with_label_values(&label).set(skew);
            }
        }
        metrics_text(&self.registry.gather())
    }
}

fn seconds(ms: i64) -> f64 {
    Duration::from_millis(ms.max(0).unsigned_abs()).as_secs_f64()
}

fn whole(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

fn put<C: Collector + Clone + 'static>(to: &Registry, metric: C) -> Result<C, prometheus::Error> {
    to.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counter(to: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    put(to, IntCounter::new(name, help)?)
}

fn counters(
    to: &Registry,
    name: &str,
    help: &str,
    label: &str,
) -> Result<IntCounterVec, prometheus::Error> {
    put(to, IntCounterVec::new(Opts::new(name, help), &[label])?)
}

fn gauge(to: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    put(to, IntGauge::new(name, help)?)
}

/// By runner: as many values as an operator has runners.
fn runner_gauge(to: &Registry, name: &str, help: &str) -> Result<IntGaugeVec, prometheus::Error> {
    put(to, IntGaugeVec::new(Opts::new(name, help), &["runner"])?)
}

fn histogram(
    to: &Registry,
    name: &str,
    help: &str,
    buckets: Vec<f64>,
) -> Result<Histogram, prometheus::Error> {
    put(to, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?)
}
