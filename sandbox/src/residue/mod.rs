//! Kernel memory that jobs make the kernel allocate and that no cgroup counts: the last line of defence
//! against it, behind what is refused and what is bounded.
//!
//! Some allocations are charged to nobody, file locks for one: millions of them are hundreds of megabytes,
//! and the memory limit of the job that took them sees nothing. A thread of its own looks how
//! much memory of the host no class accounts for, while jobs run and only then. If that grew by as much as
//! would matter, it looks who did it, and tells the engine of each cell that holds more than its memory
//! limit leaves it.
//!
//! The watcher ends a cell only on proof. It logs growth that it cannot attribute, and reports it as a
//! metric.
//!
//! - [`meminfo`]: how much memory nobody accounts for; [`vmstat`]: whether that may have grown; [`locks`]: whose
//!   file locks there are; [`sockets`]: what is held for a cell's sockets; [`attribute`]: who is to be ended.
//!   All of these are pure.
//! - [`host`]: reading `/proc`; [`hold`]: holding cells back meanwhile; [`watcher`]: the thread.

mod attribute;
mod hold;
mod host;
mod locks;
mod meminfo;
mod sockets;
mod vmstat;
mod watcher;

pub(crate) use attribute::Held;
pub(crate) use host::{Gauge, report};
pub(crate) use watcher::{Job, Jobs, Watcher};
