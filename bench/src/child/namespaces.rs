//! The kernel's part of a launch, alone: the namespaces of a cell but for the user's, and in them a
//! program. No cgroup, no mount, no filter, no other process: what makes namespaces anew for each launch
//! cannot be faster.

use std::fs::File;

use anyhow::Context;
use nix::sched::{CloneFlags, setns, unshare};

/// Where this process comes from.
pub(super) struct Origin(File);

impl Origin {
    pub(super) fn find() -> anyhow::Result<Self> {
        let own = "/proc/self/ns/pid";
        Ok(Self(File::open(own).with_context(|| format!("{own} cannot be opened"))?))
    }

    /// Gives this process new ones; what it spawns next is the first process in them.
    pub(super) fn leave(&self) -> anyhow::Result<()> {
        // The kernel makes one for children only where they would be in one's own.
        setns(&self.0, CloneFlags::CLONE_NEWPID).context("the PID namespace cannot be entered")?;
        let all = CloneFlags::CLONE_NEWCGROUP
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWUTS;
        unshare(all).context("namespaces cannot be made")
    }
}
