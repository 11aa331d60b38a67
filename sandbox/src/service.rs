//! Confining the process that listens: it parses what strangers send, in several formats.
//!
//! [`drop_privileges`](crate::drop_privileges) takes its capabilities. This takes what any user of the
//! machine still has: a Landlock domain leaves it the files that it reads, its store and its
//! connections, and a seccomp filter (`seccomp/service.json`) the system calls that it makes. Both are
//! entered after the launcher was forked, which keeps neither, and before any thread is started, so
//! that every thread is in both.
//!
//! Both are defence in depth: a host that lacks one is reported, and the service starts all the same.

use std::{
    env,
    io::{self, ErrorKind},
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use cloister_api::Enforcement;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, PathFdError, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use crate::{
    Launcher,
    error::{Context, Error},
    host::{holds, optional},
    layers::Layer,
    sys,
};

#[allow(clippy::unreadable_literal, reason = "made by build.rs")]
mod filter {
    include!(concat!(env!("OUT_DIR"), "/service.rs"));
}
use filter::SERVICE;

/// The newest Landlock ABI that the rules below were thought through for. On older kernels the crate
/// leaves out what they don't know.
const LANDLOCK: ABI = ABI::V6;
/// The first ABIs with rules for TCP, and with scopes.
const NET_ABI: i64 = 4;
const SCOPE_ABI: i64 = 6;

/// What every service may read: programs and libraries, which are no secrets, and what the kernel tells.
/// The C library and the runtime look there for the number of cores; loading a library reads it.
const READ: &[&str] = &[
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/proc",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/dev/random",
    "/dev/urandom",
];

/// What resolving names and finding the system's certificate authorities reads. All of `/etc`, since
/// `resolv.conf` and `hosts` are replaced by new files while the service runs.
const NAMES: &[&str] =
    &["/etc", "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/run/nscd"];
/// The file that is often a link to elsewhere.
const RESOLVER: &str = "/etc/resolv.conf";
/// Where else an operator may keep the system's authorities.
const AUTHORITIES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// What a service reads, writes and reaches once it is confined.
#[derive(Clone, Debug, Default)]
pub struct Needs<'a> {
    /// Files that are read again while it runs. Their folders are readable, with all that is below,
    /// since a new file takes an old one's place by rename.
    pub files: Vec<PathBuf>,
    /// The store's file. Its folder can be written.
    pub store: Option<PathBuf>,
    /// A folder in which it makes files that have no name, reads and writes them.
    pub spool: Option<Spool<'a>>,
    /// Whether it resolves names.
    pub names: bool,
    /// The TCP ports that it connects to; any without a list.
    pub ports: Option<Vec<u16>>,
}

/// A folder for files without a name.
#[derive(Clone, Copy, Debug)]
pub struct Spool<'a> {
    /// The folder, open.
    pub folder: BorrowedFd<'a>,
    /// Whether they have a name for a moment, since their file system makes none without.
    pub names: bool,
}

/// A confinement that was prepared and is not entered yet.
#[derive(Debug)]
pub struct Confinement {
    domain: Option<RulesetCreated>,
}

impl Confinement {
    /// Opens all folders that the service needs; to be called while it may still pass them. `launcher`
    /// is the one whose cgroups the service reads.
    ///
    /// # Errors
    /// When one of [`Needs`] cannot be opened, or the kernel refuses a rule.
    pub fn prepare(needs: &Needs<'_>, launcher: Option<&Launcher>) -> Result<Self, Error> {
        if let Some(store) = &needs.store {
            // SQLite keeps large intermediate results in files, by default in /var/tmp.
            sys::set_variable("SQLITE_TMPDIR", folder(store))
                .context("setting the folder of SQLite's temporary files")?;
        }
        let domain = if has_landlock() { Some(domain(needs, launcher)?) } else { None };
        Ok(Self { domain })
    }

    /// Enters it, for ever. `no_new_privs` must be set. Says what of it this host has.
    ///
    /// # Errors
    /// When there is another thread, which would stay outside, or the kernel refuses what it has.
    pub fn enter(self) -> Result<Vec<Enforcement>, Error> {
        const ENTERING: &str = "entering the service's Landlock domain";
        alone()?;
        // Asked before: the filter refuses the question.
        let has = service_enforcement();
        if let Some(domain) = self.domain {
            let status = domain.restrict_self().map_err(|error| refused(ENTERING, &error))?;
            if status.ruleset == RulesetStatus::NotEnforced {
                return Err(Error::os(ENTERING, io::Error::from(ErrorKind::Unsupported)));
            }
        }
        if has_seccomp() {
            sys::install_filter(&SERVICE).context("installing the service's seccomp filter")?;
        }
        Ok(has)
    }
}

impl Launcher {
    /// Adds lines to what the host gives.
    pub fn report(&mut self, lines: Vec<Enforcement>) {
        self.host.enforcement.extend(lines);
    }
}

