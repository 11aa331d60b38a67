//! Counting what a cell could leave behind: cgroups, mounts, processes, descriptors.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::unistd::Pid;

/// Taken by tests that count what is on the whole machine: one at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Folders in every cgroup hierarchy whose name contains `part`, with all below them.
pub fn cgroups(part: &str) -> Vec<String> {
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), 0, &mut |path| {
        if path.to_string_lossy().contains(part) {
            found.push(path.display().to_string());
        }
    });
    found
}

/// cgroups below those that a launcher holds open and has made: whatever runs beside it on this
/// machine does not count.
fn cells(launcher: Pid) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{launcher}/fd")).into_iter().flatten().flatten();
    let links = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    let own = links.filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cloister-"))
    });
    let mut count = 0;
    for folder in own {
        walk(&folder, 0, &mut |_| count += 1);
    }
    count
}

fn walk(folder: &Path, depth: usize, visit: &mut impl FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if depth < 8 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            visit(&entry.path());
            walk(&entry.path(), depth + 1, visit);
        }
    }
}

/// What a service and its launcher hold, and what exists of theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census(BTreeMap<&'static str, usize>);

impl Census {
    /// Counts now.
    pub fn of(service: Pid, launcher: Pid) -> Self {
        Self(BTreeMap::from([
            ("cgroups of cells", cells(launcher)),
            ("mounts of this machine", lines("/proc/self/mountinfo")),
            ("mounts of the launcher", lines(&format!("/proc/{launcher}/mountinfo"))),
            ("descriptors of the launcher", descriptors(launcher)),
            (
                "descriptors of the service, but for its store's",
                descriptors(service).saturating_sub(store_files(service)),
            ),
            ("children of the launcher", children(launcher)),
        ]))
    }

    /// The census once nothing has changed for so long, within two minutes at most: what was released
    /// is taken away a moment later.
    pub fn settled(service: Pid, launcher: Pid, still: Duration) -> Self {
        let until = Instant::now() + Duration::from_secs(120);
        let mut since = Instant::now();
        let mut last = Self::of(service, launcher);
        while since.elapsed() < still && Instant::now() < until {
            thread::sleep(Duration::from_millis(50));
            let now = Self::of(service, launcher);
            if now != last {
                since = Instant::now();
                last = now;
            }
        }
        last
    }

    /// Whether the count comes to be `expected` within `patience`, and how it is then.
    pub fn comes_to(
        expected: &Self,
        service: Pid,
        launcher: Pid,
        patience: Duration,
    ) -> (bool, Self) {
        let until = Instant::now() + patience;
        loop {
            let now = Self::of(service, launcher);
            if now == *expected || Instant::now() > until {
                return (now == *expected, now);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What was counted, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.0.iter().map(|(name, count)| (*name, *count))
    }
}

/// Descriptors that a process has open.
pub fn descriptors(pid: Pid) -> usize {
    entries(&format!("/proc/{pid}/fd"))
}

/// Of those, the files of a coordinator's store. It opens connections when several read at once, and
/// keeps them: how many there are, up to a bound of its own, is a matter of chance.
pub fn store_files(pid: Pid) -> usize {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let names = links.filter_map(|entry| fs::read_link(entry.path()).ok());
    names.filter(|path| path.to_string_lossy().contains("/cloister.db")).count()
}

fn lines(path: &str) -> usize {
    fs::read_to_string(path).unwrap_or_default().lines().count()
}

fn entries(path: &str) -> usize {
    fs::read_dir(path).map_or(0, Iterator::count)
}

/// Children of a process, zombies included.
pub fn children(pid: Pid) -> usize {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_ascii_whitespace()
        .count()
}

/// Processes on this machine whose command line contains `part`.
pub fn processes(part: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc is mounted").flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(part)
            && entry.file_name().to_str() != Some(&std::process::id().to_string())
        {
            found.push(format!("{} {command}", entry.file_name().display()));
        }
    }
    found
}

/// Waits until no process's command line contains `part`, for `patience` at most; whether it came to
/// that.
pub fn gone(part: &str, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while !processes(part).is_empty() {
        if Instant::now() > until {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}
