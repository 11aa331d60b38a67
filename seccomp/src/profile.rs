//! The profile as it is written, and the checks of its sense.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;

use crate::{Arch, Condition, Error};

/// A filter in the words of its author. The crate's documentation has the schema.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What the profile is for.
    pub comment: String,
    /// The answer to every number that no group names.
    pub default: Action,
    /// The answer to calls of another architecture or ABI.
    pub foreign: Action,
    /// The calls, by what is done with them and why.
    pub groups: Vec<Group>,
}

/// Calls that get the same answer for the same reason.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The reason.
    pub comment: String,
    /// The one architecture that has these calls, where not all do.
    #[serde(default)]
    pub arch: Option<Arch>,
    /// Names of the calls.
    pub syscalls: Vec<String>,
    /// What depends on the arguments; the first rule that holds decides.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// The answer where no rule decides.
    pub action: Action,
}

/// An answer that depends on the arguments.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What the numbers mean, where that helps.
    #[serde(default)]
    pub comment: Option<String>,
    /// The answer where all conditions hold.
    pub action: Action,
    /// The conditions, at least one.
    pub when: Vec<Condition>,
}

/// What the kernel does with a call.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Runs it.
    Allow,
    /// Answers 0 without running it.
    Succeed,
    /// Answers an error without running it.
    Errno(Errno),
    /// Asks the process that holds the filter's listener (seccomp_unotify(2)).
    Notify,
    /// Ends the whole process with `SIGSYS`.
    KillProcess,
}

/// The errors that profiles may answer, by their numbers, which both architectures share.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq)]
#[serde(rename_all = "UPPERCASE")]
#[repr(u16)]
#[allow(missing_docs, reason = "errno(3) has them")]
pub enum Errno {
    Eperm = 1,
    Enomem = 12,
    Enodev = 19,
    Einval = 22,
    Enosys = 38,
    Enoprotoopt = 92,
    Eprotonosupport = 93,
    Eopnotsupp = 95,
    Eafnosupport = 97,
}

impl Profile {
    /// Reads a profile and checks all that does not depend on how it is compiled.
    pub fn parse(json: &str) -> Result<Self, Error> {
        let profile: Self = serde_json::from_str(json)?;
        profile.groups.iter().try_for_each(Group::check)?;
        for arch in Arch::ALL {
            profile.check_names(arch)?;
        }
        Ok(profile)
    }

    /// The groups that apply to an architecture.
    pub fn groups_for(&self, arch: Arch) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(move |group| group.arch.is_none_or(|only| only == arch))
    }

    fn check_names(&self, arch: Arch) -> Result<(), Error> {
        let known: HashSet<_> = arch.syscalls().map(|(name, _)| name).collect();
        let mut seen = HashSet::new();
        for name in self.groups_for(arch).flat_map(|group| &group.syscalls) {
            let name = name.clone();
            if !known.contains(name.as_str()) {
                return Err(Error::UnknownSyscall { name, arch });
            }
            if !seen.insert(name.clone()) {
                return Err(Error::NamedTwice { name, arch });
            }
        }
        Ok(())
    }
}

impl Group {
    fn check(&self) -> Result<(), Error> {
        let first = self.syscalls.first().cloned();
        if self.comment.trim().is_empty() {
            let first = first.unwrap_or_default();
            return Err(Error::NoComment { first });
        }
        let Some(name) = first else {
            let comment = self.comment.clone();
            return Err(Error::NoSyscalls { comment });
        };
        for rule in &self.rules {
            if rule.when.is_empty() {
                return Err(Error::Unconditional { name });
            }
            for condition in &rule.when {
                condition.check().map_err(|why| Error::Condition {
                    name: name.clone(),
                    arg: condition.arg,
                    why,
                })?;
            }
        }
        Ok(())
    }
}

impl Action {
    /// The value that a filter returns for it, `SECCOMP_RET_*` of `linux/seccomp.h` with its data.
    pub const fn code(self) -> u32 {
        const ERRNO: u32 = 0x0005_0000;
        match self {
            Self::Allow => 0x7fff_0000,
            // An "error" of 0 is how a filter makes a call do nothing and return 0.
            Self::Succeed => ERRNO,
            Self::Errno(errno) => ERRNO | errno as u32,
            Self::Notify => 0x7fc0_0000,
            Self::KillProcess => 0x8000_0000,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("allow"),
            Self::Succeed => f.write_str("succeed"),
            Self::Errno(errno) => f.write_str(&format!("{errno:?}").to_uppercase()),
            Self::Notify => f.write_str("notify"),
            Self::KillProcess => f.write_str("kill_process"),
        }
    }
}
