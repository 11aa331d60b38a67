//! One launch with a clock: see [`crate::steps`].

use std::{fs::File, io::Read};

use nix::sys::{socket::SockType, wait::waitpid};

use super::{
    Config,
    cells::GO,
    identity::{clone_owned, map},
    process::State,
};
use crate::{
    cell::{self, Inside},
    cgroup::{Group, Scope},
    error::{At, Error, Fault, Step},
    layers::namespaces,
    sys::{self, Cloned, monotonic_ns},
    wire::Sizes,
};

const SIZES: Sizes = Sizes { cpu_quota_us: 100_000, memory: 64 << 20, pids: 64, disk: 16 << 20 };

/// A launcher's state.
pub(crate) struct Bench(State);

impl Bench {
    pub(crate) fn set_up(config: &Config, scope: &Scope) -> Result<Self, Error> {
        Ok(Self(State::set_up(config, &[], scope)?.0))
    }

    /// Nanoseconds for the cgroup, entering the network, clone3, what is inside, the end and the removal.
    pub(crate) fn launch(&mut self) -> Result<(u64, u64, u64, Inside, u64, u64), Fault> {
        let mut last = monotonic_ns();
        let mut lap = || {
            let now = monotonic_ns();
            now - std::mem::replace(&mut last, now)
        };
        let (mut group, opened) = Group::make(&self.0.cgroups, 1, &SIZES).at(Step::Cgroup)?;
        let cgroup = lap();
        let outer_id = self.0.users.pick(|_| false);
        let new_network = self.0.networks.for_clone(false).at(Step::Network)?;
        let network = lap();
        let trees = self.0.inodes.take().at(Step::Inodes)?;
        let State { profile, rlimits, share, .. } = self.0;
        let (disk, devices) = (SIZES.disk, self.0.inodes.devices);
        let plan =
            cell::Plan { disk, new_network, outer_id, profile, rlimits, share, trees, devices };
        let (control, inner) = sys::socket_pair(SockType::Stream).at(Step::Pipes)?;
        let doors = opened.doors().at(Step::Join)?;
        lap();
        // SAFETY: the launcher is single-threaded.
        #[allow(unsafe_code)]
        let cloned = unsafe {
            clone_owned(&self.0.users, outer_id, namespaces(new_network), opened.for_clone())
        };
        let pid = match cloned.at(Step::Clone)? {
            Cloned::Child => cell::run_timed(&plan, &doors, inner),
            Cloned::Parent { pid, .. } => pid,
        };
        let clone = lap();
        self.0.networks.make_next();
        self.0.inodes.make_next(1);
        drop(inner);
        map(pid, outer_id).at(Step::Map)?;
        nix::unistd::write(&control, &[GO]).at(Step::Release)?;
        let mut bytes = [0; 32];
        File::from(control).read_exact(&mut bytes).at(Step::Report)?;
        lap();
        waitpid(pid, None).at(Step::Report)?;
        let end = lap();
        group.remove().at(Step::Cgroup)?;
        Ok((cgroup, network, clone, Inside::from_bytes(bytes), end, lap()))
    }

    pub(crate) fn tear_down(&mut self) {
        self.0.tear_down();
    }
}
