//! The layers that a build for tests can take away, each by a cargo feature of its own which no
//! release has. A layer whose absence nothing notices is decoration: `tests/ablation` builds without
//! each in turn, and demands that the attacks which it stops then get through.
//!
//! The decision is made by the compiler. No program has a switch for it, and one that was built
//! without a layer says so ([`report`]) and refuses to start unless told to go on regardless.

use cloister_api::Enforcement;

use crate::host::lacks;

macro_rules! layers {
    ($($(#[$doc:meta])* $layer:ident = $feature:literal,)*) => {
        /// One layer.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Layer {
            $($(#[$doc])* $layer,)*
        }

        impl Layer {
            const ALL: &[Self] = &[$(Self::$layer,)*];

            /// Whether this program has it.
            pub(crate) const fn stands(self) -> bool {
                match self {
                    $(Self::$layer => !cfg!(feature = $feature),)*
                }
            }

            const fn feature(self) -> &'static str {
                match self {
                    $(Self::$layer => $feature,)*
                }
            }
        }
    };
}

layers! {
    /// The filter of system calls.
    Seccomp = "without-seccomp",
    /// The domain that the job enters last.
    Landlock = "without-landlock",
    /// The profile that the job enters by exec.
    AppArmor = "without-apparmor",
    /// Dropping all capabilities, the bounding set, `no_new_privs`. Without it the job gets all that its
    /// user namespace has.
    Capabilities = "without-capabilities",
    /// The prepared root. Without it the host's folders are there as well, and as the host has them.
    Mounts = "without-mounts",
    /// Inodes of the cell's own for the files that it shares with the host and other cells.
    Inodes = "without-inodes",
    /// What is hidden or read-only in `/proc`.
    Masks = "without-masks",
    /// Limits of cgroups; they are still made, and count.
    Cgroups = "without-cgroups",
    /// The job is a user of the host's own user namespace.
    UserNamespace = "without-user-namespace",
    /// That a cell's user namespace belongs to its job's uid. Without it, to the launcher's.
    UserOwner = "without-user-owner",
    /// Processes of the host are in `/proc`.
    PidNamespace = "without-pid-namespace",
    /// The host's network.
    NetworkNamespace = "without-network-namespace",
    /// That a cell's network belongs to a user namespace in which no job is. Without it, to the cell's own.
    NetworkOwner = "without-network-owner",
    /// System V objects and message queues of the host.
    IpcNamespace = "without-ipc-namespace",
    /// The host's name.
    UtsNamespace = "without-uts-namespace",
    /// The path of the job's cgroup on the host.
    CgroupNamespace = "without-cgroup-namespace",
    /// Ending cells for which the kernel holds much memory that no cgroup counts.
    Watcher = "without-watcher",
}

/// Which of these clone3(2) is to make, with a `network` if one is wanted; the cgroup namespace is made
/// later, from inside.
pub(crate) fn namespaces(network: bool) -> u64 {
    let mut flags = libc::CLONE_NEWNS;
    for (layer, flag) in [
        (Layer::UserNamespace, libc::CLONE_NEWUSER),
        (Layer::PidNamespace, libc::CLONE_NEWPID),
        (Layer::IpcNamespace, libc::CLONE_NEWIPC),
        (Layer::UtsNamespace, libc::CLONE_NEWUTS),
    ] {
        if layer.stands() {
            flags |= flag;
        }
    }
    if network {
        flags |= libc::CLONE_NEWNET;
    }
    u64::from(flags.cast_unsigned())
}

/// What is to be said of a program that was built without some.
pub(crate) fn report() -> Option<Enforcement> {
    let missing: Vec<&str> =
        Layer::ALL.iter().filter(|layer| !layer.stands()).map(|layer| layer.feature()).collect();
    (!missing.is_empty()).then(|| {
        let because = format!("this program was built {}, for a test", missing.join(", "));
        lacks("layers", because, "use a program that was built without these cargo features")
    })
}
