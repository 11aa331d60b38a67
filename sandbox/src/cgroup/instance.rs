//! This launcher's own folder in each hierarchy, and the removal of those that a dead one left.
//!
//! A folder is `cloister-` and a random number, and is locked (flock(2)) for as long as the launcher
//! lives. The lock, unlike a process id, says who is alive across pid namespaces and reboots.

use std::{
    fs,
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    path::Path,
    rc::Rc,
    thread,
    time::Duration,
};

use cloister_api::{ByteSize, Enforcement};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::fs::{FlockOperation, flock};

use super::{
    Role, Version,
    base::{Base, enable},
    files,
    hierarchy::{Hierarchy, mounted},
    remedy::{Cause, Place},
    scope::Scope,
    stats::Folder,
};
use crate::host::{holds, lacks};

const PREFIX: &str = "cloister-";

/// One hierarchy's folder of this launcher.
pub(crate) struct Instance {
    pub(crate) version: Version,
    pub(crate) roles: Vec<Role>,
    pub(crate) folder: OwnedFd,
    base: OwnedFd,
    name: String,
    /// The least of the memory limits from here up, bytes, where there is any.
    memory_above: Option<u64>,
    /// The same for processes.
    pids_above: Option<u64>,
    local_events: bool,
}

/// All of this launcher's folders.
pub(crate) struct Cgroups {
    instances: Vec<Rc<Instance>>,
    /// What jobs can have together.
    pub(crate) memory: ByteSize,
    /// Processes and threads that one job can have.
    pub(crate) pids: u64,
}

impl Cgroups {
    /// Finds what the host offers, makes and locks this launcher's folders, and removes dead ones'.
    /// Says of each limit whether it will hold. `scope` is what came of asking for a cgroup.
    pub(crate) fn set_up(scope: &Scope) -> (Self, Vec<Enforcement>) {
        let mut report = Vec::new();
        let hierarchies = mounted().unwrap_or_default();
        let name = format!("{PREFIX}{:08x}", rand::random::<u32>());
        let mut instances = Vec::new();
        let mut faults = Vec::new();
        for hierarchy in &hierarchies {
            let roles = roles_of(hierarchy);
            if roles.is_empty() {
                continue;
            }
            match Instance::make(hierarchy, &roles, &name) {
                Ok((instance, withheld)) => {
                    instances.push(Rc::new(instance));
                    faults.extend(withheld);
                }
                Err(fault) => faults.push(fault),
            }
        }
        let place = Place::here(scope);
        for role in [Role::Memory, Role::Cpu, Role::Pids] {
            let limit = role.controller().unwrap_or_default();
            let served = instances.iter().find(|i| i.roles.contains(&role));
            let fault = faults.iter().find(|fault| fault.roles.contains(&role));
            report.push(match (served, fault) {
                (Some(instance), _) => holds(limit, instance.version.to_string()),
                (None, Some(fault)) => lacks(
                    limit,
                    fault.told(scope),
                    place.remedy(fault.version, fault.cause),
                ),
                (None, None) => lacks(
                    limit,
                    format!("no mounted cgroup hierarchy has the {limit} controller"),
                    format!("mount cgroup v2 with the {limit} controller, or boot with cgroup_enable={limit}"),
                ),
            });
        }
        let counted = instances.iter().any(|i| i.roles.contains(&Role::Core));
        // On a hybrid host, what helps against v1 helps here too.
        let v1 = |h: &Hierarchy| h.version == Version::V1 && !roles_of(h).is_empty();
        let version = if hierarchies.iter().any(v1) { Version::V1 } else { Version::V2 };
        report.push(if counted {
            holds("cpu_time", Version::V2.to_string())
        } else {
            lacks(
                "cpu_time",
                "no v2 hierarchy counts CPU time; only each process alone is limited",
                place.remedy(version, Cause::Closed),
            )
        });
        let mut cgroups = Self { instances, memory: physical_memory(), pids: 0 };
        report.push(cgroups.swap_report());
        report.extend(cgroups.limit_all_jobs(&place));
        report.extend(cgroups.limit_all_processes(&place));
        (cgroups, report)
    }

