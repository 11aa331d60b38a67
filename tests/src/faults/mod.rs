//! Fault injection: real services on a network and a disk of the harness's own, load, faults that a
//! seed decides, and a checker that knows what every job did. The parts of the program `faults`; see
//! docs/faults.md.
//!
//! - `net`, `disk`, `process`: what faults are made on.
//! - `jobs`, `load`, `recorder`, `watch`: who does and sees what; all of it is in the
//!   `history`.
//! - `plan`, `inject`: the faults.
//! - `check`: what must hold.

mod check;
mod cleanup;
mod disk;
mod failover;
mod history;
mod http;
mod inject;
mod jobs;
mod load;
mod net;
mod plan;
mod postgres;
mod process;
mod recorder;
mod report;
mod restart;
mod rng;
mod run;
mod stage;
mod tables;
mod watch;
mod world;

pub use self::{
    cleanup::{ask, sweep},
    failover::{Failover, failover},
    plan::Kind,
    report::Report,
    restart::{Drain, Restart, drain, restart},
    run::{Run, run},
    world::Store,
};
