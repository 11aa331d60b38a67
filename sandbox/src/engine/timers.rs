//! One timerfd for all deadlines of all cells, always set for the earliest: no tick, and no wake-up
//! when nothing is due.

use std::collections::{BTreeSet, HashMap};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};

use crate::{sys::monotonic_ns, wire::CellId};

/// What a timer is for. A cell has at most one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Alarm {
    /// A cell that does not come up.
    Launch,
    /// The job's wall-clock timeout.
    Deadline,
    /// The earliest moment at which its CPU time can be used up.
    CpuTime,
    /// When to look again whether a shortage of memory has killed somebody (cgroup v1).
    Shortage,
    /// A cell whose job has ended, and that does not go.
    Leave,
    /// When to make cells ahead, and when to look which of them nobody needs; under no cell's number.
    Refill,
    Rest,
}

impl Alarm {
    const OF_A_CELL: [Self; 5] =
        [Self::Launch, Self::Deadline, Self::CpuTime, Self::Shortage, Self::Leave];
}

/// Deadlines in `CLOCK_MONOTONIC` nanoseconds.
pub(crate) struct Timers {
    pub(crate) fd: TimerFd,
    due: BTreeSet<(u64, CellId, Alarm)>,
    set: HashMap<(CellId, Alarm), u64>,
    /// What the timerfd is set for.
    armed: Option<u64>,
}

impl Timers {
    pub(crate) fn new() -> nix::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let fd = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        Ok(Self { fd, due: BTreeSet::new(), set: HashMap::new(), armed: None })
    }

    /// Sets an alarm, or moves it.
    pub(crate) fn set(&mut self, cell: CellId, alarm: Alarm, at: u64) {
        if let Some(before) = self.set.insert((cell, alarm), at) {
            self.due.remove(&(before, cell, alarm));
        }
        self.due.insert((at, cell, alarm));
    }

    /// Whether an alarm is set.
    pub(crate) fn is_set(&self, cell: CellId, alarm: Alarm) -> bool {
        self.set.contains_key(&(cell, alarm))
    }

    /// Takes one alarm of a cell back.
    pub(crate) fn unset(&mut self, cell: CellId, alarm: Alarm) {
        if let Some(at) = self.set.remove(&(cell, alarm)) {
            self.due.remove(&(at, cell, alarm));
        }
    }

    /// Takes all alarms of a cell back.
    pub(crate) fn clear(&mut self, cell: CellId) {
        for alarm in Alarm::OF_A_CELL {
            self.unset(cell, alarm);
        }
    }

    /// The next alarm that is due; it is no longer set.
    pub(crate) fn next_due(&mut self) -> Option<(CellId, Alarm)> {
        let (at, cell, alarm) = *self.due.first()?;
        if at > monotonic_ns() {
            return None;
        }
        self.unset(cell, alarm);
        Some((cell, alarm))
    }

    /// Sets the timerfd for the earliest alarm. To be called before each wait.
    pub(crate) fn arm(&mut self) -> nix::Result<()> {
        let earliest = self.due.first().map(|(at, ..)| *at);
        if earliest == self.armed {
            return Ok(());
        }
        self.armed = earliest;
        match earliest {
            None => self.fd.unset(),
            Some(at) => {
                // 0 would mean "never".
                let at = i64::try_from(at.max(1)).unwrap_or(i64::MAX);
                let at = TimeSpec::new(at / 1_000_000_000, at % 1_000_000_000);
                self.fd.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
            }
        }
    }

    /// Takes note that the timerfd has fired.
    pub(crate) fn fired(&mut self) {
        self.armed = None;
        // Disarming also makes it unreadable.
        let _ = self.fd.unset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_come_in_order_and_once() {
        let mut timers = Timers::new().unwrap();
        timers.set(1, Alarm::Deadline, 20);
        timers.set(2, Alarm::Deadline, 10);
        timers.set(1, Alarm::Deadline, 5);
        timers.set(3, Alarm::CpuTime, u64::MAX);
        assert_eq!(timers.next_due(), Some((1, Alarm::Deadline)));
        assert_eq!(timers.next_due(), Some((2, Alarm::Deadline)));
        assert_eq!(timers.next_due(), None);
        timers.clear(3);
        assert!(timers.due.is_empty() && timers.set.is_empty());
    }
}
