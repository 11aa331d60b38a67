//! What the kernel counts of the disk below a folder.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use anyhow::{Context, ensure};
use nix::sys::{
    stat::{major, minor},
    statfs::{TMPFS_MAGIC, statfs},
};

/// How often the disk was told to write down what it has, since the machine was booted; `None` where
/// the folder is not directly on a disk, or the disk does not count that. A folder in memory is an
/// error: nothing is durable there.
pub(crate) fn flushes(folder: &Path) -> anyhow::Result<Option<u64>> {
    let told = || format!("the disk of {} cannot be told", folder.display());
    let kind = statfs(folder).with_context(told)?.filesystem_type();
    ensure!(kind != TMPFS_MAGIC, "{} is in memory: nothing is durable there", folder.display());
    let device = fs::metadata(folder).with_context(told)?.dev();
    let (major, minor) = (major(device).to_string(), minor(device).to_string());
    let table = fs::read_to_string("/proc/diskstats").context("/proc/diskstats cannot be read")?;
    let line = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let line = line.into_iter().find(|fields| fields.starts_with(&[&major, &minor]));
    // Field 16 of the statistics, behind two numbers and the name.
    let flushes = line.and_then(|fields| fields.get(18).map(|count| count.parse()));
    flushes.transpose().context("a disk's count of flushes is no number")
}
