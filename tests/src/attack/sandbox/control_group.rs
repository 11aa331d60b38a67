//! A control group of the harness: the limits that a caller sets for programs that have none, or the parent of the
//! groups that a program makes.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use cloister_api::Limits;
use uuid::Uuid;

/// Where the two controllers may be: cgroup v1, or the unified hierarchy of v2.
const V1: [&str; 2] = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids"];
const V2: &str = "/sys/fs/cgroup";
/// For how long processes that were killed may take to leave.
const GRACE: Duration = Duration::from_secs(2);

/// With the memory and pids controllers; removed when dropped, and all groups below it.
pub(super) struct ControlGroup {
    name: String,
    v2: bool,
    folders: Vec<PathBuf>,
}

impl ControlGroup {
    /// Makes one with these limits, or with none as a parent of others.
    pub(super) fn new(limits: Option<&Limits>) -> anyhow::Result<Self> {
        let name = format!("attacks-{}", Uuid::new_v4());
        let v2 = !Path::new(V1[0]).is_dir();
        let roots = if v2 { vec![V2] } else { V1.to_vec() };
        let folders = roots.iter().map(|root| Path::new(root).join(&name)).collect();
        let group = Self { name, v2, folders };
        if v2 {
            write(&Path::new(V2).join("cgroup.subtree_control"), "+memory +pids")?;
        }
        for folder in &group.folders {
            fs::create_dir(folder)
                .with_context(|| format!("making the control group {} failed", folder.display()))?;
        }
        match limits {
            Some(limits) => group.limit(limits)?,
            None if v2 => write(&group.folders[0].join("cgroup.subtree_control"), "+memory +pids")?,
            None => {}
        }
        Ok(group)
    }

    fn limit(&self, limits: &Limits) -> anyhow::Result<()> {
        let (first, last) = (&self.folders[0], &self.folders[self.folders.len() - 1]);
        let memory = limits.memory.0.to_string();
        if self.v2 {
            write(&first.join("memory.max"), &memory)?;
            write(&first.join("memory.swap.max"), "0")?;
        } else {
            write(&first.join("memory.limit_in_bytes"), &memory)?;
            write(&first.join("memory.memsw.limit_in_bytes"), &memory)?;
        }
        write(&last.join("pids.max"), &limits.pids.to_string())
    }

    /// Its name below the root of each hierarchy.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is on the unified hierarchy.
    pub(super) fn is_v2(&self) -> bool {
        self.v2
    }

    /// Its folder on each hierarchy.
    pub(super) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// The words of a program that enters it, and then runs what follows.
    pub(super) fn enter(&self) -> Vec<OsString> {
        let enter =
            "until [ \"$1\" = -- ]; do echo 0 >\"$1\" || exit 125; shift; done; shift; exec \"$@\"";
        let mut line: Vec<OsString> = ["/bin/sh", "-c", enter, "sh"].map(Into::into).into();
        line.extend(self.folders.iter().map(|folder| folder.join("cgroup.procs").into()));
        line.push("--".into());
        line
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        for folder in &self.folders {
            if let Err(error) = remove(folder) {
                eprintln!("removing the control group {} failed: {error}", folder.display());
            }
        }
    }
}

fn write(file: &Path, value: &str) -> anyhow::Result<()> {
    fs::write(file, value).with_context(|| format!("writing {value} to {} failed", file.display()))
}

/// Removes a group and those below it.
fn remove(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    let until = Instant::now() + GRACE;
    loop {
        match fs::remove_dir(folder) {
            // Ended processes stay in it until they are waited for; nothing tells of that on cgroup v1.
            Err(error)
                if error.raw_os_error() == Some(nix::libc::EBUSY) && Instant::now() < until =>
            {
                thread::sleep(Duration::from_millis(10));
            }
            ended => return ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_api::ByteSize;
    use std::process::Command;

    #[test]
    fn a_program_enters_a_group_with_limits_that_goes_with_it() {
        let limits = Limits { memory: ByteSize::mib(64), pids: 7, ..Limits::default() };
        let group = ControlGroup::new(Some(&limits)).unwrap();
        let mut line = group.enter();
        line.extend(["cat", "/proc/self/cgroup"].map(Into::into));
        let output = Command::new(&line[0]).args(&line[1..]).output().unwrap();
        let groups = String::from_utf8(output.stdout).unwrap();
        let folders = group.folders().to_vec();
        assert_eq!(groups.matches(group.name()).count(), folders.len(), "{groups}");
        let file = if group.is_v2() { "memory.max" } else { "memory.limit_in_bytes" };
        let limit = fs::read_to_string(folders[0].join(file)).unwrap();
        assert_eq!(limit.trim(), (64 << 20).to_string());
        let pids = fs::read_to_string(folders.last().unwrap().join("pids.max")).unwrap();
        assert_eq!(pids.trim(), "7");
        fs::create_dir(folders[0].join("below")).unwrap();
        drop(group);
        assert!(folders.iter().all(|folder| !folder.exists()));
    }
}
