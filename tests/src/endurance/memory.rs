//! The memory of a process.

use std::fs;

use nix::unistd::Pid;

/// From `smaps_rollup`, which counts exactly; `VmRSS` of `status` may be off by some pages for each
/// processor (proc(5)). In KiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// Resident.
    pub(super) rss: i64,
    /// Resident, shared pages divided by those who share them.
    pub(super) pss: i64,
    /// Resident and not of a file: heap and stacks.
    pub(super) anonymous: i64,
}

impl Memory {
    pub(super) fn of(pid: Pid) -> Self {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
            .expect("the memory of a living process can be read");
        let value = |name| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let word = line.and_then(|rest| rest.split_ascii_whitespace().next());
            word.and_then(|word| word.parse().ok()).expect("smaps_rollup has what it is known for")
        };
        Self { rss: value("Rss:"), pss: value("Pss:"), anonymous: value("Anonymous:") }
    }

    /// Its parts, by name.
    pub(super) fn parts(self) -> [(&'static str, i64); 3] {
        [("resident", self.rss), ("proportional", self.pss), ("anonymous", self.anonymous)]
    }
}
