//! Which processes are cells.

use std::fs;

use super::common::children;

/// The cells of a launcher: its children that are the first process of a namespace (`NSpid`,
/// proc_pid_status(5)).
pub(crate) fn cells(launcher: u32) -> Vec<u32> {
    let is_first = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        ids.and_then(|ids| ids.split_ascii_whitespace().last()) == Some("1")
    };
    children(launcher).into_iter().filter(is_first).collect()
}
