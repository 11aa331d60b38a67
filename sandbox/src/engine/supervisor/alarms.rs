//! What is done when a time is over: a job's, its CPU's, or our patience.

use std::time::Duration;

use super::{Source, Supervisor};
use crate::{
    cgroup::Shortage,
    engine::{timers::Alarm, verdict::Cause},
    error::{Fault, Step},
    sys::monotonic_ns,
    wire::CellId,
};

/// A cell takes milliseconds to come up; on a machine that is out of breath, a little more.
pub(super) const LAUNCH_PATIENCE: Duration = Duration::from_secs(20);
/// The least time between two readings of the CPU time used.
const CPU_READING: Duration = Duration::from_millis(10);
/// How long a kill is looked for after a shortage was announced (cgroup v1), and how soon first.
const SHORTAGE_PATIENCE: Duration = Duration::from_secs(10);
const SHORTAGE_READING: Duration = Duration::from_millis(1);

impl Supervisor {
    /// Does what is due.
    pub(super) fn ring(&mut self, id: CellId, alarm: Alarm) {
        match alarm {
            Alarm::Launch => self.give_up(id),
            Alarm::Deadline => self.kill(id, Cause::Timeout),
            Alarm::CpuTime => self.watch_cpu_time(id),
            Alarm::Shortage => self.look_for_shortage(id),
            Alarm::Leave => self.hasten(id),
            Alarm::Refill => self.refill(),
            Alarm::Rest => self.rest(),
        }
    }

    /// A cell did not come up in time.
    fn give_up(&mut self, id: CellId) {
        // It may have come up a moment ago.
        self.hear_cell(id, Source::Control);
        match self.cells.get(&id) {
            Some(cell) if cell.deadline().is_some() => {}
            Some(cell) if cell.handles.is_some() => self.kill(id, Cause::Stuck),
            Some(_) => {
                let fault = Fault { step: Step::Release, errno: libc::ETIMEDOUT };
                self.never_came(id, false, fault);
            }
            // It has, and its job has ended.
            None => {}
        }
    }

    /// Kills the job when its CPU time is used up, or sets the timer for the earliest moment at which
    /// it can be: all that is left, used on as many cores as it may have.
    pub(super) fn watch_cpu_time(&mut self, id: CellId) {
        let Some(cell) = self.cells.get(&id) else {
            return;
        };
        let (Some(limit), Some(handles)) = (cell.task.limits.cpu_time, &cell.handles) else {
            return;
        };
        if !handles.meter.counts_cpu() {
            return;
        }
        // What can't be read now is read again: it is never taken for nothing used.
        let used = handles.meter.cpu_us().map(Duration::from_micros);
        let left = used.map(|used| limit.0.saturating_sub(used));
        if left.is_some_and(|left| left.is_zero()) {
            self.kill(id, Cause::CpuTime);
        } else {
            let pace = cell.task.limits.cpus.min(self.cores);
            let earliest = left.unwrap_or_default().div_f64(pace);
            self.timers.set(id, Alarm::CpuTime, after(earliest.max(CPU_READING)));
        }
    }

    /// cgroup v1 kills one process where v2 kills the group: once a kill is counted, the rest
    /// follows. The kernel announces a shortage before it counts the kill, by some milliseconds or, if
    /// many run short at once, by more: it is looked for at growing intervals.
    pub(super) fn look_for_shortage(&mut self, id: CellId) {
        let Some(cell) = self.cells.get(&id) else { return };
        let Some(age) = cell.shortage_age() else { return };
        match cell.shortage() {
            Shortage::None if age < SHORTAGE_PATIENCE => {
                self.timers.set(id, Alarm::Shortage, after((age / 4).max(SHORTAGE_READING)));
            }
            // It was met by giving memory back.
            Shortage::None => {}
            // Found only when its time is over, as on a machine where the engine itself has to wait: if
            // the command had ended of it before, that is what will be told.
            _ if cell.deadline().is_some_and(|deadline| deadline < monotonic_ns()) => {
                self.kill(id, Cause::Timeout);
            }
            shortage => self.kill(id, Cause::Shortage(shortage)),
        }
    }
}

/// That long from now, `CLOCK_MONOTONIC` nanoseconds.
pub(super) fn after(duration: Duration) -> u64 {
    monotonic_ns().saturating_add(nanoseconds(duration))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
