//! What can go wrong around cells, and in which step of making one.

use std::{fmt, io, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The launcher could not be started, or is gone.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fork would copy locks that other threads hold.
    #[error(
        "the launcher must be forked before any thread is started, and {0} threads are running"
    )]
    Threads(usize),
    /// A system call on the way failed.
    #[error("{action} failed")]
    Os {
        /// What was attempted, on what.
        action: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The launcher said why it can't work.
    #[error("the launcher could not be set up: {0}")]
    Launcher(String),
    /// The launcher ended.
    #[error(
        "the launcher process has ended; every cell ended with it, and the service must be restarted"
    )]
    Gone,
    /// A folder can't be shown in cells.
    #[error("{} cannot be exposed in cells: {reason}", path.display())]
    Expose {
        /// The folder.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// A folder can't be the store's.
    #[error("the store cannot be kept in {}: {reason}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
}

impl Error {
    pub(crate) fn os(action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Os { action: action.into(), source: source.into() }
    }
}

/// Adds to a failed system call what was attempted.
pub(crate) trait Context<T> {
    /// `action` is a phrase that "failed" can follow.
    fn context(self, action: impl Into<String>) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, action: impl Into<String>) -> Result<T, Error> {
        self.map_err(|source| Error::os(action, source))
    }
}

/// The steps in which a cell is made and a command started in it, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    Refuse,
    Cgroup,
    Pipes,
    Network,
    Clone,
    Join,
    Map,
    Release,
    Adopt,
    Inodes,
    Descriptors,
    Identity,
    CgroupNamespace,
    Scratch,
    Proc,
    Counters,
    Masks,
    Hostname,
    Loopback,
    Landlock,
    Capabilities,
    Parent,
    Seccomp,
    Command,
    Fork,
    Session,
    Signals,
    Directory,
    Rlimits,
    Profile,
    Confine,
    Exec,
    Notification,
    Report,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refuse => "accepting the request for a cell",
            Self::Cgroup => "making the job's cgroup and setting its limits",
            Self::Pipes => "making the job's pipes",
            Self::Network => "entering the network that was made for the cell",
            Self::Clone => "making the cell's namespaces",
            Self::Map => "mapping the job's user and group",
            Self::Join => "moving the cell into its cgroup",
            Self::Release => "waiting to be released",
            Self::Adopt => "taking the cell's descriptors over",
            Self::Inodes => "giving the cell inodes of its own",
            Self::Descriptors => "arranging descriptors",
            Self::Identity => "taking the job's user and group",
            Self::CgroupNamespace => "making the cgroup namespace",
            Self::Scratch => "mounting the job's writable folders",
            Self::Proc => "mounting the cell's own /proc",
            Self::Counters => "limiting what the kernel counts per user",
            Self::Masks => "masking parts of /proc",
            Self::Hostname => "setting the host name",
            Self::Loopback => "bringing up the loopback interface",
            Self::Landlock => "preparing the Landlock rules",
            Self::Capabilities => "dropping all capabilities",
            Self::Parent => "tying the cell's life to the launcher's",
            Self::Seccomp => "installing the seccomp filter",
            Self::Command => "reading the command",
            Self::Fork => "forking the job",
            Self::Signals => "resetting signals",
            Self::Session => "starting a session",
            Self::Directory => "entering the working directory",
            Self::Rlimits => "setting resource limits",
            Self::Profile => "entering the AppArmor profile cloister-cell",
            Self::Confine => "entering the Landlock domain",
            Self::Exec => "executing the program",
            Self::Notification => "answering a system call that the job's filter notifies",
            Self::Report => "hearing how the cell goes on",
        })
    }
}

/// A step that failed, and the kernel's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    pub(crate) step: Step,
    pub(crate) errno: i32,
}

impl Fault {
    pub(crate) fn new(step: Step, error: &io::Error) -> Self {
        Self { step, errno: error.raw_os_error().unwrap_or(libc::EIO) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: {}", self.step, io::Error::from_raw_os_error(self.errno))
    }
}

/// Names the step in which a system call failed.
pub(crate) trait At<T> {
    fn at(self, step: Step) -> Result<T, Fault>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: Step) -> Result<T, Fault> {
        self.map_err(|error| Fault::new(step, &error.into()))
    }
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
