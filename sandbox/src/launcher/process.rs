//! The launcher's own life: setting itself up, answering, and taking everything down.

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use caps::{CapSet, Capability};
use cloister_api::{Bounds, Enforcement};
use nix::sys::{
    resource::{Resource, getrlimit},
    signal::{SigHandler, Signal, signal},
    stat::{Mode, umask},
};

use super::{
    Config, cells,
    counters::{self, Share},
    identity::{self, Users},
    inodes::Inodes,
    judge::{Asked, Rules},
    networks::Networks,
    root,
};
use crate::{
    apparmor, cell,
    cgroup::{Cgroups, Group, Scope},
    error::{At, Context, Error, Step},
    host::{Host, holds, lacks},
    layers::{self, Layer},
    network, residue,
    rlimits::Fixed,
    sys,
    wire::{CellId, Packet, Reply, Request, receive, send},
};

/// The capabilities that making cells needs, of all that root has.
const NEEDED: [Capability; 7] = [
    // Mounts, namespaces of another user, cgroup.event_control.
    Capability::CAP_SYS_ADMIN,
    // The id maps.
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    // The job's ends of its pipes.
    Capability::CAP_CHOWN,
    // Cgroup folders and maps of another user.
    Capability::CAP_DAC_OVERRIDE,
    // Cells run under other uids.
    Capability::CAP_KILL,
    // A job's oom_score_adj, for good.
    Capability::CAP_SYS_RESOURCE,
];

/// How many requests wait here at most; the rest wait in the socket, and whoever sends them. No
/// service has so many cells, and what would fill this process's memory is none.
const MAX_WAITING: usize = 16 << 10;

/// The launcher's whole life.
pub(super) fn run(config: &Config, exposed: &[PathBuf], scope: &Scope, socket: &OwnedFd) {
    let mut state = match State::set_up(config, exposed, scope) {
        Ok((mut state, host)) => {
            if let Err(error) = state.introduce(&host, socket) {
                let _ = send(socket, &Reply::Unfit(error.to_string()), &[]);
                state.tear_down();
                return;
            }
            state
        }
        Err(error) => {
            let _ = send(socket, &Reply::Unfit(crate::error::chain(&error)), &[]);
            return;
        }
    };
    state.serve(socket);
    state.tear_down();
}

pub(super) struct State {
    pub(super) cgroups: Cgroups,
    pub(super) users: Users,
    pub(super) networks: Networks,
    pub(super) inodes: Inodes,
    rules: Rules,
    /// Whether jobs can have their AppArmor profile.
    pub(super) profile: bool,
    pub(super) rlimits: Fixed,
    pub(super) share: Option<Share>,
    cells: HashMap<CellId, cells::Cell>,
    /// Cgroups that were still busy when their cell was released.
    stale: Vec<Group>,
}

impl State {
    pub(super) fn set_up(
        config: &Config,
        exposed: &[PathBuf],
        scope: &Scope,
    ) -> Result<(Self, Host), Error> {
        // Ctrl-C reaches a terminal's whole process group, and a service manager signals every
        // process: when to end is for the service to say, by closing the socket.
        nix::unistd::setsid().context("starting a session")?;
        for each in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGPIPE] {
            // SAFETY: ignoring a signal runs no handler.
            #[allow(unsafe_code)]
            unsafe { signal(each, SigHandler::SigIgn) }.context("ignoring signals")?;
        }
        // Whatever the operator's is: jobs are to see the folders that are made here, and the service
        // is to look into the cgroups.
        umask(Mode::from_bits_truncate(0o022));
        let (_, open_files) =
            getrlimit(Resource::RLIMIT_NOFILE).context("reading RLIMIT_NOFILE")?;
        nix::sys::resource::setrlimit(Resource::RLIMIT_NOFILE, open_files, open_files)
            .context("raising RLIMIT_NOFILE")?;

