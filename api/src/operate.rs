//! What operators ask of a coordinator, and what it tells of its runners.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Problem, RunnerHealth, Timestamp,
    fields::{needed, text},
    request::parse,
};

/// Bytes of a reason: people read it in one line.
const MAX_REASON: usize = 1024;
/// Bytes of a runner's URL.
const MAX_URL: usize = 2048;

/// The body of `POST /runners/drain` and `POST /runners/resume`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerOrder {
    /// The runner's URL, as `GET /runners` tells it.
    pub runner: String,
}

impl RunnerOrder {
    /// Reads a body, or says everything that is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        parse(body, |fields| Self {
            runner: needed(fields, "runner", |v| bounded(v, MAX_URL)).unwrap_or_default(),
        })
    }
}

/// The body of `POST /pause`, which may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseOrder {
    /// Why, for those whose jobs wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl PauseOrder {
    /// Reads a body, or says everything that is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        parse(body, |fields| Self { reason: fields.read("reason", |v| bounded(v, MAX_REASON)) })
    }
}

/// Something that is not empty and of so many bytes at most.
fn bounded(value: &Value, most: usize) -> Result<String, String> {
    let text = text(value)?;
    if text.trim().is_empty() || text.len() > most {
        return Err(format!("must be 1 to {most} bytes long, and not blank"));
    }
    Ok(text)
}

/// The answer of `POST /pause` and `POST /resume`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseState {
    /// Whether nothing is dispatched.
    pub paused: bool,
    /// Why, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The answer of `POST /retention/resume`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionState {
    /// Whether ended jobs are kept longer than the clock says, since it went forward.
    pub held: bool,
}

/// The answer of `GET /runners`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunnerList {
    /// In the order of their URLs.
    pub runners: Vec<RunnerInfo>,
}

/// A runner as its coordinator knows it; the answer of `POST /runners/drain` and `/runners/resume` too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunnerInfo {
    /// Its name.
    pub url: String,
    /// Whether it answers.
    pub up: bool,
    /// Whether it is still listed; one that is not finishes what it has.
    pub listed: bool,
    /// Attempts that it has from here.
    pub running: usize,
    /// Whether an operator drains it.
    #[serde(default)]
    pub drained: bool,
    /// `closed` while it gets work, `open` while it rests after failures, `half_open` while it is tried
    /// with one job at a time. A word rather than a type: a later version may know more.
    #[serde(default)]
    pub breaker: String,
    /// Until when its breaker is open, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens_until: Option<Timestamp>,
    /// Why it gets nothing now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// By how many milliseconds its clock is ahead of the coordinator's, or behind where it is negative;
    /// absent where it does not tell its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_skew_ms: Option<i64>,
    /// How far off that may be: half of the time that its answer took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_uncertainty_ms: Option<i64>,
    /// Cells that it could not make, since this coordinator knows it.
    pub failed_cells: u64,
    /// The same since it last made one.
    pub failed_cells_in_a_row: u64,
    /// Its last report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<RunnerHealth>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(problem: &Problem) -> Vec<&str> {
        problem.errors.iter().map(|fault| fault.pointer.as_str()).collect()
    }

    #[test]
    fn orders_are_read_strictly() {
        let order = RunnerOrder::parse(br#"{"runner": "http://a:1"}"#).unwrap();
        assert_eq!(order.runner, "http://a:1");
        let long = format!(r#"{{"runner": "{}"}}"#, "a".repeat(MAX_URL + 1));
        for (body, at) in [
            ("{}", &["/runner"][..]),
            (r#"{"runner": null}"#, &["/runner"]),
            (r#"{"runner": " "}"#, &["/runner"]),
            (r#"{"runner": "a", "runner": "b"}"#, &["/runner"]),
            (r#"{"runer": "a"}"#, &["/runner", "/runer"]),
            (&long, &["/runner"]),
        ] {
            let problem = RunnerOrder::parse(body.as_bytes()).unwrap_err();
            assert_eq!(pointers(&problem), at, "{body}");
        }

        assert_eq!(PauseOrder::parse(b"{}").unwrap(), PauseOrder::default());
        let order = PauseOrder::parse(br#"{"reason": "new disks"}"#).unwrap();
        assert_eq!(order.reason.as_deref(), Some("new disks"));
        for body in [r#"{"reason": ""}"#, r#"{"reason": null}"#, r#"{"reason": 1}"#] {
            let problem = PauseOrder::parse(body.as_bytes()).unwrap_err();
            assert_eq!(pointers(&problem), ["/reason"], "{body}");
        }
        let problem = PauseOrder::parse(br#"{"why": "x"}"#).unwrap_err();
        assert_eq!(pointers(&problem), ["/why"]);
    }

    #[test]
    fn an_older_coordinators_runners_are_understood() {
        let json = r#"{"url": "http://a:1", "up": true, "listed": true, "running": 1,
            "failed_cells": 0, "failed_cells_in_a_row": 0, "of_a_later_version": 1}"#;
        let runner: RunnerInfo = serde_json::from_str(json).unwrap();
        assert!(!runner.drained && runner.breaker.is_empty());
    }
}
