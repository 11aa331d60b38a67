//! A meter of the host: kernel memory that a job makes the kernel hold, and the host's counters.
//!
//! `/proc/meminfo` has no class for raw pages, such as the tables of poll(2) or the data of socket buffers. So
//! the meter subtracts: *kernel memory* is all memory that is neither free, nor page cache, nor anonymous
//! memory of a process, nor reclaimable slab. What is left is unreclaimable slab, stacks, page tables, per-CPU
//! memory, vmalloc and raw pages. Two corrections make it quiet:
//!
//! - Pages on the per-CPU free lists are free, although `MemFree` does not count them (`/proc/zoneinfo`).
//! - Of kernel memory, memory cgroups hold a part: usage less anonymous memory, page cache and (cgroup v2)
//!   reclaimable slab. The rest is *uncharged*.
//!
//! On cgroup v1 a group does not tell its reclaimable slab apart, so that uncharged memory is read too low by
//! what jobs have of it: at most their limit. The attack suite therefore compares kernel memory, charged or not,
//! with the limit, which charged memory cannot exceed.
//!
//! - [`Reading`]: one look at the host.
//! - [`Watch`]: looks at it repeatedly while something runs, and keeps the [`Peak`].

mod charged;
mod counters;
mod memory;
mod watch;

pub use self::{
    counters::{Counters, locks},
    memory::Memory,
    watch::{Growth, INTERVAL, Peak, Recent, Watch},
};

/// What the host has at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Kernel memory, in bytes, by the formula above; and some of its parts.
    pub memory: Memory,
    /// What of it memory cgroups hold, in bytes; 0 where this process cannot read them.
    pub charged: i64,
    /// Tables of the kernel that are the whole host's.
    pub counters: Counters,
}

impl Reading {
    /// Looks at the host. It takes about 0.3 ms.
    pub fn take() -> anyhow::Result<Self> {
        Ok(Self { memory: Memory::read()?, charged: charged::read(), counters: Counters::read()? })
    }

    /// Kernel memory that no memory cgroup holds, in bytes.
    pub fn uncharged(&self) -> i64 {
        self.memory.kernel - self.charged
    }
}
