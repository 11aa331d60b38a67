//! The two seccomp filters, compiled by `build.rs`: [`CELL`] of `seccomp/cell.json`, which PID 1
//! installs and the job inherits, and [`JOB`] of `seccomp/job.json`, which the job installs on top.
#![allow(clippy::unreadable_literal, reason = "made by build.rs")]

include!(concat!(env!("OUT_DIR"), "/filter.rs"));
