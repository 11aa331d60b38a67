//! What the end-to-end tests share. They use the built program as anybody would, by its command line
//! and by HTTP, so that the same binaries run natively and in the virtual-machine lab.
//!
//! - [`Service`]: a running `cloister up`, `runner` or `coordinator`, ended with everything of it
//!   when dropped, also when a test fails.
//! - [`execute`]: one job, and its result.
//! - [`Postgres`]: a PostgreSQL server.
//! - [`Lines`]: what is logged; for the services' own tests, which run in the same process.
//! - [`census`]: what is on the machine that a cell could leave behind.
//! - [`cleanup`]: that harnesses leave nothing, whatever happens to them.
//! - [`attack`]: the attack suite's harness.
//! - [`host`]: kernel memory and counters of the whole machine.
//! - [`endurance`]: many jobs, and what they leave; also as a program.
//! - [`kernel_fuzz`]: random system calls in cells, and the kernel memory that they leave uncharged.
//! - [`faults`]: faults made on purpose while jobs run, and what must hold after them; also as a program.

pub mod attack;
pub mod census;
pub mod cleanup;
mod client;
pub mod endurance;
pub mod faults;
pub mod host;
mod jobs;
pub mod kernel_fuzz;
mod log;
mod postgres;
mod service;

pub use client::{Client, Response};
pub use jobs::{finished, until};
pub use log::Lines;
pub use postgres::Postgres;
pub use service::{Scratch, Service, cloister, run};

use serde_json::{Value, json};

/// Runs one task on a runner, and comes back with its result. `task` is a request's body.
pub fn execute(runner: &Service, task: &Value) -> Value {
    let response = runner.client().post("/execute", task);
    assert_eq!(response.status, 200, "{task} was answered {}", response.text());
    response.json()
}

/// A shell command with limits.
pub fn shell(command: &str, limits: &Value, timeout: f64) -> Value {
    json!({ "command": command, "limits": limits, "timeout": timeout })
}

/// A Python program.
pub fn python(program: &str, limits: &Value, timeout: f64) -> Value {
    json!({ "argv": ["/usr/bin/python3", "-c", program], "limits": limits, "timeout": timeout })
}

/// What matters of a result, for comparing: status, reason, exit code, signal.
pub fn verdict(result: &Value) -> (&str, Option<&str>, Option<i64>, Option<i64>) {
    (
        result["status"].as_str().unwrap_or_default(),
        result["reason"].as_str(),
        result["exit_code"].as_i64(),
        result["signal"].as_i64(),
    )
}

/// How a kill by the platform is told.
pub fn killed(reason: &str) -> (&str, Option<&str>, Option<i64>, Option<i64>) {
    ("failed", Some(reason), Some(137), Some(9))
}

/// How a command that ended well is told.
pub const COMPLETED: (&str, Option<&str>, Option<i64>, Option<i64>) =
    ("completed", None, Some(0), None);

/// Whether this runs on an emulated processor, where nothing can be said of times.
pub fn emulated() -> bool {
    std::env::var_os("CLOISTER_LAB").is_some()
}
