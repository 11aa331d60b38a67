//! Everything that can be wrong with a profile or a program.

use crate::Arch;

/// Why a profile was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not JSON, or not of the schema.
    #[error("the profile does not parse; see the crate's documentation for its schema")]
    Parse(#[from] serde_json::Error),

    /// A group that does not say why it is there.
    #[error("the group of `{first}` has an empty comment; say why these calls get this answer")]
    NoComment {
        /// The first call of the group, or nothing where it has none.
        first: String,
    },

    /// A group for nothing.
    #[error("the group \"{comment}\" names no call; delete it or name one")]
    NoSyscalls {
        /// The group's comment.
        comment: String,
    },

    /// Two groups, or two places in one, want to answer the same call.
    #[error("`{name}` is named twice for {arch}; keep it in one group")]
    NamedTwice {
        /// The call.
        name: String,
        /// Where both apply.
        arch: Arch,
    },

    /// A name that the architecture's table does not have.
    #[error(
        "{arch} has no call `{name}`; correct the name, or give its group the `arch` that has it"
    )]
    UnknownSyscall {
        /// The name as written.
        name: String,
        /// The architecture that was asked.
        arch: Arch,
    },

    /// A rule without conditions would decide always.
    #[error("a rule for `{name}` has no conditions; make its action the group's")]
    Unconditional {
        /// The first call of the group.
        name: String,
    },

    /// A condition that says something impossible.
    #[error("a condition on argument {arg} of `{name}` is wrong: {why}")]
    Condition {
        /// The first call of the group.
        name: String,
        /// The argument's index as written.
        arg: u8,
        /// What is wrong and how to mend it.
        why: &'static str,
    },

    /// An architecture that no table exists for.
    #[error("there is no seccomp filter for `{0}`; build for x86_64 or aarch64")]
    UnsupportedArch(String),

    /// A program that the kernel would not load.
    #[error("instruction {at} of {len} is not one that the kernel would load: {why}")]
    Malformed {
        /// Index of the instruction.
        at: usize,
        /// Length of the program.
        len: usize,
        /// What is wrong.
        why: &'static str,
    },
}
