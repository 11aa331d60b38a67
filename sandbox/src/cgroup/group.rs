//! One job's folders, one in each hierarchy that serves a role.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    rc::Rc,
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{
    CPU_PERIOD_US, Record, Role, Version, brake, files,
    instance::{Cgroups, Instance},
};
use crate::{
    layers::Layer,
    wire::{CellId, Sizes},
};

/// A job's cgroup. Removed by [`Group::remove`], not by drop: that can fail, and is then tried again.
/// It keeps no descriptor: every clone of the launcher would copy those of all cells.
pub(crate) struct Group {
    name: String,
    instances: Vec<Rc<Instance>>,
}

/// The folders of a new cgroup, for as long as its cell is being made.
pub(crate) struct Opened(Vec<(Rc<Instance>, OwnedFd)>);

impl Group {
    /// Makes the folders and sets the limits. What was made is removed again on failure.
    pub(crate) fn make(
        cgroups: &Cgroups,
        cell: CellId,
        sizes: &Sizes,
    ) -> io::Result<(Self, Opened)> {
        let mut group = Self { name: folder_name(cell), instances: Vec::new() };
        let made = group.make_folders(cgroups, sizes);
        if made.is_err() {
            // Nothing can be inside yet, so removing fails only where making did.
            let _ = group.remove();
        }
        made.map(|opened| (group, opened))
    }

    fn make_folders(&mut self, cgroups: &Cgroups, sizes: &Sizes) -> io::Result<Opened> {
        let mut opened = Opened(Vec::new());
        for instance in cgroups.instances() {
            // Before it is there: what was made and could not be opened is to be removed too.
            self.instances.push(Rc::clone(instance));
            let folder = files::make_folder(&instance.folder, &self.name)?;
            opened.0.push((Rc::clone(instance), folder));
        }
        for role in Role::ALL {
            if let Some((version, folder)) = opened.serving(role)
                && Layer::Cgroups.stands()
            {
                limit(role, version, folder, sizes)?;
            }
        }
        Ok(opened)
    }

    /// Removes the folders, which must be empty of processes. Those that could not be removed are
    /// kept for the next try.
    pub(crate) fn remove(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        self.instances.retain(|instance| {
            match files::remove_folder(&instance.folder, &self.name) {
                Ok(()) => false,
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => {
                    result = Err(error);
                    true
                }
            }
        });
        result
    }
}

impl Opened {
    /// The folder that serves a role, where the host has one.
    fn serving(&self, role: Role) -> Option<(Version, BorrowedFd<'_>)> {
        self.0
            .iter()
            .find(|(instance, _)| instance.roles.contains(&role))
            .map(|(instance, folder)| (instance.version, folder.as_fd()))
    }

    /// The folder for `CLONE_INTO_CGROUP`.
    pub(crate) fn for_clone(&self) -> Option<BorrowedFd<'_>> {
        self.serving(Role::Core).map(|(_, folder)| folder)
    }

    /// What a process of one thread writes a 0 to, and stands in the v1 folders; clone3 knows only the
    /// v2 one. That it moves itself and no other, by `tasks` and not by `cgroup.procs`, spares it the
    /// lock on all forks of the machine, and the grace period that taking it waits for
    /// (kernel/cgroup/cgroup.c, `cgroup_procs_write_start`).
    pub(crate) fn doors(&self) -> io::Result<Vec<OwnedFd>> {
        let v1 = self.0.iter().filter(|(instance, _)| instance.version == Version::V1);
        v1.map(|(_, folder)| files::open_for_writing(folder, "tasks")).collect()
    }

    /// `cgroup.kill` (Linux 5.14), for the side that has no right to open it.
    pub(crate) fn kill_switch(&self) -> Option<OwnedFd> {
        files::open_for_writing(self.for_clone()?, "cgroup.kill").ok()
    }

    /// What [`Brake`](super::Brake) writes to, where the host limits CPU bandwidth.
    pub(crate) fn brake(&self) -> Option<OwnedFd> {
        let (version, folder) = self.serving(Role::Cpu)?;
        files::open_for_writing(folder, brake::quota_file(version))
            .ok()
            .filter(|_| Layer::Cgroups.stands())
    }

    /// On v1 an eventfd that counts when the job's memory limit is hit; v2 needs none, since the
    /// kernel itself kills the whole group there.
    pub(crate) fn shortage_event(&self) -> io::Result<Option<OwnedFd>> {
        let Some((Version::V1, folder)) = self.serving(Role::Memory) else {
            return Ok(None);
        };
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let control = files::open_for_reading(folder, "memory.oom_control")?;
        let pair = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
        files::write(folder, "cgroup.event_control", &pair)?;
        Ok(Some(event.into()))
    }

    /// The files in which the kernel counts, as many as this kernel has.
    pub(crate) fn records(&self) -> Vec<(Record, OwnedFd)> {
        let served = Role::ALL.into_iter().filter_map(|role| Some((role, self.serving(role)?)));
        served
            .flat_map(|(role, (version, folder))| {
                let records = Record::of(role, version).iter();
                records.map(move |record| (*record, files::open_for_reading(folder, record.file())))
            })
            .filter_map(|(record, file)| Some((record, file.ok()?)))
            .collect()
    }
}

/// Moves this process, which has one thread, into the folders whose doors these are.
pub(crate) fn enter(doors: &[OwnedFd]) -> io::Result<()> {
    doors.iter().try_for_each(|door| {
        rustix::io::write(door, b"0")?;
        Ok(())
    })
}

/// What a cell's folders are called, below those of its launcher.
pub(super) fn folder_name(cell: CellId) -> String {
    format!("cell-{cell}")
}

/// Sets the limits of one role.
fn limit(role: Role, version: Version, folder: BorrowedFd<'_>, sizes: &Sizes) -> io::Result<()> {
    let set = |name: &str, value: &dyn std::fmt::Display| files::write(folder, name, value);
    match (role, version) {
        (Role::Core, _) => Ok(()),
        // PID 1 of the cell is one of ours and comes on top.
        (Role::Pids, _) => set("pids.max", &(sizes.pids + 1)),
        (Role::Cpu, Version::V2) => {
            set(brake::quota_file(version), &format_args!("{} {CPU_PERIOD_US}", sizes.cpu_quota_us))
        }
        (Role::Cpu, Version::V1) => {
            set("cpu.cfs_period_us", &CPU_PERIOD_US)?;
            set(brake::quota_file(version), &sizes.cpu_quota_us)
        }
        (Role::Memory, Version::V2) => {
            set("memory.max", &sizes.memory)?;
            set("memory.oom.group", &1)?;
            optional(set("memory.swap.max", &0))
        }
        // The sum of both may never be below memory alone: lower memory first.
        (Role::Memory, Version::V1) => {
            set("memory.limit_in_bytes", &sizes.memory)?;
            optional(set("memory.memsw.limit_in_bytes", &sizes.memory))?;
            // v1 counts what sockets hold apart, and not at all before a limit is set. It comes on
            // top of the rest, so it is less.
            optional(set("memory.kmem.tcp.limit_in_bytes", &(sizes.memory / 4)))
        }
    }
}

/// Kernels that do not account swap have no file for it. Whether that matters, because there is
/// swap, was told once at set-up (`not_enforced`).
fn optional(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
