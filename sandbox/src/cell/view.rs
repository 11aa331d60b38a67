//! What a cell sees: its own writable folders, its own `/proc`, its own names and loopback. All
//! else was prepared in the launcher's root, and is locked here.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::sys::stat;
use rustix::fs::{Mode, mkdirat};

use super::Plan;
use crate::{
    error::{At, Fault, Step},
    launcher::LAID,
    layers::Layer,
    mounts::{self, NODEV, NOEXEC, NOSUID, RDONLY},
    network,
};

/// Files of `/proc` that tell of the host or act on it. A cell's user may open few of them anyway.
const MASKED_FILES: [&str; 11] = [
    // Tells of keys that are pressed, and of what other cells' programs do.
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    // Shows the host's locks of open file descriptions.
    "/proc/locks",
    "/proc/sched_debug",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
    "/proc/timer_stats",
];
const MASKED_FOLDERS: [&str; 6] =
    ["/proc/acpi", "/proc/asound", "/proc/driver", "/proc/fs", "/proc/irq", "/proc/scsi"];
/// A folder of the launcher's root that is empty, before the cell's own is mounted there.
const EMPTY: &str = "/job";
/// Folders of `/proc` through which the kernel is configured.
const READ_ONLY: [&str; 2] = ["/proc/bus", "/proc/sys"];

/// A mount that the launcher made for this cell, and where it belongs.
pub(crate) struct Tree {
    pub(crate) at: PathBuf,
    pub(crate) mount: OwnedFd,
}

/// The folder whose overlay has the cell's `/etc` and `/dev` as well.
pub(crate) const USR: &str = "/usr";

/// Attaches what the launcher made for this cell. Needs no user yet.
pub(super) fn attach(plan: &Plan) -> io::Result<()> {
    for tree in &plan.trees {
        mounts::attach(&tree.mount, &tree.at)?;
        // Before what belongs in /etc is attached.
        if tree.at == Path::new(USR) {
            let laid = Path::new(USR).join(LAID);
            let etc = mounts::clone(laid.join("etc"), 0, false)?;
            mounts::attach(&etc, "/etc")?;
            if plan.devices {
                let attributes = RDONLY | NOSUID | NOEXEC;
                let dev = mounts::clone_with_just(laid.join("dev"), attributes)?;
                mounts::attach(&dev, "/dev")?;
            }
        }
    }
    Ok(())
}

/// What most commands need first: a shell, the loader, and the C library, where Debian has them.
const PROGRAMS: [&str; 6] = [
    "/usr/bin/sh",
    "/etc/ld.so.cache",
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib/aarch64-linux-gnu/libc.so.6",
];

/// Has the kernel look these up. In an overlay that nobody used yet that takes it some microseconds for each
/// part of a path, which a command then need not wait for.
pub(super) fn look_up_programs() {
    for path in PROGRAMS {
        // Not every system has all of them.
        let _ = stat::stat(path);
    }
}

pub(crate) fn build(plan: &Plan) -> Result<(), Fault> {
    // Only now, in its own cgroup: the namespace's root is where its maker stands.
    if Layer::CgroupNamespace.stands() {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP).at(Step::CgroupNamespace)?;
    }
    if Layer::PidNamespace.stands() {
        let proc = mounts::new("proc", &[], NOSUID | NODEV | NOEXEC).at(Step::Proc)?;
        mounts::attach(&proc, "/proc").at(Step::Proc)?;
    }
    if let Some(share) = plan.share {
        // Before /proc/sys is read-only.
        share.set().at(Step::Counters)?;
    }
    if plan.new_network {
        network::set_up().at(Step::Loopback)?;
    }
    if Layer::Masks.stands() {
        masks().at(Step::Masks)?;
    }
    scratch(plan.disk).at(Step::Scratch)?;
    if Layer::UtsNamespace.stands() {
        nix::unistd::sethostname("cell").at(Step::Hostname)?;
    }
    nix::unistd::chdir("/").at(Step::Scratch)
}

/// `/job`, `/tmp` and `/dev/shm` on one file system in memory, so that one limit holds for all
/// together. Its pages count as the job's memory.
fn scratch(disk: u64) -> io::Result<()> {
    const BYTES_PER_FILE: u64 = 4096;
    // A file takes a kibibyte of kernel memory even when it is empty.
    let files = (disk / BYTES_PER_FILE).clamp(256, 1 << 20);
    let (size, files) = (disk.to_string(), files.to_string());
    let options = [("size", size.as_str()), ("nr_inodes", files.as_str()), ("mode", "0755")];
    let whole = mounts::new("tmpfs", &options, NOSUID | NODEV)?;
    // For the modes as they stand here; the job's own is set before it is executed.
    stat::umask(stat::Mode::empty());
    for (name, mode) in [("job", 0o755), ("shm", 0o1777), ("tmp", 0o1777)] {
        mkdirat(&whole, name, Mode::from_raw_mode(mode))?;
    }
    // A part of a mount can be cloned only once the whole is attached. It stays where its own part /tmp
    // comes to lie on top of it, and is out of reach there: unmounting it would wait until every CPU
    // has forgotten it (`synchronize_rcu_expedited` in the kernel's fs/namespace.c), for longer than all
    // of these mounts take.
    mounts::attach(&whole, "/tmp")?;
    let part = |name: &str| mounts::clone(name, 0, false);
    let (job, shm, tmp) = (part("/tmp/job")?, part("/tmp/shm")?, part("/tmp/tmp")?);
    mounts::attach(&job, "/job")?;
    mounts::attach(&shm, "/dev/shm")?;
    mounts::attach(&tmp, "/tmp")
}

fn masks() -> io::Result<()> {
    for path in READ_ONLY {
        if is_there(path)? {
            let tree = mounts::clone(path, RDONLY | NOSUID | NODEV | NOEXEC, false)?;
            mounts::attach(&tree, path)?;
        }
    }
    for path in MASKED_FILES {
        if is_there(path)? {
            let null = mounts::clone("/dev/null", RDONLY | NOSUID | NOEXEC, false)?;
            mounts::attach(&null, path)?;
        }
    }
    for path in MASKED_FOLDERS {
        if is_there(path)? {
            let empty = mounts::clone(EMPTY, RDONLY | NOSUID | NODEV | NOEXEC, false)?;
            mounts::attach(&empty, path)?;
        }
    }
    Ok(())
}

/// Kernels differ in what they have in `/proc`: looking costs less than a mount that finds no place.
fn is_there(path: &str) -> io::Result<bool> {
    match rustix::fs::stat(path) {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
