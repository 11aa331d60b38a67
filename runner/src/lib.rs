//! The runner: `POST /execute` over the sandbox.
//!
//! It turns requests into cells and what became of them into answers, and keeps two promises:
//! there are never more jobs than slots, and no job outlives whoever it belongs to: its connection,
//! its lease, or the runner itself.
//!
//! Reading order: [`serve()`] (the life of a runner), `http` (its routes), `runner` (who is taken,
//! joined or refused), `execution` (one run, seen by many), `kept` (runs with an id, one `entry`
//! each), `epochs` (who leads), `clock` (when leases run out), `gone` (what is not run again), `log`
//! (what a run has said), `spool` (where its output is), `answer` (how both are told), `slots`, `metrics`, `cgroups` (what running jobs use), `scrape`, `health`.
//!
//! What is decided elsewhere: how a cell is made and how its end is called (`cloister-sandbox`),
//! who may speak and how slowly (`cloister-web`).

mod answer;
mod cells;
mod cgroups;
mod clock;
mod config;
mod entry;
mod epochs;
mod error;
mod execution;
mod gone;
mod health;
mod http;
mod kept;
mod log;
mod metrics;
mod runner;
mod scrape;
mod serve;
mod slots;
mod spool;
#[cfg(test)]
mod tests;

pub use cells::Lost;
pub use config::{Config, ResultLimits};
pub use error::Error;
pub use serve::serve;
pub use spool::SpoolFolder;
