//! Kernel memory that memory cgroups hold, buffers of sockets included, which cgroup v1 counts by themselves.

use std::{fs, path::Path};

/// Where the memory controller may be, and what it calls usage, anonymous memory, page cache and reclaimable
/// slab of a group and all below it.
const HIERARCHIES: [(&str, &str, [&str; 3]); 2] = [
    ("/sys/fs/cgroup/memory", "memory.usage_in_bytes", ["total_rss", "total_cache", ""]),
    ("/sys/fs/cgroup", "memory.current", ["anon", "file", "slab_reclaimable"]),
];

/// In bytes, in all groups below the root together: the root does not say what it holds. 0 where nothing can
/// be read.
pub(super) fn read() -> i64 {
    HIERARCHIES.iter().map(|(root, usage, other)| below(Path::new(root), usage, other)).sum()
}

fn below(root: &Path, usage: &str, other: &[&str]) -> i64 {
    // Groups come and go while this reads.
    let groups = fs::read_dir(root).into_iter().flatten().flatten();
    groups.filter_map(|group| held(&group.path(), usage, other)).sum()
}

/// What one group holds that is not of the other classes.
fn held(group: &Path, usage: &str, other: &[&str]) -> Option<i64> {
    let usage: i64 = fs::read_to_string(group.join(usage)).ok()?.trim().parse().ok()?;
    let stat = fs::read_to_string(group.join("memory.stat")).ok()?;
    let lines = stat.lines().filter_map(|line| line.split_once(' '));
    let known = lines.filter(|(name, _)| other.contains(name));
    let known: i64 = known.filter_map(|(_, value)| value.parse::<i64>().ok()).sum();
    let sockets = fs::read_to_string(group.join("memory.kmem.tcp.usage_in_bytes"));
    let sockets: i64 = sockets.ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default();
    Some((usage - known).max(0) + sockets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scratch;

    #[test]
    fn what_is_in_no_other_class_is_kernel_memory() {
        let root = Scratch::new("groups");
        for (name, usage) in [("a", 1000), ("b", 300)] {
            fs::create_dir(root.join(name)).unwrap();
            fs::write(root.join(name).join("memory.current"), format!("{usage}\n")).unwrap();
            let stat = "anon 100\nfile 40\nkernel 900\nslab_reclaimable 30\nfile_mapped 7\n";
            fs::write(root.join(name).join("memory.stat"), stat).unwrap();
        }
        fs::create_dir(root.join("gone")).unwrap();
        let (_, usage, other) = HIERARCHIES[1];
        assert_eq!(below(&root, usage, &other), 830 + 130);
    }
}
