//! How much memory of the host no class of `/proc/meminfo` accounts for. Pure.

/// One look at the host, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Level {
    /// Memory that is neither free, nor cache, nor a program's, nor what is charged wherever a job causes it.
    pub(super) residue: u64,
    /// The part of it that is slab.
    pub(super) slab: u64,
}

/// What is not residue. Page tables and kernel stacks are charged to the cgroup of their process. Each of
/// these is absent on some kernels.
const ACCOUNTED: [&str; 12] = [
    "MemFree",
    "Buffers",
    "Cached",
    "SwapCached",
    "AnonPages",
    "KReclaimable",
    "KernelStack",
    "ShadowCallStack",
    "PageTables",
    "SecPageTables",
    "Zswap",
    "Hugetlb",
];

/// The level by the texts of `/proc/meminfo` and `/proc/zoneinfo`.
///
/// Pages that wait on a CPU's own list of free pages are in no class of meminfo, and may be hundreds of
/// megabytes: what is allocated from there would stay unseen. zoneinfo counts them.
pub(super) fn level(meminfo: &str, zoneinfo: &str, page_size: u64) -> Option<Level> {
    let bytes = |name| kib(meminfo, name).map(|kib| kib * 1024);
    let accounted: u64 = ACCOUNTED.iter().filter_map(|name| bytes(name)).sum();
    let on_lists = pages_on_lists(zoneinfo)? * page_size;
    bytes("MemFree")?;
    Some(Level {
        residue: bytes("MemTotal")?.saturating_sub(accounted).saturating_sub(on_lists),
        slab: bytes("SUnreclaim")?,
    })
}

fn kib(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().split(' ').next()?.parse().ok()
}

/// The sum of all `count: N` below `pagesets`; none where there is not one.
fn pages_on_lists(zoneinfo: &str) -> Option<u64> {
    zoneinfo
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("count:")?.trim().parse::<u64>().ok())
        .reduce(|sum, count| sum + count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       10000 kB\nMemFree:         4000 kB\nMemAvailable:    9000 kB\n\
        Buffers:          100 kB\nCached:          2000 kB\nSwapCached:         0 kB\nAnonPages:        900 kB\n\
        Slab:             700 kB\nKReclaimable:     300 kB\nSReclaimable:     300 kB\nSUnreclaim:       400 kB\n\
        KernelStack:      100 kB\nPageTables:       100 kB\n";
    const ZONEINFO: &str = "Node 0, zone   Normal\n  pages free     1000\n  pagesets\n    cpu: 0\n              \
        count:    10\n              high:     17\n    cpu: 1\n              count:    15\n";

    #[test]
    fn what_no_class_accounts_for_is_the_residue() {
        let level = level(MEMINFO, ZONEINFO, 4096).unwrap();
        assert_eq!(level, Level { residue: (2500 - 100) * 1024, slab: 400 * 1024 });
    }

    #[test]
    fn without_its_numbers_there_is_no_level() {
        assert_eq!(level(MEMINFO, "", 4096), None);
        assert_eq!(level("MemTotal: 1 kB\nSUnreclaim: 1 kB\n", ZONEINFO, 4096), None);
        assert_eq!(level("", ZONEINFO, 4096), None);
    }
}