    pub(crate) fn instances(&self) -> &[Rc<Instance>] {
        &self.instances
    }

    /// The folders, for a side without privileges to look into. Opened once more: what is open here
    /// carries the lock, which must not outlive this launcher.
    pub(crate) fn shown(&self) -> io::Result<Vec<(Folder, OwnedFd)>> {
        let shown = |instance: &Rc<Instance>| {
            let Instance { version, local_events, .. } = **instance;
            let folder = Folder { version, roles: instance.roles.clone(), local_events };
            Ok((folder, files::reopen_path(&instance.folder)?))
        };
        self.instances.iter().map(shown).collect()
    }

    fn serving(&self, role: Role) -> Option<&Instance> {
        self.instances.iter().find(|i| i.roles.contains(&role)).map(Rc::as_ref)
    }

    /// Whether a job could escape its memory limit into swap.
    fn swap_report(&self) -> Enforcement {
        let has_swap = fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1);
        let file = |version| match version {
            Version::V1 => "memory.memsw.limit_in_bytes",
            Version::V2 => "memory.swap.max",
        };
        match self.serving(Role::Memory) {
            Some(instance) if files::read(&instance.folder, file(instance.version)).is_ok() => {
                holds("swap", format!("{}, none is given to jobs", instance.version))
            }
            _ if !has_swap => holds("swap", "this host has none"),
            _ => lacks(
                "swap",
                "the kernel does not account swap",
                "boot with swapaccount=1, or swapoff -a",
            ),
        }
    }

    /// Bounds what all jobs can have together, so that they can't starve the service beside them:
    /// a tenth of the memory that this cgroup can have, 128 MiB at least but never more than half,
    /// stays out of their reach.
    fn limit_all_jobs(&mut self, place: &Place<'_>) -> Option<Enforcement> {
        let instance = self.serving(Role::Memory)?;
        let available =
            instance.memory_above.map_or(self.memory.0, |limit| limit.min(self.memory.0));
        let reserve = (available / 10).max(128 << 20);
        let jobs = available.saturating_sub(reserve).max(available / 2);
        let file = match instance.version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        let set = files::write(&instance.folder, file, &jobs);
        let version = instance.version;
        self.memory = ByteSize(jobs);
        Some(match set {
            Ok(()) => {
                holds("memory_reserve", format!("{version}, all jobs together have {jobs} bytes"))
            }
            Err(error) => lacks(
                "memory_reserve",
                format!("the memory of all jobs together cannot be limited: {error}"),
                place.remedy(version, Cause::Closed),
            ),
        })
    }

    /// Bounds the processes of all jobs together below what the kernel has ids for (`pid_max`) and is
    /// willing to have at all (`threads-max`), so that the host can always start one.
    fn limit_all_processes(&mut self, place: &Place<'_>) -> Option<Enforcement> {
        let host = processes_of_host();
        let instance = self.serving(Role::Pids);
        let above = instance.and_then(|instance| instance.pids_above);
        let jobs = processes_of_jobs(host, above);
        let set = instance.map(|i| (i.version, files::write(&i.folder, "pids.max", &jobs)));
        // PID 1 of its cell is one of them.
        self.pids = jobs - 1;
        let (version, set) = set?;
        Some(match set {
            Ok(()) => holds(
                "pids_reserve",
                format!("{version}, all jobs together have {jobs} processes and threads"),
            ),
            Err(error) => lacks(
                "pids_reserve",
                format!("the processes of all jobs together cannot be limited: {error}"),
                place.remedy(version, Cause::Closed),
            ),
        })
    }

    /// Removes this launcher's folders; every job's must be gone.
    pub(crate) fn remove(&self) {
        for instance in &self.instances {
            if let Err(error) = remove_tree(&instance.base, &instance.name) {
                tracing::warn!(%error, name = instance.name, "a cgroup could not be removed");
            }
        }
    }
}

