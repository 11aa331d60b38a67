//! The cgroups' view of jobs as metrics. What a host can't tell is left out, never a made-up 0.
//!
//! Families are written down as they are read, without a registry: that would go on showing a job
//! that has ended, and make a counter of what the kernel has counted already.

use cloister_sandbox::{Pressure, Stats};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// A value with its labels, where the host can tell it.
type Value = (Vec<LabelPair>, Option<f64>);

/// Of all cells together.
pub(crate) fn of_all(stats: &Stats) -> Vec<MetricFamily> {
    let usage = &stats.usage;
    let families = [
        gauge(
            "cloister_cells_memory_bytes",
            "Memory that all cells hold together.",
            [(labels([]), count(stats.memory_bytes))],
        ),
        gauge(
            "cloister_cells_pids",
            "Processes and threads in all cells; one of the runner's own in each is included, and cells that wait for a job.",
            [(labels([]), count(stats.pids))],
        ),
        gauge(
            "cloister_cells_removed_cgroups",
            "Removed cgroups of ended cells that the kernel keeps, since cached pages of shared files are charged to them.",
            [(labels([]), count(stats.removed_cgroups))],
        ),
        counter(
            "cloister_cells_cpu_seconds_total",
            "CPU time of all cells so far, running and ended.",
            [("user", usage.user_ms), ("system", usage.system_ms)]
                .map(|(mode, ms)| (labels([("mode", mode)]), ms.map(seconds))),
        ),
        counter(
            "cloister_cells_oom_kills_total",
            "Processes in cells, running and ended, that were killed for want of memory.",
            [(labels([]), count(usage.oom_kills))],
        ),
        counter(
            "cloister_cells_pressure_seconds_total",
            "Time in which some or, in full, all tasks of cells waited for a resource (PSI).",
            pressure(stats).map(|([resource, kind], time)| {
                (labels([("resource", resource), ("kind", kind)]), time)
            }),
        ),
        counter(
            "cloister_cells_io_bytes_total",
            "Bytes that cells, running and ended, read from and wrote to block devices.",
            io(stats).map(|(direction, bytes)| (labels([("direction", direction)]), bytes)),
        ),
        counter(
            "cloister_cells_ended_for_kernel_memory_total",
            "Jobs that were ended because they held more kernel memory that no cgroup counts than their \
             memory limit allows.",
            [(labels([]), count(stats.ended_for_kernel_memory))],
        ),
        gauge(
            "cloister_uncharged_kernel_memory_bytes",
            "Kernel memory of the whole host that no cell is charged with, and that can't be taken back.",
            [(labels([]), count(stats.uncharged_bytes))],
        ),
    ];
    families.into_iter().flatten().collect()
}

/// Of the job in each of these slots.
pub(crate) fn of_slots(slots: &[(usize, Stats)]) -> Vec<MetricFamily> {
    let slots: Vec<_> = slots.iter().map(|(number, stats)| (number.to_string(), stats)).collect();
    let each = |value: fn(&Stats) -> Option<f64>| {
        slots.iter().map(move |(slot, stats)| (labels([("slot", slot)]), value(stats)))
    };
    let families = [
        gauge(
            "cloister_slot_memory_bytes",
            "Memory that the job in this slot holds.",
            each(|stats| count(stats.memory_bytes)),
        ),
        gauge(
            "cloister_slot_memory_peak_bytes",
            "The most memory that the job in this slot has held.",
            each(|stats| count(stats.usage.memory_peak_bytes)),
        ),
        gauge(
            "cloister_slot_pids",
            "Processes and threads of the job in this slot.",
            each(|stats| count(stats.pids)),
        ),
        counter(
            "cloister_slot_cpu_seconds_total",
            "CPU time of the job in this slot; begins anew with each job.",
            each(|stats| stats.usage.cpu_ms.map(seconds)),
        ),
        counter(
            "cloister_slot_throttled_seconds_total",
            "Time for which its CPU limit held back the job in this slot; begins anew with each job.",
            each(|stats| stats.usage.throttled_ms.map(seconds)),
        ),
        counter(
            "cloister_slot_oom_kills_total",
            "Processes of the job in this slot that were killed for want of memory; begins anew with \
             each job.",
            each(|stats| count(stats.usage.oom_kills)),
        ),
        counter(
            "cloister_slot_pressure_seconds_total",
            "Time in which some or, in full, all tasks of the job in this slot waited for a resource \
             (PSI); begins anew with each job.",
            slots.iter().flat_map(|(slot, stats)| {
                pressure(stats).map(|([resource, kind], time)| {
                    (labels([("slot", slot), ("resource", resource), ("kind", kind)]), time)
                })
            }),
        ),
        counter(
            "cloister_slot_io_bytes_total",
            "Bytes that the job in this slot read from and wrote to block devices; begins anew with \
             each job.",
            slots.iter().flat_map(|(slot, stats)| {
                io(stats).map(|(direction, bytes)| {
                    (labels([("slot", slot), ("direction", direction)]), bytes)
                })
            }),
        ),
    ];
    families.into_iter().flatten().collect()
}

/// The resource, the kind, and for how many seconds.
fn pressure(stats: &Stats) -> [([&'static str; 2], Option<f64>); 6] {
    let of = |resource, Pressure { some, full }| {
        [("some", some), ("full", full)].map(|(kind, time)| {
            ([resource, kind], time.map(|time| seconds(time.as_secs_f64() * 1000.0)))
        })
    };
    let [cpu, memory, io] = [
        of("cpu", stats.cpu_pressure),
        of("memory", stats.memory_pressure),
        of("io", stats.io_pressure),
    ];
    [cpu[0], cpu[1], memory[0], memory[1], io[0], io[1]]
}

/// The direction and how many bytes.
fn io(stats: &Stats) -> [(&'static str, Option<f64>); 2] {
    let usage = &stats.usage;
    [("read", count(usage.io_read_bytes)), ("write", count(usage.io_write_bytes))]
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, more than any machine has")]
fn count(count: Option<u64>) -> Option<f64> {
    count.map(|count| count as f64)
}

/// The kernel counts microseconds: the number next to one, which is written out without a long tail.
fn seconds(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1e6
}

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Vec<LabelPair> {
    pairs
        .into_iter()
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.into());
            pair.set_value(value.into());
            pair
        })
        .collect()
}

fn gauge(name: &str, help: &str, values: impl IntoIterator<Item = Value>) -> Option<MetricFamily> {
    let metric = |value| {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        Metric::from_gauge(gauge)
    };
    family(name, help, MetricType::GAUGE, values, metric)
}

fn counter(
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = Value>,
) -> Option<MetricFamily> {
    let metric = |value| {
        let mut counter = Counter::default();
        counter.set_value(value);
        let mut metric = Metric::default();
        metric.set_counter(counter);
        metric
    };
    family(name, help, MetricType::COUNTER, values, metric)
}

/// None without a value: a name alone says nothing.
fn family(
    name: &str,
    help: &str,
    kind: MetricType,
    values: impl IntoIterator<Item = Value>,
    metric: impl Fn(f64) -> Metric,
) -> Option<MetricFamily> {
    let metrics: Vec<_> = values
        .into_iter()
        .filter_map(|(labels, value)| {
            let mut metric = metric(value?);
            metric.set_label(labels);
            Some(metric)
        })
        .collect();
    if metrics.is_empty() {
        return None;
    }
    let mut family = MetricFamily::default();
    family.set_name(name.into());
    family.set_help(help.into());
    family.set_field_type(kind);
    family.set_metric(metrics);
    Some(family)
}
