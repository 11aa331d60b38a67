//! Seccomp profiles as JSON, and their compiler to classic BPF.
//!
//! The sandbox's build script turns [`CELL`] and [`SERVICE`] into constants with [`compile_to_rust`]; nothing is
//! parsed or compiled while a job waits. The same code runs in tests, for either architecture on
//! any host, and [`Program::evaluate`] tells what a filter answers without installing it.
//!
//! # A profile
//!
//! ```json
//! {
//!   "comment": "what the profile is for",
//!   "default": { "errno": "ENOSYS" },
//!   "foreign": "kill_process",
//!   "groups": [
//!     { "comment": "why", "action": "allow", "syscalls": ["read", "write"] },
//!     { "comment": "why", "action": "allow", "arch": "x86_64", "syscalls": ["open"] },
//!     {
//!       "comment": "why",
//!       "syscalls": ["clone"],
//!       "rules": [
//!         {
//!           "action": "allow",
//!           "when": [{ "arg": 0, "width": "dword", "op": "masked_eq", "mask": "0x7e020000", "value": 0 }]
//!         }
//!       ],
//!       "action": { "errno": "EPERM" }
//!     }
//!   ]
//! }
//! ```
//!
//! - An *action* is `"allow"`, `"kill_process"`, `"succeed"` (answer 0, do nothing), `"notify"` (ask
//!   the process that holds the filter's listener) or `{"errno": NAME}`.
//! - `default` answers every number that no group names; `foreign` answers calls that come through
//!   another architecture's entry (`int 0x80`, x32, `AArch32`), where the numbers mean other calls.
//! - A *group* gives its calls one action. Its `rules` come first: the first whose conditions all
//!   hold decides, and the group's action is what remains. `comment` says why and must not be empty.
//! - A group with `arch` is for that architecture alone. Elsewhere every name must exist on both,
//!   so that a misspelt call can't pass as one that the other architecture has.
//! - A *condition* compares argument `arg` (0 to 5) with `value` by `op`: `eq`, `ne`, `lt`, `le`,
//!   `gt`, `ge`, or `masked_eq`, which looks at the bits of `mask` only. `width` is the kernel's
//!   own view of that argument: `dword` where it takes an `int` and drops the upper half (comparing
//!   64 bits there can be evaded, CVE-2019-10063), `qword` where it takes a `long`. Numbers are JSON
//!   numbers or `"0x…"`. All comparisons are unsigned.
//! - A call named twice, an unknown field, an unknown name, a condition that can never hold: all
//!   are errors. A profile that says something else than its author meant is worse than none.
//!
//! # The program
//!
//! Prologue (architecture, x32 bit), then a balanced binary tree over ranges of consecutive numbers
//! with the same answer, then per range a `ret` or the block that looks at the arguments. A linear
//! list costs each call hundreds of instructions and, worse, is emulated as a whole once for every
//! call number when the kernel builds its cache of constant answers at the installation; a tree is
//! seven comparisons deep. Only instructions that this emulation knows are used ahead of an answer
//! that needs no argument, so such answers do end up in the cache
//! (`seccomp_is_const_allow` in the kernel's `kernel/seccomp.c`).
//!
//! # Why seccompiler is the oracle and not the compiler
//!
//! The crate `seccompiler` compiles whole filters only: a linear list with one action for what
//! matches and one for the rest, and no x32 check. Its conditions can't be had alone (the code that
//! emits a rule is private), and cutting them out of a finished filter would depend on the layout
//! of its output. What it does well is to be written independently: `tests/differential.rs` compiles
//! random profiles with both and demands the same answers.
//!
//! Sources: `seccomp(2)`, the kernel's `Documentation/userspace-api/seccomp_filter.rst` and
//! `Documentation/networking/filter.rst`.

mod arch;
mod compile;
mod condition;
mod emit;
mod error;
mod interpret;
mod profile;
mod program;
mod source;
mod syscalls;

pub use arch::Arch;
pub use condition::{Condition, Operator, Width};
pub use error::Error;
pub use interpret::{Outcome, SeccompData};
pub use profile::{Action, Errno, Group, Profile, Rule};
pub use program::{Instruction, Program};
pub use source::compile_to_rust;

/// The profile of a job's cell, `seccomp/cell.json`.
pub const CELL: &str = include_str!("../cell.json");

/// The second filter of a job, `seccomp/job.json`: what the job is answered and the cell's PID 1 is
/// not.
pub const JOB: &str = include_str!("../job.json");

/// The profile of a service, `seccomp/service.json`.
pub const SERVICE: &str = include_str!("../service.json");