/// What a hierarchy can serve. The v2 one is always the core, even where it has no controllers.
fn roles_of(hierarchy: &Hierarchy) -> Vec<Role> {
    let serves = |role: &Role| match role.controller() {
        Some(name) => hierarchy.controllers.iter().any(|c| c == name),
        None => hierarchy.version == Version::V2,
    };
    Role::ALL.into_iter().filter(serves).collect()
}

impl Instance {
    /// Makes it, for as many of these roles as its place can serve; the others come as a fault.
    fn make(
        hierarchy: &Hierarchy,
        roles: &[Role],
        name: &str,
    ) -> Result<(Self, Option<Fault>), Fault> {
        let version = hierarchy.version;
        let closed =
            |reason: String| Fault { roles: roles.to_vec(), version, cause: Cause::Closed, reason };
        let Base { path, roles: served, missing } = Base::find(hierarchy, roles).map_err(closed)?;
        let base = files::open_path(&path)
            .map_err(|e| closed(format!("{} cannot be opened: {e}", path.display())))?;
        remove_dead(&base, &path);
        let folder = make_locked(&base, name)
            .map_err(|e| closed(format!("no cgroup can be made in {}: {e}", path.display())))?;
        let memory_above = memory_above(version, &path, &hierarchy.top);
        let pids_above = least_above("pids.max", &path, &hierarchy.top);
        let instance = Self {
            version,
            roles: served,
            folder,
            base,
            name: name.into(),
            memory_above,
            pids_above,
            local_events: hierarchy.local_events,
        };
        if let Err(error) = instance.enable_for_jobs() {
            let _ = files::remove_folder(&instance.base, name);
            return Err(closed(format!("its controllers cannot be enabled: {error}")));
        }
        let withheld = (!missing.is_empty()).then(|| Fault {
            roles: missing,
            version,
            cause: Cause::Withheld,
            reason: format!("{} was not given this controller", path.display()),
        });
        Ok((instance, withheld))
    }

    /// On v2, hands the controllers on to the jobs' folders.
    fn enable_for_jobs(&self) -> io::Result<()> {
        if self.version == Version::V2 { enable(&self.folder, &self.roles) } else { Ok(()) }
    }
}

/// Why some roles are not served.
struct Fault {
    roles: Vec<Role>,
    version: Version,
    cause: Cause,
    reason: String,
}

impl Fault {
    /// With what systemd had to say, where a cgroup was asked for.
    fn told(&self, scope: &Scope) -> String {
        match scope {
            Scope::NoManager(why) | Scope::Refused(why) => format!("{}; {why}", self.reason),
            Scope::NotNeeded | Scope::Granted => self.reason.clone(),
        }
    }
}

/// Makes a folder and locks it. In between another launcher may take it for a dead one's and remove
/// it: then it is made again.
fn make_locked(base: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        let folder = match files::make_folder(base, name) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            made => made?,
        };
        // Waits for one that is removing it.
        flock(&folder, FlockOperation::LockExclusive)?;
        if is_still(base, name, &folder)? {
            return Ok(folder);
        }
    }
    Err(io::Error::other("other launchers keep removing it"))
}

