//! What the service may ask the launcher for. Pure, so that it can be tried with whatever bytes make.

use std::collections::HashMap;

use cloister_api::Bounds;

use crate::{
    cgroup::CPU_PERIOD_US,
    error::{Fault, Step},
    wire::{CellId, Sizes},
};

/// The kernel counts sizes of files in signed numbers.
const MAX_DISK: u64 = i64::MAX as u64;

/// What holds for every cell of this launcher.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The contract's own maxima, narrowed to this machine.
    pub(crate) max: Bounds,
    pub(crate) network_host: bool,
    pub(crate) max_cells: usize,
}

/// A cell that the service asks for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) cell: CellId,
    pub(crate) sizes: Sizes,
    pub(crate) host_network: bool,
    pub(crate) stdio: bool,
    /// How many descriptors came with the request, and whether none was lost on the way.
    pub(crate) descriptors: usize,
    pub(crate) whole: bool,
}

impl Rules {
    /// The launcher does not trust the service: a request that no job could cause is refused.
    pub(crate) fn judge<C>(&self, asked: &Asked, cells: &HashMap<CellId, C>) -> Result<(), Fault> {
        let descriptors = if asked.stdio { 3 } else { 0 };
        let sound = asked.whole
            && asked.descriptors == descriptors
            && !cells.contains_key(&asked.cell)
            && cells.len() < self.max_cells
            && (self.network_host || !asked.host_network)
            && self.allow(&asked.sizes);
        if sound { Ok(()) } else { Err(Fault { step: Step::Refuse, errno: libc::EPERM }) }
    }

    fn allow(&self, sizes: &Sizes) -> bool {
        (1000..=self.max_quota_us()).contains(&sizes.cpu_quota_us)
            && (1 << 20..=self.max.memory.0).contains(&sizes.memory)
            && (1..=self.max.pids).contains(&sizes.pids)
            && (4096..=MAX_DISK).contains(&sizes.disk)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a machine has few cores"
    )]
    fn max_quota_us(&self) -> u64 {
        (self.max.cpus * CPU_PERIOD_US as f64).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use cloister_api::ByteSize;

    use super::*;

    fn rules() -> Rules {
        let max = Bounds { cpus: 2.0, memory: ByteSize::mib(1024), ..Bounds::default() };
        Rules { max, network_host: false, max_cells: 2 }
    }

    fn asked() -> Asked {
        let sizes =
            Sizes { cpu_quota_us: 200_000, memory: 1 << 30, pids: (1 << 22) - 1, disk: 4096 };
        Asked { cell: 7, sizes, host_network: false, stdio: false, descriptors: 0, whole: true }
    }

    fn refused(change: impl FnOnce(&mut Asked)) -> bool {
        let mut asked = asked();
        change(&mut asked);
        rules().judge(&asked, &HashMap::from([(1, "a cell")])).is_err()
    }

    #[test]
    fn what_a_job_could_cause_is_done() {
        assert!(!refused(|_| {}));
        assert!(!refused(|asked| (asked.stdio, asked.descriptors) = (true, 3)));
        assert!(!refused(|asked| asked.sizes.disk = 1 << 44));
        assert!(!refused(|asked| asked.sizes.cpu_quota_us = 1000));
    }

    #[test]
    fn what_no_job_could_cause_is_refused() {
        assert!(refused(|asked| asked.cell = 1), "an id in use");
        assert!(refused(|asked| asked.host_network = true), "the host's network");
        assert!(refused(|asked| asked.whole = false), "a part of a packet");
    }

    #[test]
    fn descriptors_are_three_or_none() {
        for (stdio, descriptors) in [(true, 0), (true, 2), (true, 4), (false, 1), (false, 3)] {
            assert!(refused(|asked| (asked.stdio, asked.descriptors) = (stdio, descriptors)));
        }
    }

    #[test]
    fn sizes_end_where_the_machine_does() {
        for (at_least, at_most, field) in [
            (1000, 200_000, (|sizes| &mut sizes.cpu_quota_us) as fn(&mut Sizes) -> &mut u64),
            (1 << 20, 1 << 30, |sizes| &mut sizes.memory),
            (1, (1 << 22) - 1, |sizes| &mut sizes.pids),
            (4096, MAX_DISK, |sizes| &mut sizes.disk),
        ] {
            for bad in [0, at_least - 1, at_most + 1, u64::MAX] {
                assert!(refused(|asked| *field(&mut asked.sizes) = bad), "{bad}");
            }
            for good in [at_least, at_most] {
                assert!(!refused(|asked| *field(&mut asked.sizes) = good), "{good}");
            }
        }
    }

    #[test]
    fn there_are_never_more_cells_than_allowed() {
        let full = HashMap::from([(1, "a cell"), (2, "another")]);
        assert!(rules().judge(&asked(), &full).is_err());
    }
}
