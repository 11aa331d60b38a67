//! The job's AppArmor profile, entered by its exec (`aa_change_onexec(3)`, by hand: that is one write
//! to a file of `/proc`).
//!
//! It is a layer on top, which no other rests on: where the kernel does not have it, or the profile is
//! not loaded, this is told and nothing is refused. Whether the profile can be entered is tried, not
//! concluded from what is installed.

use std::{fs, io};

use cloister_api::Enforcement;
use rustix::fs::{Mode, OFlags};

use crate::{
    host::{holds, optional},
    layers::Layer,
};

/// The profile of a job, as text for `apparmor_parser(8)`.
pub const CELL_PROFILE: &str = include_str!("../../apparmor/cloister-cell");
/// The profile that lets cloister make user namespaces where only programs with one may.
pub const USER_NAMESPACE_PROFILE: &str = include_str!("../../apparmor/cloister");

/// What tells the kernel to change to the profile at the next exec.
const CHANGE: &[u8] = b"exec cloister-cell";
/// Since Linux 5.8 AppArmor has a folder of its own here, whichever other security module is in use.
const ON_EXEC: &str = "/proc/self/attr/apparmor/exec";
const CURRENT: &str = "/proc/self/attr/apparmor/current";

/// Has this process enter the job's profile when it executes a program. Allocates nothing.
pub(crate) fn change_on_exec() -> io::Result<()> {
    let file = rustix::fs::open(ON_EXEC, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, CHANGE)?;
    Ok(())
}

/// Whether a profile forbids this process anything.
pub(crate) fn confined() -> bool {
    fs::read_to_string(CURRENT).is_ok_and(|current| current.trim().ends_with("(enforce)"))
}

/// Whether jobs will have the profile, and what to say of it. It is asked for by this process, which
/// executes nothing.
pub(crate) fn find() -> (bool, Enforcement) {
    const NAME: &str = "apparmor";
    if !Layer::AppArmor.stands() {
        return (false, optional(NAME, "this program was built without it", "see layers"));
    }
    let Ok(current) = fs::read_to_string(CURRENT) else {
        let remedy = "boot with apparmor in lsm=, where the distribution has it";
        return (false, optional(NAME, "this kernel has it not, or not switched on", remedy));
    };
    match change_on_exec() {
        Ok(()) => (true, holds(NAME, "profile cloister-cell")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let remedy = "cloister apparmor cell | sudo apparmor_parser --replace";
            (false, optional(NAME, "its profile cloister-cell is not loaded", remedy))
        }
        Err(error) => {
            let because = format!(
                "{} does not let it enter the profile cloister-cell: {error}",
                current.trim()
            );
            (
                false,
                optional(NAME, because, "run it unconfined (--security-opt apparmor=unconfined)"),
            )
        }
    }
}
