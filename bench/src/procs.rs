//! What the kernel tells of processes. A file that cannot be read is an error and never a 0.

use std::{collections::BTreeMap, fs, io, time::Duration};

use anyhow::{Context, anyhow};
use cloister_tests::cleanup::children;
use nix::{
    errno::Errno,
    unistd::{Pid, SysconfVar, sysconf},
};

/// A process and all below it.
pub(crate) fn tree(root: Pid) -> Vec<Pid> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children(*pid));
        next += 1;
    }
    found
}

/// Memory in KiB, pages that several processes share divided by their number.
pub(crate) fn pss_kib(pid: Pid) -> anyhow::Result<u64> {
    let text = read(pid, "smaps_rollup")?;
    field(&text, "Pss:").with_context(|| format!("the memory of process {pid} is not told"))
}

/// The same of several processes.
pub(crate) fn pss_of(pids: &[Pid]) -> anyhow::Result<u64> {
    pids.iter().map(|pid| pss_kib(*pid)).sum()
}

/// How a process is called, 15 bytes at most.
pub(crate) fn name(pid: Pid) -> anyhow::Result<String> {
    Ok(read(pid, "comm")?.trim_end().to_owned())
}

/// Whether a process waits for something.
pub(crate) fn waits(pid: Pid) -> anyhow::Result<bool> {
    Ok(stat(pid)?.first().is_some_and(|state| state == "S"))
}

/// CPU time of a process and of all below it that it has waited for. The kernel tells it in hundredths
/// of a second.
pub(crate) fn cpu(pid: Pid) -> anyhow::Result<Duration> {
    let fields = stat(pid)?;
    // utime, stime, cutime, cstime; the state is field 3 (proc(5)).
    let ticks = fields.get(11..15).context("a process's stat is shorter than it is known to be")?;
    let ticks = ticks.iter().map(|field| field.parse::<u64>());
    let ticks: u64 = ticks.sum::<Result<_, _>>().context("a CPU time is no number")?;
    let second = sysconf(SysconfVar::CLK_TCK).context("asking for the length of a tick failed")?;
    let second =
        second.and_then(|ticks| u64::try_from(ticks).ok()).context("ticks have no length")?;
    Ok(Duration::from_millis(ticks * 1000 / second))
}

/// How often each thread of these processes was given a processor, by thread. One that ends while they are
/// read is left out.
pub(crate) fn switches(pids: &[Pid]) -> anyhow::Result<BTreeMap<i32, u64>> {
    let mut all = BTreeMap::new();
    for pid in pids {
        let folder = format!("/proc/{pid}/task");
        for entry in fs::read_dir(&folder).with_context(|| format!("{folder} cannot be read"))? {
            let path = entry.with_context(|| format!("{folder} cannot be read"))?.path();
            let thread = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            let thread = thread.with_context(|| format!("{} is no thread", path.display()))?;
            let status = match fs::read_to_string(path.join("status")) {
                Ok(status) => status,
                Err(error) if has_ended(&error) => continue,
                Err(error) => {
                    let what = format!("the status of thread {thread} cannot be read");
                    return Err(error).context(what);
                }
            };
            let parts = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"];
            let parts = parts.map(|name| field(&status, name));
            let sum = parts.into_iter().sum::<Option<u64>>();
            all.insert(thread, sum.context("the switches of a thread are not told")?);
        }
    }
    Ok(all)
}

/// Whether a file of a thread's cannot be read because that has ended: its folder is gone, or was opened before.
fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ESRCH as i32)
}

/// Fields of `stat` from the state on: what is before may contain spaces.
fn stat(pid: Pid) -> anyhow::Result<Vec<String>> {
    let text = read(pid, "stat")?;
    let (_, rest) = text.rsplit_once(')').ok_or_else(|| anyhow!("{text:?} is no stat"))?;
    Ok(rest.split_ascii_whitespace().map(String::from).collect())
}

fn read(pid: Pid, file: &str) -> anyhow::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}"))
        .with_context(|| format!("{file} of process {pid} cannot be read"))
}

/// The number that follows a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_told_of() {
        let own = Pid::this();
        assert!(pss_kib(own).unwrap() > 100);
        assert!(!name(own).unwrap().is_empty());
        assert!(switches(&[own]).unwrap().len() > 1, "a test runs on a thread of its own");
        assert!(cpu(own).unwrap() < Duration::from_secs(60));
        assert_eq!(tree(own)[0], own);
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let none = Pid::from_raw(i32::MAX);
        assert!(pss_kib(none).is_err() && cpu(none).is_err() && switches(&[none]).is_err());
    }
}
