//! cgroups of a launcher's cells.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use nix::unistd::Pid;

/// Those below the ones that a launcher has open.
pub(crate) fn cells(launcher: Pid) -> anyhow::Result<Vec<PathBuf>> {
    let folder = format!("/proc/{launcher}/fd");
    let entries = fs::read_dir(&folder).with_context(|| format!("{folder} cannot be read"))?;
    // Those that were closed meanwhile lead nowhere.
    let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let own: BTreeSet<PathBuf> = links
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cloister-"))
        })
        .collect();
    ensure!(!own.is_empty(), "the launcher has no cgroup open");
    let mut found = Vec::new();
    for folder in own {
        below(&folder, &mut found);
    }
    Ok(found)
}

fn below(folder: &Path, found: &mut Vec<PathBuf>) {
    // One that is being taken away has nothing below it.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below(&entry.path(), found);
            found.push(entry.path());
        }
    }
}

/// The kernel's memory for all cells of a launcher, in bytes: stacks, page tables, and what the kernel
/// itself keeps of them.
pub(crate) fn kernel_bytes(launcher: Pid) -> anyhow::Result<u64> {
    let mut sum = None;
    for cell in cells(launcher)? {
        if let Some(bytes) = kernel_of(&cell)? {
            sum = Some(sum.unwrap_or(0) + bytes);
        }
    }
    // Where no cell waits there is none to count.
    Ok(sum.unwrap_or(0))
}

/// `None` where the hierarchy does not count memory.
fn kernel_of(cell: &Path) -> anyhow::Result<Option<u64>> {
    let (v1, v2) = (cell.join("memory.kmem.usage_in_bytes"), cell.join("memory.stat"));
    let told = |path: &Path| format!("{} cannot be read", path.display());
    if v1.exists() {
        let text = fs::read_to_string(&v1).with_context(|| told(&v1))?;
        return Ok(Some(text.trim().parse().with_context(|| told(&v1))?));
    }
    if !v2.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&v2).with_context(|| told(&v2))?;
    let value = text.lines().find_map(|line| line.strip_prefix("kernel "));
    let value =
        value.with_context(|| format!("{} does not tell the kernel's part", v2.display()))?;
    Ok(Some(value.parse().with_context(|| told(&v2))?))
}