/// Whether this is still the folder of that name. To be asked with its lock held, without which nobody
/// removes it: a lock on one that was removed says nothing of another that has its name since.
fn is_still(base: &OwnedFd, name: &str, folder: &OwnedFd) -> io::Result<bool> {
    match files::open_folder(base, name) {
        Ok(again) => Ok(files::inode(&again)? == files::inode(folder)?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the folders of launchers that no longer hold their lock.
fn remove_dead(base: &OwnedFd, path: &Path) {
    let Ok(entries) = fs::read_dir(path) else {
        return;
    };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        if !name.starts_with(PREFIX) {
            continue;
        }
        let Ok(folder) = files::open_folder(base, &name) else {
            continue;
        };
        let locked = flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok();
        if !locked || !is_still(base, &name, &folder).unwrap_or(false) {
            continue;
        }
        match remove_tree(base, &name) {
            Ok(()) => tracing::info!(cgroup = name, "removed the cells that a dead launcher left"),
            Err(error) => {
                tracing::warn!(%error, cgroup = name, "a dead launcher's cells could not be removed");
            }
        }
    }
}

/// Kills all that is in a folder and in those directly below it, and removes them.
fn remove_tree(base: &OwnedFd, name: &str) -> io::Result<()> {
    if files::remove_folder(base, name).is_ok() {
        // There was nothing in it, as in most.
        return Ok(());
    }
    let folder = match files::open_folder(base, name) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let below: Vec<String> = rustix::fs::Dir::read_from(&folder)?
        .flatten()
        .filter(|entry| entry.file_type() == rustix::fs::FileType::Directory)
        .filter_map(|entry| entry.file_name().to_str().ok().map(String::from))
        .filter(|entry| entry != "." && entry != "..")
        .collect();
    for child in &below {
        let opened = files::open_folder(&folder, child)?;
        remove_when_empty(&folder, child, &opened)?;
    }
    remove_when_empty(base, name, &folder)
}

/// There is no event for "the last zombie has gone", on v1 not even for "no process is left": so it
/// is tried again, briefly, until the kernel agrees.
fn remove_when_empty(parent: &OwnedFd, name: &str, folder: &OwnedFd) -> io::Result<()> {
    const TRIES: u32 = 400;
    let mut last = Ok(());
    for _ in 0..TRIES {
        if files::write(folder, "cgroup.kill", &1).is_err() {
            for pid in files::processes(folder).unwrap_or_default() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        last = files::remove_folder(parent, name);
        match &last {
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                thread::sleep(Duration::from_millis(5));
            }
            _ => break,
        }
    }
    last
}

/// The least of the memory limits that hold in this cgroup: its own and those above it.
fn memory_above(version: Version, path: &Path, top: &Path) -> Option<u64> {
    match version {
        Version::V1 => {
            let stat = fs::read_to_string(path.join("memory.stat")).ok()?;
            files::keyed(&stat, "hierarchical_memory_limit")
        }
        Version::V2 => least_above("memory.max", path, top),
    }
}

/// The least number in files of that name, from a cgroup up to the top. The top has no such file, and
/// elsewhere it may say "max".
fn least_above(file: &str, path: &Path, top: &Path) -> Option<u64> {
    path.ancestors()
        .take_while(|folder| folder.starts_with(top))
        .filter_map(|folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok())
        .min()
}

/// How many processes and threads this machine can have.
fn processes_of_host() -> u64 {
    /// `PID_MAX_DEFAULT`, the least that a kernel with cgroups starts with.
    const DEFAULT: u64 = 32_768;
    ["pid_max", "threads-max"]
        .into_iter()
        .filter_map(|name| {
            fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?.trim().parse().ok()
        })
        .min()
        .unwrap_or(DEFAULT)
}

/// How many of them all jobs together can have: a tenth stays out of their reach, 1,024 of the host's at
/// least and 64 of the cgroup's (`above`), in which the service is too; but never more than half.
fn processes_of_jobs(host: u64, above: Option<u64>) -> u64 {
    let less = |all: u64, least: u64| all.saturating_sub((all / 10).max(least)).max(all / 2);
    let of_cgroup = above.map_or(u64::MAX, |above| less(above, 64));
    // A cell has two processes at least.
    less(host, 1024).min(of_cgroup).max(2)
}

/// `MemTotal` of this machine.
fn physical_memory() -> ByteSize {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    ByteSize(kib.unwrap_or(0) << 10)
}

#[cfg(test)]
mod tests {
    use super::processes_of_jobs;

    #[test]
    fn jobs_leave_processes_to_the_host_and_to_the_service() {
        assert_eq!(processes_of_jobs(32_768, None), 29_492);
        assert_eq!(processes_of_jobs(1 << 22, None), 3_774_874);
        assert_eq!(processes_of_jobs(4096, None), 3072);
        assert_eq!(processes_of_jobs(1000, None), 500);
        assert_eq!(processes_of_jobs(32_768, Some(512)), 448);
        assert_eq!(processes_of_jobs(32_768, Some(100)), 50);
        assert_eq!(processes_of_jobs(32_768, Some(1)), 2);
    }
}
