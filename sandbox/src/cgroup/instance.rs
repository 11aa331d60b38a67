//! This launcher's own folder in each hierarchy, and the removal of those that a dead one left.
//!
//! A folder is `cloister-` and a random number, and is locked (flock(2)) for as long as the launcher
//! lives. The lock, unlike a process id, says who is alive across pid namespaces and reboots.

use std::{
    fs,
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    rc::Rc,
    thread,
    time::Duration,
};

use cloister_api::{ByteSize, Enforcement};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid, getpid, getppid},
};
use rustix::fs::{FlockOperation, flock};

use super::{
    Role, Version, files,
    hierarchy::{Hierarchy, mounted},
};
use crate::host::{holds, lacks};

const PREFIX: &str = "cloister-";
/// Where the processes that stood in a delegated cgroup are moved, so that it may have children
/// with controllers (the "no internal processes" rule, cgroups(7)). Not `PREFIX`: nobody locks it.
const LEAF: &str = "service.cloister";

/// How one comes by a cgroup to build in.
fn remedy() -> &'static str {
    if geteuid().is_root() {
        "in a container, give it a cgroup file system that it may write: --privileged, or a cgroup \
         namespace of its own with /sys/fs/cgroup writable"
    } else {
        "run as root, or in a cgroup delegated to you: systemd-run --user --scope -p Delegate=yes cloister …"
    }
}

/// One hierarchy's folder of this launcher.
pub(crate) struct Instance {
    pub(crate) version: Version,
    pub(crate) roles: Vec<Role>,
    pub(crate) folder: OwnedFd,
    base: OwnedFd,
    name: String,
    /// The least of the memory limits from here up, bytes, where there is any.
    memory_above: Option<u64>,
}

/// All of this launcher's folders.
pub(crate) struct Cgroups {
    instances: Vec<Rc<Instance>>,
    /// What jobs can have together.
    pub(crate) memory: ByteSize,
}

impl Cgroups {
    /// Finds what the host offers, makes and locks this launcher's folders, and removes dead ones'.
    /// Says of each limit whether it will hold.
    pub(crate) fn set_up() -> (Self, Vec<Enforcement>) {
        let mut report = Vec::new();
        let hierarchies = mounted().unwrap_or_default();
        let name = format!("{PREFIX}{:08x}", rand::random::<u32>());
        let mut instances = Vec::new();
        let mut faults: Vec<(Vec<Role>, String)> = Vec::new();
        for hierarchy in &hierarchies {
            let roles = roles_of(hierarchy);
            if roles.is_empty() {
                continue;
            }
            match Instance::make(hierarchy, roles.clone(), &name) {
                Ok(instance) => instances.push(Rc::new(instance)),
                Err(reason) => faults.push((roles, reason)),
            }
        }
        for role in [Role::Memory, Role::Cpu, Role::Pids] {
            let limit = role.controller().unwrap_or_default();
            let served = instances.iter().find(|i| i.roles.contains(&role));
            let fault = faults.iter().find(|(roles, _)| roles.contains(&role));
            report.push(match (served, fault) {
                (Some(instance), _) => holds(limit, instance.version.to_string()),
                (None, Some((_, reason))) => lacks(limit, reason, remedy()),
                (None, None) => lacks(
                    limit,
                    format!("no mounted cgroup hierarchy has the {limit} controller"),
                    format!("mount cgroup v2 with the {limit} controller, or boot with cgroup_enable={limit}"),
                ),
            });
        }
        let counted = instances.iter().any(|i| i.roles.contains(&Role::Core));
        report.push(if counted {
            holds("cpu_time", Version::V2.to_string())
        } else {
            lacks(
                "cpu_time",
                "no v2 hierarchy counts CPU time; only each process alone is limited",
                remedy(),
            )
        });
        let mut cgroups = Self { instances, memory: physical_memory() };
        report.push(cgroups.swap_report());
        report.extend(cgroups.limit_all_jobs());
        (cgroups, report)
    }

    pub(crate) fn instances(&self) -> &[Rc<Instance>] {
        &self.instances
    }

    fn memory_instance(&self) -> Option<&Instance> {
        self.instances.iter().find(|i| i.roles.contains(&Role::Memory)).map(Rc::as_ref)
    }

