//! Who is to be ended for kernel memory, and when to look again. Pure.

use cloister_api::ByteSize;

use super::locks::LOCK_SIZE;
use crate::wire::CellId;

const MIB: u64 = 1 << 20;
/// No job is ended for less than this: ordinary programs hold some locks and sockets.
pub(super) const FLOOR: u64 = 16 * MIB;
/// The least growth after which it is looked again.
const MIN_STEP: u64 = 8 * MIB;
/// The most growth before the first look.
const MAX_FIRST: u64 = 256 * MIB;

/// What is known of one cell, at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    pub(super) cell: CellId,
    /// Its memory limit, bytes.
    pub(super) limit: u64,
    /// What its cgroup is charged with and could not give back, bytes.
    pub(super) charged: u64,
    pub(super) held: Held,
}

/// Kernel memory that is held for a job and that its limit does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// File locks.
    pub(crate) locks: u64,
    /// Bytes of sockets and in their queues.
    pub(crate) sockets: u64,
}

impl Held {
    pub(crate) fn bytes(self) -> u64 {
        self.locks * LOCK_SIZE + self.sockets
    }

    /// As part of a message.
    pub(crate) fn told(self) -> String {
        let locks = (self.locks > 0).then(|| format!("{} file locks", grouped(self.locks)));
        let sockets = self.sockets / MIB;
        let sockets = (sockets > 0).then(|| format!("{sockets} MiB of sockets"));
        [locks, sockets].into_iter().flatten().collect::<Vec<_>>().join(" and ")
    }

    /// Why a job with this memory limit was killed.
    pub(crate) fn message(self, limit: ByteSize) -> String {
        format!(
            "it held {} MiB of kernel memory that its limit of {limit} does not count: {}, and was killed",
            self.bytes() / MIB,
            self.told()
        )
    }
}

/// With commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Evidence {
    fn headroom(&self) -> u64 {
        self.limit.saturating_sub(self.charged)
    }

    /// Whether what is held for it is more than it may have.
    pub(super) fn exceeds(&self) -> bool {
        let held = self.held.bytes();
        held >= FLOOR && held > self.headroom()
    }
}

/// By how much the residue must have grown since the calm before anybody is looked for, given the least
/// memory limit of all running jobs: no job can hold more than all. A quarter, since the residue goes on
/// growing while it is looked.
pub(super) fn first_step(least_limit: u64) -> u64 {
    (least_limit / 4).clamp(FLOOR, MAX_FIRST)
}

/// By how much it must grow further after a look that ended nobody: a quarter of what the nearest to its limit
/// may still have.
pub(super) fn next_step(evidence: &[Evidence]) -> u64 {
    let left = |each: &Evidence| {
        let most = each.headroom().max(FLOOR);
        most.saturating_sub(each.held.bytes()) / 4
    };
    evidence.iter().map(left).min().unwrap_or(MAX_FIRST).clamp(MIN_STEP, MAX_FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(limit: u64, charged: u64, held: u64) -> Evidence {
        let held = Held { locks: held * MIB / LOCK_SIZE + 1, sockets: 0 };
        Evidence { cell: 1, limit: limit * MIB, charged: charged * MIB, held }
    }

    #[test]
    fn charged_and_held_together_are_limited() {
        assert!(!cell(64, 6, 57).exceeds());
        assert!(cell(64, 6, 58).exceeds());
        assert!(cell(64, 60, 16).exceeds());
    }

    #[test]
    fn nobody_is_ended_for_little() {
        assert!(!cell(64, 64, 15).exceeds(), "its cgroup sees to what is charged");
        assert!(!cell(1, 1, 15).exceeds());
        assert!(!cell(512, 512, 0).exceeds());
    }

    #[test]
    fn it_is_looked_again_before_somebody_can_have_passed_its_limit_by_much() {
        assert_eq!(first_step(MIB), FLOOR);
        assert_eq!(first_step(64 * MIB), 16 * MIB);
        assert_eq!(first_step(512 * MIB), 128 * MIB);
        assert_eq!(first_step(u64::MAX), 256 * MIB);
        assert_eq!(next_step(&[cell(512, 12, 300), cell(64, 4, 0)]) / MIB, 14);
        assert_eq!(next_step(&[cell(64, 6, 57)]), MIN_STEP);
        assert_eq!(next_step(&[]), MAX_FIRST);
    }

    #[test]
    fn the_message_says_what_was_held() {
        let held = Held { locks: 2_250_000, sockets: 0 };
        assert_eq!(
            held.message(ByteSize::mib(64)),
            "it held 411 MiB of kernel memory that its limit of 64MiB does not count: 2,250,000 file locks, \
             and was killed"
        );
        let both = Held { locks: 999, sockets: 3 * MIB };
        assert_eq!(both.told(), "999 file locks and 3 MiB of sockets");
    }
}
