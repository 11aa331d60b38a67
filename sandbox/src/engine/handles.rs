//! The descriptors of a cell that exists, as they come from the launcher.

use std::{
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    sync::Arc,
};

use crate::{
    cgroup::{Brake, Meter},
    wire::{Attached, Sizes},
};

/// What the engine holds of a cell.
pub(crate) struct Handles {
    pub(crate) control: OwnedFd,
    pub(crate) pidfd: OwnedFd,
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) kill: Option<OwnedFd>,
    pub(crate) brake: Option<Arc<Brake>>,
    pub(crate) oom: Option<OwnedFd>,
    pub(crate) meter: Meter,
}

/// Kills all that is in a cgroup, by its `cgroup.kill`; `false` where there is none, or it refuses.
pub(crate) fn kill_by(switch: Option<&OwnedFd>) -> bool {
    switch.is_some_and(|switch| nix::unistd::write(switch, b"1").is_ok())
}

impl Handles {
    /// Sorts what came with a `Ready`, of a cell with these limits.
    pub(crate) fn sort(attached: Attached, fds: Vec<OwnedFd>, sizes: &Sizes) -> io::Result<Self> {
        let mut fds = fds.into_iter();
        let mut next = || fds.next().ok_or_else(|| io::Error::from(ErrorKind::InvalidData));
        let (control, pidfd) = (next()?, next()?);
        let (mut stdin, mut stdout, mut stderr) = (None, None, None);
        if attached.pipes {
            (stdin, stdout, stderr) = (Some(next()?), Some(next()?), Some(next()?));
        }
        let kill = attached.kill.then(&mut next).transpose()?;
        let brake = attached.brake.then(&mut next).transpose()?;
        let brake = brake.map(|file| Arc::new(Brake::new(file, sizes.cpu_quota_us)));
        let oom = attached.oom.then(&mut next).transpose()?;
        let records = attached.records.into_iter().map(|record| Ok((record, next()?)));
        let meter = Meter::new(records.collect::<io::Result<_>>()?, sizes.memory);
        let ours = [Some(&control), stdin.as_ref(), stdout.as_ref(), stderr.as_ref()];
        for fd in ours.into_iter().flatten() {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        Ok(Self { control, pidfd, stdin, stdout, stderr, kill, brake, oom, meter })
    }
}
