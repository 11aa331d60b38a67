//! What a scraper sees. The three names without a prefix are the contract's; labels are bounded.

use std::time::Duration;

use cloister_api::{Outcome, Reason, Status, Usage};
use prometheus::{
    Counter, Error, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, core::Collector, proto::MetricFamily,
};

use crate::spool::{self, Cut, Spool};

/// From a quarter of a millisecond, a warm cell, to ten seconds, a host that is out of breath.
const LATENCY: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// From a millisecond to the longest timeout.
const TIME: [f64; 14] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];
const MIB: f64 = 1_048_576.0;
/// From 1 MiB, by factors of 4, to 64 GiB.
const MEMORY: [f64; 9] = [
    MIB,
    4.0 * MIB,
    16.0 * MIB,
    64.0 * MIB,
    256.0 * MIB,
    1024.0 * MIB,
    4096.0 * MIB,
    16_384.0 * MIB,
    65_536.0 * MIB,
];

/// Why an execution was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// All slots are taken.
    Slots,
    /// Too many results wait to be acknowledged.
    Results,
    /// The spool is full.
    Spool,
    /// Its coordinator is of a cluster too many.
    Clusters,
    /// It came when its lease was over.
    Late,
    /// The runner drains.
    Draining,
    /// Its launcher is gone.
    Failed,
}

impl Refusal {
    const ALL: [Self; 7] = [
        Self::Slots,
        Self::Results,
        Self::Spool,
        Self::Clusters,
        Self::Late,
        Self::Draining,
        Self::Failed,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Slots => "slots",
            Self::Results => "results",
            Self::Spool => "spool",
            Self::Clusters => "clusters",
            Self::Late => "late",
            Self::Draining => "draining",
            Self::Failed => "failed",
        }
    }
}

/// Everything that the runner counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    total: IntCounter,
    success: IntCounter,
    failed: IntCounter,
    ended: IntCounterVec,
    refused: IntCounterVec,
    stale: IntCounter,
    leases_expired: IntCounter,
    slots_used: IntGauge,
    results: IntGauge,
    spool: spool::Metrics,
    launch: Histogram,
    runtime: Histogram,
    cpu: Counter,
    throttled: Counter,
    oom_kills: IntCounter,
    memory_peak: Histogram,
    job_cpu: Histogram,
}

impl Metrics {
    /// All of them at zero, in a registry of their own.
    pub(crate) fn new(slots: usize) -> Result<Self, Error> {
        let registry = Registry::new();
        let at = &registry;
        let version = &[env!("CARGO_PKG_VERSION")];
        let info = Opts::new("cloister_build_info", "Always 1; the label tells what runs.");
        add(at, IntGaugeVec::new(info, &["version"])?)?.with_label_values(version).set(1);
        let total = IntGauge::new("cloister_runner_slots", "Jobs at once, at most.")?;
        add(at, total)?.set(gauge(slots));
        let metrics = Self {
            total: counter(at, "executions_total", "Executions that were taken.")?,
            success: counter(
                at,
                "executions_success_total",
                "Executions whose command exited with 0.",
            )?,
            failed: counter(
                at,
                "executions_failed_total",
                "Executions that failed, for any reason.",
            )?,
            ended: counters(
                at,
                "cloister_executions_ended_total",
                "Executions by how they ended.",
                "reason",
            )?,
            refused: counters(
                at,
                "cloister_executions_refused_total",
                "Executions that were answered 503, by why.",
                "reason",
            )?,
            stale: counter(
                at,
                "cloister_stale_requests_total",
                "Requests that were answered 409, since they came from a term that is over.",
            )?,
            leases_expired: counter(
                at,
                "cloister_leases_expired_total",
                "Executions that were ended since their lease was not renewed.",
            )?,
            slots_used: add(
                at,
                IntGauge::new("cloister_runner_slots_used", "Jobs that run now.")?,
            )?,
            results: add(
                at,
                IntGauge::new(
                    "cloister_runner_executions_kept",
                    "Executions with an id: running, or with a result that was not acknowledged.",
                )?,
            )?,
            spool: spool::Metrics::new(at)?,
            launch: histogram(
                at,
                "cloister_launch_latency_seconds",
                "From a request that was read to its command's exec.",
                &LATENCY,
            )?,
            runtime: histogram(
                at,
                "cloister_execution_runtime_seconds",
                "From exec to exit.",
                &TIME,
            )?,
            cpu: add(
                at,
                Counter::new(
                    "cloister_jobs_cpu_seconds_total",
                    "CPU time of all ended jobs, by their cgroups.",
                )?,
            )?,
            throttled: add(
                at,
                Counter::new(
                    "cloister_jobs_throttled_seconds_total",
                    "Time for which their CPU limit held ended jobs back.",
                )?,
            )?,
            oom_kills: counter(
                at,
                "cloister_jobs_oom_kills_total",
                "Processes of ended jobs that were killed for want of memory.",
            )?,
            memory_peak: histogram(
                at,
                "cloister_job_memory_peak_bytes",
                "The most memory that each job held.",
                &MEMORY,
            )?,
            job_cpu: histogram(at, "cloister_job_cpu_seconds", "CPU time of each job.", &TIME)?,
            registry,
        };
        metrics.name_labels();
        Ok(metrics)
    }

