//! Taking away what building the view needed, and most of what is left: capabilities, the right to
//! gain any, system calls; and preparing the Landlock domain that the job will enter.
//!
//! The seccomp filter is installed in PID 1 and inherited by the job, so that no launch pays for
//! it. The Landlock domain is entered by the job alone: from within, PID 1 is then outside of it,
//! where the job's signals do not reach.

use std::{
    error::Error,
    os::fd::{BorrowedFd, OwnedFd},
};

use caps::{CapSet, errors::CapsError};
use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    Scope,
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{prctl, signal::Signal},
};

use super::{Plan, filters::CELL};
use crate::{
    error::{At, Fault, Step},
    layers::Layer,
    sys,
};

/// Instructions of the seccomp filter.
pub(crate) const FILTER_LENGTH: usize = CELL.len();

/// The newest Landlock ABI that the rules below were thought through for. On older kernels the
/// crate leaves out what they don't know.
const LANDLOCK: ABI = ABI::V6;

/// What the job itself enters, last of all.
pub(crate) struct Confinement {
    /// Its Landlock domain, where the kernel has them.
    pub(crate) domain: Option<OwnedFd>,
    /// Whether its AppArmor profile is there.
    pub(crate) profile: bool,
}

/// Confines this process for ever, and prepares what the job will enter.
pub(crate) fn confine(plan: &Plan, control: BorrowedFd<'_>) -> Result<Confinement, Fault> {
    let domain =
        landlock_domain().map_err(|_| Fault { step: Step::Landlock, errno: libc::EINVAL })?;
    let dropped =
        if Layer::Capabilities.stands() { drop_capabilities() } else { hand_on_capabilities() };
    dropped.map_err(|_| Fault { step: Step::Capabilities, errno: libc::EPERM })?;
    // Its /proc entry belongs to root from now on: no process of the job can open its memory, its
    // descriptors or, by /proc/1/exe, the service's program (CVE-2019-5736).
    prctl::set_dumpable(false).at(Step::Capabilities)?;
    prctl::set_name(c"cell-init").at(Step::Capabilities)?;
    // After the last change of ids, which clears it. If the launcher ended before this, the line to
    // the engine, whose other end it held or passed on, tells.
    prctl::set_pdeathsig(Signal::SIGKILL).at(Step::Parent)?;
    alive(control).at(Step::Parent)?;
    if Layer::Seccomp.stands() {
        sys::install_filter(&CELL).at(Step::Seccomp)?;
    }
    Ok(Confinement { domain, profile: plan.profile })
}

fn alive(control: BorrowedFd<'_>) -> nix::Result<()> {
    let mut line = [PollFd::new(control, PollFlags::empty())];
    poll(&mut line, PollTimeout::ZERO)?;
    let gone = line[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP));
    if gone { Err(nix::errno::Errno::EPIPE) } else { Ok(()) }
}

/// Drops every capability from every set, and the right to gain any.
fn drop_capabilities() -> Result<(), CapsError> {
    // In this order: emptying the bounding set and locking the bits need CAP_SETPCAP.
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Bounding)?;
    sys::lock_secure_bits().map_err(|error| error.to_string())?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::clear(None, CapSet::Effective)?;
    caps::clear(None, CapSet::Permitted)?;
    prctl::set_no_new_privs().map_err(|error| error.to_string().into())
}

/// What a sandbox without this layer would do: the job is root of its namespaces.
fn hand_on_capabilities() -> Result<(), CapsError> {
    let all = caps::read(None, CapSet::Permitted)?;
    caps::set(None, CapSet::Inheritable, &all)?;
    caps::set(None, CapSet::Ambient, &all)
}

/// Reading and executing wherever the mounts let it, writing only where a job may; no signals to and
/// no abstract sockets of anything outside of the domain.
fn landlock_domain() -> Result<Option<OwnedFd>, Box<dyn Error>> {
    if sys::landlock_abi() == 0 || !Layer::Landlock.stands() {
        // Said at start-up, where a runner refuses to go on without `--allow-degraded`.
        return Ok(None);
    }
    let all = AccessFs::from_all(LANDLOCK);
    let read = AccessFs::from_read(LANDLOCK);
    let write_file: BitFlags<AccessFs> = AccessFs::WriteFile | AccessFs::Truncate;
    let mut rules = Ruleset::default()
        .handle_access(all)?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?
        .add_rule(beneath("/", read)?)?;
    for path in ["/job", "/tmp", "/dev/shm"] {
        rules = rules.add_rule(beneath(path, all & !AccessFs::IoctlDev)?)?;
    }
    for path in ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"] {
        rules = rules.add_rule(beneath(path, write_file | AccessFs::ReadFile)?)?;
    }
    // Nothing of /proc: there a process could offer itself to the OOM killer less than its service,
    // which only CAP_SYS_RESOURCE keeps it from. (A thread still names itself, by prctl(2).)
    Ok(rules.into())
}

fn beneath(
    path: &'static str,
    access: impl Into<BitFlags<AccessFs>>,
) -> Result<PathBeneath<PathFd>, Box<dyn Error>> {
    Ok(PathBeneath::new(PathFd::new(path)?, access))
}
