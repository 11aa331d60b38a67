//! What an operator can do about a limit that does not hold: one remedy for each cause, with the
//! command.

use std::path::Path;

use nix::unistd::geteuid;

use super::{Version, scope::Scope};

/// Why a limit does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// No cgroup can be made.
    Closed,
    /// One can be made, and has not this controller.
    Withheld,
}

/// Who asks for it, and where.
pub(super) struct Place<'a> {
    pub(super) uid: u32,
    /// Whether systemd is this machine's init (sd_booted(3)).
    pub(super) systemd: bool,
    pub(super) scope: &'a Scope,
}

impl<'a> Place<'a> {
    /// This process, here.
    pub(super) fn here(scope: &'a Scope) -> Self {
        let systemd = Path::new("/run/systemd/system").is_dir();
        Self { uid: geteuid().as_raw(), systemd, scope }
    }

    /// The remedy for what a hierarchy of this version does not give.
    pub(super) fn remedy(&self, version: Version, cause: Cause) -> String {
        let uid = self.uid;
        match (version, self.scope, cause) {
            _ if uid == 0 => self.of_root(cause),
            (Version::V1, ..) => "start it as root: cgroup v1 cannot be delegated to a user. On cgroup v2 \
                 (systemd.unified_cgroup_hierarchy=1 on the kernel's command line) it can"
                .into(),
            // The manager gives all that it has.
            (_, Scope::Granted, Cause::Withheld) => DELEGATE_TO_USERS.replace("{uid}", &uid.to_string()),
            (_, Scope::Refused(_), _) => {
                "`journalctl --user` and `systemctl --user status` tell what ails the manager, and \
                 `systemd-run --user --scope -p Delegate=yes true` asks it the same; or start it as root"
                    .into()
            }
            (_, Scope::NoManager(_), _) if self.systemd => format!(
                "as root, `loginctl enable-linger {uid}`: it starts a systemd manager for this user, from \
                 which cloister gets a cgroup by itself; or start it as root"
            ),
            (_, _, Cause::Withheld) => "have root write +memory +cpu +pids to the cgroup.subtree_control \
                 of each cgroup above it"
                .into(),
            (..) => BY_HAND.replace("{uid}", &uid.to_string()),
        }
    }

    fn of_root(&self, cause: Cause) -> String {
        match cause {
            Cause::Withheld if self.systemd => {
                "start it with Delegate=yes: systemd-run --scope -p Delegate=yes cloister …".into()
            }
            Cause::Withheld => {
                "write +memory +cpu +pids to cgroup.subtree_control of the cgroups above it".into()
            }
            Cause::Closed => {
                "in a container, give it a cgroup file system that it may write: --privileged, or a \
                 cgroup namespace of its own with /sys/fs/cgroup writable"
                    .into()
            }
        }
    }
}

/// systemd before 252 gives users' managers memory and pids only, and an operator may have chosen so.
const DELEGATE_TO_USERS: &str = "as root, `mkdir -p /etc/systemd/system/user@.service.d; \
    printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' \
    >/etc/systemd/system/user@.service.d/delegate.conf; systemctl daemon-reload; \
    systemctl restart user@{uid}.service`, which ends what runs there";

/// What systemd's Delegate=yes does, with a leaf for the shell.
const BY_HAND: &str = "start it as root, or have root delegate a cgroup to you, where PID is your shell's: \
    `cd /sys/fs/cgroup; echo +cpu +memory +pids >cgroup.subtree_control; \
    mkdir -p cloister/service.cloister; cd cloister; \
    chown {uid} . cgroup.procs cgroup.subtree_control cgroup.threads; \
    echo PID >service.cloister/cgroup.procs`";

#[cfg(test)]
mod tests {
    use super::*;

    fn remedy(uid: u32, systemd: bool, scope: &Scope, version: Version, cause: Cause) -> String {
        Place { uid, systemd, scope }.remedy(version, cause)
    }

    #[test]
    fn each_cause_has_its_command() {
        let none = Scope::NoManager("x".into());
        let refused = Scope::Refused("x".into());
        for (scope, systemd, version, cause, command) in [
            (&none, true, Version::V2, Cause::Closed, "loginctl enable-linger 1000"),
            (&none, false, Version::V2, Cause::Closed, "chown 1000 . cgroup.procs"),
            (&none, false, Version::V2, Cause::Withheld, "cgroup.subtree_control"),
            (&Scope::Granted, true, Version::V2, Cause::Withheld, "user@.service.d/delegate.conf"),
            (&Scope::Granted, true, Version::V2, Cause::Withheld, "restart user@1000.service"),
            (
                &refused,
                true,
                Version::V2,
                Cause::Closed,
                "systemd-run --user --scope -p Delegate=yes",
            ),
            (&none, true, Version::V1, Cause::Closed, "systemd.unified_cgroup_hierarchy=1"),
        ] {
            let said = remedy(1000, systemd, scope, version, cause);
            assert!(said.contains(command), "{scope:?} {systemd} {version} {cause:?}: {said}");
            assert!(!said.contains("{uid}"), "{said}");
        }
    }

    #[test]
    fn root_is_not_sent_to_root() {
        for cause in [Cause::Closed, Cause::Withheld] {
            for systemd in [true, false] {
                let said = remedy(0, systemd, &Scope::NotNeeded, Version::V2, cause);
                assert!(!said.contains("as root"), "{said}");
            }
        }
    }
}