    /// Every label from the start: a rate over a series that appears with its first event misses it.
    fn name_labels(&self) {
        for word in ["completed", "cancelled"].into_iter().chain(Reason::ALL.map(Reason::as_str)) {
            self.ended.with_label_values(&[word]);
        }
        for refusal in Refusal::ALL {
            self.refused.with_label_values(&[refusal.as_str()]);
        }
    }

    pub(crate) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    pub(crate) fn taken(&self) {
        self.total.inc();
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refused.with_label_values(&[refusal.as_str()]).inc();
    }

    pub(crate) fn truncated(&self, cut: Cut) {
        self.spool.truncated(cut);
    }

    pub(crate) fn stale(&self) {
        self.stale.inc();
    }

    pub(crate) fn lease_expired(&self) {
        self.leases_expired.inc();
    }

    pub(crate) fn launched(&self, after: Duration) {
        self.launch.observe(after.as_secs_f64());
    }

    pub(crate) fn ended(&self, outcome: &Outcome) {
        let word = match (outcome.status, outcome.reason) {
            (Status::Completed, _) => "completed",
            (_, Some(reason)) => reason.as_str(),
            (status, None) => status.as_str(),
        };
        self.ended.with_label_values(&[word]).inc();
        match outcome.status {
            Status::Completed => self.success.inc(),
            Status::Failed => self.failed.inc(),
            // Its user's own wish is neither.
            Status::Cancelled | Status::Pending | Status::Running => {}
        }
        if let Some(runtime) = outcome.runtime_ms {
            self.runtime.observe(runtime / 1000.0);
        }
        if let Some(usage) = &outcome.usage {
            self.used(usage);
        }
    }

    fn used(&self, usage: &Usage) {
        if let Some(cpu) = usage.cpu_ms {
            self.cpu.inc_by(cpu.max(0.0) / 1000.0);
            self.job_cpu.observe(cpu / 1000.0);
        }
        if let Some(throttled) = usage.throttled_ms {
            self.throttled.inc_by(throttled.max(0.0) / 1000.0);
        }
        if let Some(kills) = usage.oom_kills {
            self.oom_kills.inc_by(kills);
        }
        if let Some(peak) = usage.memory_peak_bytes {
            #[expect(clippy::cast_precision_loss, reason = "a histogram's buckets are coarser")]
            self.memory_peak.observe(peak as f64);
        }
    }

    /// What is only worth knowing when somebody looks.
    pub(crate) fn set_gauges(&self, slots_used: usize, results: usize, spool: &Spool) {
        self.slots_used.set(gauge(slots_used));
        self.results.set(gauge(results));
        self.spool.set(spool);
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(crate) fn add<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> Result<C, Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, Error> {
    add(registry, IntCounter::new(name, help)?)
}

pub(crate) fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
) -> Result<IntCounterVec, Error> {
    add(registry, IntCounterVec::new(Opts::new(name, help), &[label])?)
}

fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
) -> Result<Histogram, Error> {
    add(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.into()))?)
}