/// What of a service's confinement this host has.
pub fn service_enforcement() -> Vec<Enforcement> {
    let seccomp = if has_seccomp() {
        let length = SERVICE.len();
        holds("service_seccomp", format!("no program, no other process, {length} instructions"))
    } else {
        let remedy = "use a kernel with CONFIG_SECCOMP_FILTER";
        optional("service_seccomp", "the service runs without a filter of system calls", remedy)
    };
    let abi = sys::landlock_abi();
    let landlock = if has_landlock() {
        let parts = [
            (true, "its own files"),
            (abi >= NET_ABI, "TCP ports"),
            (abi >= SCOPE_ABI, "signals, abstract sockets"),
        ];
        let parts: Vec<_> = parts.iter().filter(|(has, _)| *has).map(|(_, part)| *part).collect();
        holds("service_landlock", format!("ABI {abi}: {}", parts.join(", ")))
    } else {
        let remedy = "boot Linux 5.13 or newer with landlock in lsm=";
        optional("service_landlock", "the service can open what its user can", remedy)
    };
    vec![seccomp, landlock]
}

fn has_seccomp() -> bool {
    Layer::Seccomp.stands() && Path::new("/proc/sys/kernel/seccomp/actions_avail").exists()
}

fn has_landlock() -> bool {
    Layer::Landlock.stands() && sys::landlock_abi() > 0
}

/// That this process has one thread.
fn alone() -> Result<(), Error> {
    crate::launcher::alone().map_err(|_| {
        Error::os("confining the service", io::Error::other("it has started threads already"))
    })
}

/// Reading what it needs, writing its store alone, executing nothing; no TCP port is bound, and only
/// those are connected to; no signals to and no abstract sockets of anything outside of the domain.
fn domain(needs: &Needs<'_>, launcher: Option<&Launcher>) -> Result<RulesetCreated, Error> {
    const MAKING: &str = "making the service's Landlock rules";
    let failed = |error: RulesetError| refused(MAKING, &error);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut net = BitFlags::from(AccessNet::BindTcp);
    if needs.ports.is_some() {
        net |= AccessNet::ConnectTcp;
    }
    let rules = Ruleset::default().handle_access(AccessFs::from_all(LANDLOCK)).map_err(failed)?;
    let rules = rules.handle_access(net).map_err(failed)?;
    let rules = rules.scope(Scope::from_all(LANDLOCK)).map_err(failed)?;
    let mut rules = rules.create().map_err(failed)?;

    let mut optional: Vec<PathBuf> = READ.iter().map(PathBuf::from).collect();
    if needs.names {
        optional.extend(NAMES.iter().map(PathBuf::from));
        optional.extend(real_folder(Path::new(RESOLVER)));
        let named = AUTHORITIES.iter().filter_map(env::var_os);
        let lists: Vec<_> =
            named.flat_map(|list| env::split_paths(&list).collect::<Vec<_>>()).collect();
        optional.extend(lists.iter().flat_map(|path| [path.clone(), folder(path)]));
    }
    for path in optional {
        if let Some(open) = open(&path)? {
            rules = rules.add_rule(PathBeneath::new(open, read)).map_err(failed)?;
        }
    }
    let null = open(Path::new("/dev/null"))?;
    if let Some(null) = null {
        let access = AccessFs::ReadFile | AccessFs::WriteFile;
        rules = rules.add_rule(PathBeneath::new(null, access)).map_err(failed)?;
    }
    for file in &needs.files {
        for folder in [Some(folder(file)), real_folder(file)].into_iter().flatten() {
            if let Some(open) = open(&folder)? {
                rules = rules.add_rule(PathBeneath::new(open, read)).map_err(failed)?;
            }
        }
    }
    if let Some(store) = &needs.store {
        let write = AccessFs::WriteFile
            | AccessFs::Truncate
            | AccessFs::MakeReg
            | AccessFs::RemoveFile
            | read;
        let folder = folder(store);
        let open = open(&folder)?.ok_or_else(|| {
            Error::os(format!("opening {}", folder.display()), io::Error::from(ErrorKind::NotFound))
        })?;
        rules = rules.add_rule(PathBeneath::new(open, write)).map_err(failed)?;
    }
    if let Some(spool) = needs.spool {
        let own = AccessFs::ReadFile | AccessFs::WriteFile;
        let named = AccessFs::MakeReg | AccessFs::RemoveFile;
        let access = if spool.names { own | named } else { own };
        rules = rules.add_rule(PathBeneath::new(spool.folder, access)).map_err(failed)?;
    }
    for cgroup in launcher.into_iter().flat_map(|launcher| launcher.folders.iter()) {
        rules = rules.add_rule(PathBeneath::new(cgroup.as_fd(), read)).map_err(failed)?;
    }
    for port in needs.ports.iter().flatten() {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp)).map_err(failed)?;
    }
    Ok(rules)
}

/// Opens a folder or file for a rule; none where it is not there, or cannot be passed: then it cannot
/// be read either.
fn open(path: &Path) -> Result<Option<PathFd>, Error> {
    match PathFd::new(path) {
        Ok(open) => Ok(Some(open)),
        Err(PathFdError::OpenCall { source, .. })
            if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::os(
            format!("opening {}", path.display()),
            io::Error::other(error.to_string()),
        )),
    }
}

fn refused(action: &str, error: &RulesetError) -> Error {
    Error::os(action, io::Error::other(error.to_string()))
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.into(),
        _ => ".".into(),
    }
}

/// The folder of what a link leads to.
fn real_folder(file: &Path) -> Option<PathBuf> {
    file.canonicalize().ok().map(|file| folder(&file))
}
