//! Kernel memory, by subtraction from all memory.

use std::{fs, io::ErrorKind};

use anyhow::Context;

/// In bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All that is neither free, nor page cache, nor anonymous memory, nor reclaimable slab.
    pub kernel: i64,
    /// `SUnreclaim`: slab that is in use until it is freed.
    pub slab: i64,
    /// `VmallocUsed`, with the stacks of threads.
    pub vmalloc: i64,
    /// `Percpu`.
    pub percpu: i64,
    /// `PageTables` and `SecPageTables`.
    pub page_tables: i64,
    /// `KernelStack`.
    pub stacks: i64,
}

impl Memory {
    /// Reads it from `/proc/meminfo` and `/proc/zoneinfo`.
    pub fn read() -> anyhow::Result<Self> {
        let meminfo =
            fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo failed")?;
        let memory = Self::parse(&meminfo).context("/proc/meminfo is not understood")?;
        // Some containers hide it; the meter is then as noisy as the per-CPU lists are long.
        let zoneinfo = match fs::read_to_string("/proc/zoneinfo") {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read.context("reading /proc/zoneinfo failed")?,
        };
        Ok(Self { kernel: memory.kernel - per_cpu_free(&zoneinfo), ..memory })
    }

    /// By the text of `/proc/meminfo` alone; nothing if `MemTotal` or `MemFree` is missing.
    fn parse(meminfo: &str) -> Option<Self> {
        let field = |name: &str| -> Option<i64> {
            let rest =
                meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            let mut words = rest.split_ascii_whitespace();
            let number: i64 = words.next()?.parse().ok()?;
            Some(if words.next() == Some("kB") { number << 10 } else { number })
        };
        let of = |name| field(name).unwrap_or_default();
        let accounted = ["MemFree", "Buffers", "Cached", "SwapCached", "AnonPages", "Zswap"]
            .into_iter()
            .map(of)
            .sum::<i64>();
        // Linux 4.20 and later count further reclaimable memory with the slab.
        let reclaimable = field("KReclaimable").or_else(|| field("SReclaimable"))?;
        let huge = of("Hugetlb");
        field("MemFree")?;
        Some(Self {
            kernel: field("MemTotal")? - accounted - reclaimable - huge,
            slab: of("SUnreclaim"),
            vmalloc: of("VmallocUsed"),
            percpu: of("Percpu"),
            page_tables: of("PageTables") + of("SecPageTables"),
            stacks: of("KernelStack"),
        })
    }
}

/// Free pages on the lists of the CPUs, in bytes (`pagesets` of `/proc/zoneinfo`).
fn per_cpu_free(zoneinfo: &str) -> i64 {
    let counts = zoneinfo.lines().filter_map(|line| line.trim_start().strip_prefix("count:"));
    let pages: i64 = counts.filter_map(|count| count.trim().parse::<i64>().ok()).sum();
    pages * page_size()
}

fn page_size() -> i64 {
    use nix::unistd::{SysconfVar, sysconf};
    sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_class_accounts_for_is_kernel_memory() {
        let text = "MemTotal: 1000 kB\nMemFree: 400 kB\nBuffers: 10 kB\nCached: 200 kB\n\
                    AnonPages: 90 kB\nKReclaimable: 50 kB\nSUnreclaim: 30 kB\nPageTables: 7 kB\n\
                    SecPageTables: 1 kB\nHugetlb: 20 kB\nHugePages_Total: 5\n";
        let memory = Memory::parse(text).unwrap();
        assert_eq!(memory.kernel, 230 << 10);
        assert_eq!((memory.slab, memory.page_tables), (30 << 10, 8 << 10));
        assert_eq!(Memory::parse("MemTotal: 1000 kB\n"), None);
    }

    #[test]
    fn free_pages_of_cpus_are_counted() {
        let text = "  pagesets\n    cpu: 0\n              count:    3\n              high: 9\n\
                    \x20   cpu: 1\n              count:    4\n";
        assert_eq!(per_cpu_free(text), 7 * page_size());
        assert_eq!(per_cpu_free(""), 0);
    }
}
