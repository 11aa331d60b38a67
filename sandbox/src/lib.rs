//! One job in one cell, from Linux primitives. No async runtime, no HTTP, no policy.
//!
//! Three processes and one thread, each with as little power as its task allows:
//!
//! ```text
//!   service (no privileges)             launcher (privileged, single-threaded)
//!   ┌──────────────────────────┐        ┌──────────────────────────────────┐
//!   │ engine thread            │ prepare│ lives in the prepared root       │
//!   │  epoll over every cell:  ├───────►│ makes cgroup, pipes, namespaces  │
//!   │  pidfd, timer, pipes     │◄───────┤ hands out descriptors            │
//!   └───────────┬──────────────┘  ready └───────────────┬──────────────────┘
//!               │ start (command, environment)          │ clone3
//!               │                       ┌───────────────▼──────────────────┐
//!               └──────────────────────►│ cell: PID 1 confines itself,     │
//!                started, exited        │ forks the job, reaps, reports    │
//!                                       └──────────────────────────────────┘
//! ```
//!
//! - [`Launcher::fork`] splits the launcher off while the process is still single-threaded.
//! - [`Confinement::enter`] then confines the service: a seccomp filter and a Landlock domain of its own.
//! - [`Engine::start`] then supervises cells from a thread of its own, and turns what the kernel
//!   recorded into an [`Outcome`](cloister_api::Outcome).
//! - A command never passes through the launcher: the engine hands it to the cell's PID 1, which is
//!   confined already. The privileged side parses nothing that a user wrote.
//!
//! Reading order: `launcher` (how a cell is made), `cell` (what happens inside, step by step),
//! `cgroup` (limits and their records), `engine` (how it ends and what it is called), `residue` (what no
//! cgroup counts).

mod apparmor;
mod cell;
mod cgroup;
mod engine;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod host;
mod launcher;
mod layers;
mod mounts;
mod network;
mod privilege;
mod residue;
mod rlimits;
mod service;
#[cfg(feature = "steps")]
pub mod steps;
mod sys;
mod wire;

pub use apparmor::{CELL_PROFILE, USER_NAMESPACE_PROFILE};
pub use cgroup::{Pressure, Stats};
pub use engine::{Collector, Engine, Observer, Resume, Room, Stdio, Stream, Ticket};
pub use error::Error;
pub use host::Host;
pub use launcher::{Config, Launcher};
pub use privilege::{SERVICE_UID, drop_privileges, private_store};
pub use service::{Confinement, Needs, Spool, service_enforcement};