    /// Whether a job could escape its memory limit into swap.
    fn swap_report(&self) -> Enforcement {
        let has_swap = fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1);
        let file = |version| match version {
            Version::V1 => "memory.memsw.limit_in_bytes",
            Version::V2 => "memory.swap.max",
        };
        match self.memory_instance() {
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
    fn limit_all_jobs(&mut self) -> Option<Enforcement> {
        let instance = self.memory_instance()?;
        let available =
            instance.memory_above.map_or(self.memory.0, |limit| limit.min(self.memory.0));
        let reserve = (available / 10).max(128 << 20);
        let jobs = available.saturating_sub(reserve).max(available / 2);
        let file = match instance.version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        let set = files::write(&instance.folder, file, &jobs);
        let by = instance.version.to_string();
        self.memory = ByteSize(jobs);
        Some(match set {
            Ok(()) => holds("memory_reserve", format!("{by}, all jobs together have {jobs} bytes")),
            Err(error) => lacks(
                "memory_reserve",
                format!("the memory of all jobs together cannot be limited: {error}"),
                remedy(),
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
    fn make(hierarchy: &Hierarchy, roles: Vec<Role>, name: &str) -> Result<Self, String> {
        let path = base_for(hierarchy, &roles)?;
        let base = files::open_path(&path)
            .map_err(|e| format!("{} cannot be opened: {e}", path.display()))?;
        remove_dead(&base, &path);
        let refused = |e: io::Error| format!("no cgroup can be made in {}: {e}", path.display());
        let folder = make_locked(&base, name).map_err(refused)?;
        let memory_above = memory_above(hierarchy.version, &path, &hierarchy.top);
        let instance = Self {
            version: hierarchy.version,
            roles,
            folder,
            base,
            name: name.into(),
            memory_above,
        };
        if let Err(reason) = instance.enable_for_jobs() {
            let _ = files::remove_folder(&instance.base, name);
            return Err(reason);
        }
        Ok(instance)
    }

    /// On v2, hands the controllers on to the jobs' folders.
    fn enable_for_jobs(&self) -> Result<(), String> {
        if self.version == Version::V2 {
            enable(&self.folder, &self.roles)
                .map_err(|e| format!("its controllers cannot be enabled: {e}"))?;
        }
        Ok(())
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
        match files::open_folder(base, name) {
            Ok(again) if files::inode(&again)? == files::inode(&folder)? => return Ok(folder),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Err(io::Error::other("other launchers keep removing it"))
}

/// Where this launcher's folder goes: below its own cgroup wherever that may have children.
fn base_for(hierarchy: &Hierarchy, roles: &[Role]) -> Result<PathBuf, String> {
    let controllers = roles.iter().any(|role| role.controller().is_some());
    if hierarchy.version == Version::V1 || !controllers {
        return Ok(hierarchy.own.clone());
    }
    let own = files::open_path(&hierarchy.own)
        .map_err(|e| format!("{} cannot be opened: {e}", hierarchy.own.display()))?;
    // Only the real root of the hierarchy has no such file, and may have processes and children.
    let is_root = |path: &Path| !path.join("cgroup.type").exists();
    let inside = files::processes(&own).unwrap_or_default();
    let ours = [getpid().as_raw(), getppid().as_raw()];
    // In a cgroup namespace of one's own, as containers have, all that one sees is one's own.
    let ours_alone = inside.contains(&getpid().as_raw())
        && (hierarchy.own == hierarchy.top || inside.iter().all(|pid| ours.contains(pid)));
    let base = if is_root(&hierarchy.own) {
        &hierarchy.own
    } else if ours_alone {
        clear(&own, &inside).map_err(|e| {
            format!("{} is not delegated to this user: {e}", hierarchy.own.display())
        })?;
        &hierarchy.own
    } else if geteuid().is_root() && is_root(&hierarchy.top) {
        &hierarchy.top
    } else {
        return Err(format!(
            "{} holds other processes than ours, so it can have no children with controllers",
            hierarchy.own.display()
        ));
    };
    let folder =
        files::open_path(base).map_err(|e| format!("{} cannot be opened: {e}", base.display()))?;
    enable(&folder, roles)
        .map_err(|e| format!("controllers cannot be enabled in {}: {e}", base.display()))?;
    Ok(base.clone())
}

/// Moves these processes to a leaf of their own.
fn clear(own: &OwnedFd, inside: &[i32]) -> io::Result<()> {
    let leaf = match files::make_folder(own, LEAF) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => files::open_folder(own, LEAF)?,
        made => made?,
    };
    for pid in inside {
        match files::write(&leaf, "cgroup.procs", &pid) {
            // It ended meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            result => result?,
        }
    }
    Ok(())
}

/// Enables these controllers for a folder's children, and reads back that they are.
fn enable(folder: &OwnedFd, roles: &[Role]) -> io::Result<()> {
    for controller in roles.iter().filter_map(|role| role.controller()) {
        let enabled = || {
            files::read(folder, "cgroup.subtree_control")
                .map(|text| text.split_ascii_whitespace().any(|name| name == controller))
        };
        if !enabled()? {
            files::write(folder, "cgroup.subtree_control", &format_args!("+{controller}"))?;
        }
        if !enabled()? {
            return Err(io::Error::other(format!("{controller} did not become enabled")));
        }
    }
    // Block I/O is only counted, not limited: where it can't be, `usage` leaves it out.
    let _ = files::write(folder, "cgroup.subtree_control", &"+io");
    Ok(())
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
        if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_err() {
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
        // The top has no such file, and elsewhere it may say "max".
        Version::V2 => path
            .ancestors()
            .take_while(|folder| folder.starts_with(top))
            .filter_map(|folder| {
                fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse().ok()
            })
            .min(),
    }
}

/// `MemTotal` of this machine.
fn physical_memory() -> ByteSize {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    ByteSize(kib.unwrap_or(0) << 10)
}
