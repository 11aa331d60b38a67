//! Inside a cell: its first process, from clone3 to the end.
//!
//! The order is the design:
//!
//! 1. Its cgroups, where clone3 did not put it there; the launcher's mounts for it ([`view::attach`]), which
//!    come as descriptors; then [`descriptors`]: 0, 1, 2 are the job's, 3 is the line to the engine, all
//!    others are closed, before anything else can happen to them.
//! 2. Wait until the launcher has written the id maps.
//! 3. [`view`]: mounts, host name, cgroup namespace, a loopback that nobody has raised: all that needs a
//!    capability.
//! 4. The limits of its processes ([`crate::rlimits`]); [`confine`]: Landlock rules prepared, capabilities
//!    dropped, `no_new_privs`, seccomp.
//! 5. [`init`]: PID 1 waits for its one command, forks the job, reaps, reports. When it ends, the
//!    kernel kills whatever is left in the pid namespace.
//! 6. [`job`]: the forked child enters its Landlock domain, installs the job's own filter, and executes
//!    the command, by which it enters its AppArmor profile. From then on PID 1 also answers the few
//!    calls that this filter notifies ([`broker`]).
//!
//! A cell that is ready waits in step 5, holding nothing that one job could learn from another. It
//! runs one command and is never used again.

mod broker;
mod confine;
mod filters;
mod init;
mod job;
#[cfg(feature = "steps")]
mod steps;
mod view;

use std::{
    io::{self, Write},
    os::fd::{AsFd, OwnedFd, RawFd},
};

use caps::CapSet;
use confine::Confinement;

use crate::{
    cgroup,
    error::{At, Fault, Step},
    launcher::{GO, JOB_ID, Share},
    layers::Layer,
    rlimits::Fixed,
    sys,
    wire::{Status, frame},
};

pub(crate) use confine::FILTER_LENGTH;
#[cfg(feature = "steps")]
pub(crate) use steps::{Inside, run_timed};
pub(crate) use view::{Tree, USR};

/// The line to the engine, after the job's three.
const CONTROL: RawFd = 3;

/// What differs between cells from within.
pub(crate) struct Plan {
    /// Bytes of the writable file system.
    pub(crate) disk: u64,
    /// Whether its network is made with it, and nobody has raised its loopback.
    pub(crate) new_network: bool,
    /// The job's uid and gid outside.
    pub(crate) outer_id: u32,
    /// Whether jobs can have their AppArmor profile.
    pub(crate) profile: bool,
    /// The limits of its processes that are the same for all jobs.
    pub(crate) rlimits: Fixed,
    /// The cell's share of the kernel's limits per user, where jobs share a user.
    pub(crate) share: Option<Share>,
    /// What the cell attaches over the launcher's own mounts: none where it shares those.
    pub(crate) trees: Vec<Tree>,
    /// Whether they have devices.
    pub(crate) devices: bool,
}

/// The whole life of a cell's first process. It ends with the process, also on a panic: unwinding
/// would go on as a second launcher.
pub(crate) fn run(plan: &Plan, doors: &[OwnedFd], stdio: [&OwnedFd; 3], control: &OwnedFd) -> ! {
    let _end = sys::EndOnUnwind;
    let placed = cgroup::enter(doors)
        .at(Step::Join)
        .and_then(|()| view::attach(plan).at(Step::Inodes))
        .and_then(|()| descriptors(stdio, control).at(Step::Descriptors));
    if let Err(fault) = placed {
        // The line may not be at its place: this is the end that it was cloned with.
        let _ = frame(&Status::Broken(fault)).map(|bytes| nix::unistd::write(control, &bytes));
        sys::exit_now(1);
    }
    // SAFETY: `descriptors` put it there, and nobody else uses that number.
    #[allow(unsafe_code)]
    let mut control = std::fs::File::from(unsafe { sys::adopt(CONTROL) });
    let ended =
        confined(plan, &control).and_then(|confinement| init::run(&mut control, &confinement));
    if let Err(fault) = ended {
        let _ = frame(&Status::Broken(fault)).and_then(|bytes| control.write_all(&bytes));
    }
    sys::exit_now(0)
}

/// Steps 2 to 4; comes back with what the job will enter by itself.
fn confined(plan: &Plan, control: &std::fs::File) -> Result<Confinement, Fault> {
    let mut go = [0];
    match nix::unistd::read(control, &mut go).at(Step::Release)? {
        1 if go == [GO] => {}
        _ => {
            return Err(Fault { step: Step::Release, errno: libc::EPIPE });
        }
    }
    identity(plan).at(Step::Identity)?;
    view::build(plan)?;
    plan.rlimits.set().at(Step::Rlimits)?;
    confine::confine(plan, control.as_fd())
}

/// Puts the job's descriptors at 0, 1, 2 and the line to the engine at 3, and closes all others:
/// the launcher's, and those of other cells.
fn descriptors(stdio: [&OwnedFd; 3], control: &OwnedFd) -> io::Result<()> {
    // Copies above all targets, so that placing one never overwrites a source still to come.
    let copy = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, CONTROL + 1);
    let sources = [copy(stdio[0])?, copy(stdio[1])?, copy(stdio[2])?, copy(control)?];
    for (target, source) in (0..).zip(&sources) {
        sys::place(source.as_fd(), target)?;
    }
    drop(sources);
    sys::close_from(CONTROL + 1)
}

/// Becomes the job's user. The capabilities in this namespace stay: its uid 0 is not mapped, so by
/// the kernel's rule (capabilities(7), "effect of user ID changes") no root is left here.
fn identity(plan: &Plan) -> io::Result<()> {
    if Layer::UserNamespace.stands() {
        return become_user(JOB_ID);
    }
    // There uid 0 is root, and giving it up would give up the capabilities that are needed yet.
    nix::sys::prctl::set_keepcaps(true)?;
    become_user(plan.outer_id)?;
    let kept = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    caps::set(None, CapSet::Effective, &kept).map_err(io::Error::other)
}

fn become_user(id: u32) -> io::Result<()> {
    use nix::unistd::{Gid, Uid, setresgid, setresuid};
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    setresgid(gid, gid, gid)?;
    Ok(setresuid(uid, uid, uid)?)
}