        let privileged =
            caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap_or(false);
        // Before the user namespace: it moves processes, and asks who we are outside.
        let (profile, apparmor) = apparmor::find();
        let (cgroups, mut enforcement) = Cgroups::set_up(scope);
        enforcement.push(residue::report(privileged));
        let max_cells = config.max_cells.unwrap_or(usize::MAX);
        let (users, shared) =
            confine(config, exposed, privileged).inspect_err(|_| cgroups.remove())?;
        let (share, counters) = counters::find(&users, !privileged);
        let (rlimits, limited) = Fixed::find(share.is_some())
            .context("setting resource limits")
            .inspect_err(|_| cgroups.remove())?;
        let (inodes, private) = Inodes::find(&shared, privileged, max_cells);
        let networks = Networks::start(config.network_host)
            .context("starting what makes networks")
            .inspect_err(|_| cgroups.remove())?;
        enforcement.insert(0, users.report());
        enforcement.insert(1, counters);
        enforcement.push(limited);
        enforcement.extend(private);
        enforcement.push(network::report());
        enforcement.push(seccomp_report());
        enforcement.push(landlock_report());
        enforcement.push(apparmor);
        enforcement.extend(layers::report());
        let host = Host {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: cgroups.memory,
            // PID 1 of its cell has the same user.
            pids: cgroups.pids.min(rlimits.processes.saturating_sub(1)),
            open_files,
            network_host: config.network_host,
            enforcement,
        };
        let rules = Rules {
            max: host.bounds(&Bounds::default()),
            network_host: config.network_host,
            max_cells,
        };
        let (cells, stale) = (HashMap::new(), Vec::new());
        let set_up =
            Self { cgroups, users, networks, inodes, rules, profile, rlimits, share, cells, stale };
        Ok((set_up, host))
    }

    /// The first word: what the host gives, and where cells' cgroups will be.
    fn introduce(&self, host: &Host, socket: &OwnedFd) -> io::Result<()> {
        let host = serde_json::to_string(host).map_err(io::Error::other)?;
        let (folders, fds): (Vec<_>, Vec<_>) = self.cgroups.shown()?.into_iter().unzip();
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        send(socket, &Reply::Hello { host, folders }, &fds)
    }

    /// Answers requests until the service is gone.
    fn serve(&mut self, socket: &OwnedFd) {
        let mut queue = VecDeque::new();
        loop {
            let received = if queue.len() < MAX_WAITING {
                receive::<Request>(socket, queue.is_empty())
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            };
            match received {
                // A kill does not wait behind launches.
                Ok(Some(Packet { message: Request::Kill { cell }, .. })) => {
                    if let Some(cell) = self.cells.get(&cell) {
                        cell.kill();
                    }
                }
                Ok(Some(packet)) => queue.push_back(packet),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Some(packet) = queue.pop_front() {
                        self.answer(socket, packet);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::warn!(%error, "the launcher was sent nonsense, and ignores it");
                }
                // The service is gone.
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn answer(&mut self, socket: &OwnedFd, packet: Packet<Request>) {
        let Packet { message, fds, whole } = packet;
        match message {
            Request::Kill { .. } => unreachable!("kills are done when they arrive"),
            Request::Release { cell } => {
                if let Some(cell) = self.cells.remove(&cell) {
                    // It reports its end before it is gone, and may have been killed meanwhile: but
                    // a cell that lives on must not stall everybody else's.
                    cell.kill();
                    self.stale.extend(cell.release());
                }
                self.stale.retain_mut(|group| group.remove().is_err());
                // Not while a cell is being made: its PID 1 would have one core less.
                self.inodes.make_next(self.cells.len());
            }
            Request::Prepare { cell, sizes, host_network, stdio } => {
                let descriptors = fds.len();
                let asked = Asked { cell, sizes, host_network, stdio, descriptors, whole };
                let made = self.rules.judge(&asked, &self.cells).and_then(|()| {
                    let user =
                        self.users.pick(|id| self.cells.values().any(|cell| cell.user == id));
                    let plan = cell::Plan {
                        disk: sizes.disk,
                        new_network: self.networks.for_clone(host_network).at(Step::Network)?,
                        outer_id: user,
                        profile: self.profile,
                        rlimits: self.rlimits,
                        share: self.share,
                        trees: self.inodes.take().at(Step::Inodes)?,
                        devices: self.inodes.devices,
                    };
                    let what = (cell, &sizes);
                    let passed = fds.try_into().ok();
                    let made =
                        cells::prepare(&self.cgroups, &self.users, what, &plan, passed, socket);
                    made.map_err(|(fault, group)| {
                        self.stale.extend(group);
                        fault
                    })
                });
                self.networks.make_next();
                match made {
                    Ok(made) => drop(self.cells.insert(cell, made)),
                    // If the service is gone too, the loop notices.
                    Err(fault) => drop(send(socket, &Reply::Failed { cell, fault }, &[])),
                }
            }
        }
    }

    pub(super) fn tear_down(&mut self) {
        let maker = self.networks.end();
        for cell in self.cells.values() {
            cell.kill();
        }
        for (_, cell) in self.cells.drain() {
            self.stale.extend(cell.release());
        }
        self.stale.retain_mut(|group| group.remove().is_err());
        self.cgroups.remove();
        if let Some(maker) = maker {
            maker.reap();
        }
    }
}

/// Takes this process out of the host's namespaces, and of its privileges those that it needs not.
/// Comes back with whom it can run jobs as, and what they see of the host's.
fn confine(
    config: &Config,
    exposed: &[PathBuf],
    privileged: bool,
) -> Result<(Users, root::Shared), Error> {
    if !privileged {
        identity::enter_user_namespace().map_err(|source| Error::Os {
            action: format!(
                "making a user namespace ({}, or start as root)",
                identity::how_to_allow_user_namespaces()
            ),
            source,
        })?;
    }
    let users = Users::find(privileged).context("reading this process's id maps")?;
    let shared = root::enter(exposed, config.network_host, privileged)?;
    sys::overwrite_title("cloister: launcher").context("hiding the command line from cells")?;
    if privileged {
        nix::unistd::setgroups(&[]).context("leaving the supplementary groups")?;
        if Layer::UserNamespace.stands() {
            keep_only_needed()
                .map_err(|e| Error::Launcher(format!("capabilities could not be dropped: {e}")))?;
        }
    }
    Ok((users, shared))
}

/// Gives up every capability that making cells does not need.
fn keep_only_needed() -> Result<(), caps::errors::CapsError> {
    let needed: caps::CapsHashSet = NEEDED.into_iter().collect();
    for capability in caps::all() {
        if !needed.contains(&capability) && caps::has_cap(None, CapSet::Bounding, capability)? {
            caps::drop(None, CapSet::Bounding, capability)?;
        }
    }
    let had = caps::read(None, CapSet::Permitted)?;
    let kept = had.intersection(&needed).copied().collect();
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    caps::clear(None, CapSet::Inheritable)
}

fn seccomp_report() -> Enforcement {
    if !Layer::Seccomp.stands() {
        return lacks("seccomp", "this program was built without it", "see layers");
    }
    if std::path::Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
        holds("seccomp", format!("default deny, {} instructions", cell::FILTER_LENGTH))
    } else {
        lacks(
            "seccomp",
            "the kernel has no seccomp filters",
            "use a kernel with CONFIG_SECCOMP_FILTER",
        )
    }
}

/// Before ABI 6 a domain does not keep signals and abstract sockets in; the namespaces do, but for
/// the abstract sockets of jobs that have the host's network.
fn landlock_report() -> Enforcement {
    if !Layer::Landlock.stands() {
        return lacks("landlock", "this program was built without it", "see layers");
    }
    match sys::landlock_abi() {
        0 => lacks(
            "landlock",
            "the kernel has no Landlock",
            "boot Linux 5.13 or newer with landlock in lsm=",
        ),
        abi => holds("landlock", format!("ABI {abi}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever deploys a runner names these too, in files that nothing else would compare.
    #[test]
    fn what_is_deployed_has_these_capabilities_and_no_other() {
        let needed = || NEEDED.map(|capability| capability.to_string());
        let read = |text: &str, key: &str, words: fn(char) -> bool| -> Vec<String> {
            let line = text.lines().map(str::trim).rfind(|line| line.starts_with(key));
            let line = line.expect("it names capabilities");
            let names = line[key.len()..].split(words).filter(|name| !name.is_empty());
            names.map(str::to_owned).collect()
        };

        let compose = include_str!("../../../docker-compose.narrow.yml");
        let named = read(compose, "cap_add:", |c| !c.is_ascii_uppercase() && c != '_');
        assert_eq!(
            needed(),
            named.iter().map(|name| format!("CAP_{name}")).collect::<Vec<_>>()[..]
        );

        // Nothing to take away from a bounding set as narrow as that one; these are wider by what takes.
        let as_root = include_str!("../../../deploy/systemd/cloister-runner-as-root.conf");
        let up = include_str!("../../../deploy/systemd/cloister-up.service");
        for unit in [as_root, up] {
            let named = read(unit, "CapabilityBoundingSet=", char::is_whitespace);
            assert_eq!(needed(), named[..NEEDED.len()]);
            assert_eq!(named[NEEDED.len()..], [Capability::CAP_SETPCAP.to_string()]);
        }
    }
}
