//! What coordinator and runner say to each other of the executions that they both know.
//!
//! An execution with a lease is ended by its runner when the lease runs out. The coordinator renews
//! those of a runner together, with one `POST /leases`, and learns by the answer what the runner
//! knows of each.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    Problem, Seconds, Status, Timestamp,
    fields::{integer, needed},
    limits::positive_duration,
    request::parse,
};

/// The longest lease.
pub const MAX_LEASE: Seconds = Seconds::new(24 * 3600);
/// The highest number of a term, which every store and every reader of JSON can keep.
pub const MAX_EPOCH: u64 = i64::MAX.unsigned_abs();
/// Executions renewed by one request, at most: a runner has far fewer slots.
pub const MAX_RENEWED: usize = 100_000;

/// What a runner has that ones before it had not, told at `/health` as `features`: it knows `/leases`,
/// `cluster` beside `epoch`, and an `epoch` where an execution is ended.
pub const LEASES: &str = "leases";
/// Told likewise: what is ended with `acknowledge=false` keeps its result. Who cancels a job can't know
/// whether it has just ended by itself, and would lose how.
pub const CANCELS: &str = "cancels";

/// The body of `POST /leases`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// Whose term it is: the coordinators that share a store.
    pub cluster: Uuid,
    /// The term of the coordinator that sends it.
    pub epoch: u64,
    /// How long the runner may go on with each without hearing of it again.
    pub lease: Seconds,
    /// The runner's clock, as in [`ExecuteRequest`](crate::ExecuteRequest).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<u64>,
    /// Which.
    pub executions: Vec<Uuid>,
}

impl LeaseRequest {
    /// Reads a body, or says everything that is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        parse(body, |fields| Self {
            cluster: needed(fields, "cluster", uuid).unwrap_or_default(),
            epoch: needed(fields, "epoch", epoch).unwrap_or_default(),
            lease: needed(fields, "lease", |v| positive_duration(v, MAX_LEASE, ""))
                .unwrap_or(MAX_LEASE),
            as_of: fields.read("as_of", clock),
            executions: needed(fields, "executions", uuids).unwrap_or_default(),
        })
    }
}

/// A UUID.
pub(crate) fn uuid(value: &Value) -> Result<Uuid, String> {
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| "must be a UUID".into())
}

/// The number of a term.
pub(crate) fn epoch(value: &Value) -> Result<u64, String> {
    integer(value, 0..=MAX_EPOCH.cast_signed()).map(i64::unsigned_abs)
}

/// A runner's clock.
pub(crate) fn clock(value: &Value) -> Result<u64, String> {
    integer(value, 0..=i64::MAX).map(i64::unsigned_abs)
}

fn uuids(value: &Value) -> Result<Vec<Uuid>, String> {
    let items = value.as_array().ok_or("must be an array of UUIDs")?;
    if items.len() > MAX_RENEWED {
        return Err(format!("must hold at most {MAX_RENEWED} UUIDs"));
    }
    let read = |(index, item)| uuid(item).map_err(|detail| format!("item {index} {detail}"));
    items.iter().enumerate().map(read).collect()
}

/// An execution with an id, as its runner knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownExecution {
    /// Which.
    pub execution_id: Uuid,
    /// Which attempt of its job, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// `running`, also while its cell is being made; or how it ended, until that is acknowledged.
    pub status: Status,
    /// Absent while its cell is being made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
}

/// The answer of `POST /leases`, and of `GET /executions` (of all that it knows).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownExecutions {
    /// The runner's life.
    pub boot_id: Uuid,
    /// Those that it knows.
    pub executions: Vec<KnownExecution>,
    /// Those that were named and that it knows nothing of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<Uuid>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_is_read_strictly() {
        let id = Uuid::from_u128(7);
        let request = LeaseRequest {
            cluster: Uuid::from_u128(1),
            epoch: 3,
            lease: Seconds::new(60),
            as_of: Some(7),
            executions: vec![id],
        };
        let body = serde_json::to_vec(&request).unwrap();
        assert_eq!(LeaseRequest::parse(&body).unwrap(), request);
        for (body, pointers) in [
            ("{}", vec!["/cluster", "/epoch", "/lease", "/executions"]),
            (
                r#"{"cluster": 1, "epoch": -1, "lease": 0, "as_of": -1, "executions": [1]}"#,
                vec!["/cluster", "/epoch", "/lease", "/as_of", "/executions"],
            ),
        ] {
            let problem = LeaseRequest::parse(body.as_bytes()).unwrap_err();
            let found: Vec<_> = problem.errors.iter().map(|e| e.pointer.as_str()).collect();
            assert_eq!(found, pointers, "{body}");
        }
    }
}
