//! The wire types of Cloister, shared by both services and the client.
//!
//! Requests are read strictly: [`JobRequest`] and [`ExecuteRequest`] collect *every* problem of a
//! body with its JSON pointer, instead of stopping at the first, and an unknown field is a problem
//! (a misspelt limit must not pass silently). Answers are read leniently, so that an older client
//! understands a newer service.
//!
//! There is no I/O here and no policy beyond the ranges of the contract; what an operator allows
//! comes in as [`Bounds`].

mod batch;
mod duration;
mod encode;
mod event;
mod fields;
mod health;
mod job;
mod json;
mod lease;
mod limits;
mod operate;
mod outcome;
mod problem;
mod request;
mod size;
mod task;
mod timestamp;

pub use batch::{BatchRequest, MAX_BATCH};
pub use duration::Seconds;
pub use encode::{Base64Encoder, TextEncoder, Utf8Checker};
pub use event::{Event, Payload};
pub use health::{Enforcement, RunnerHealth, RunnerState, Slots};
pub use job::{Job, JobList, Past};
pub use json::body_problem;
pub use lease::{
    CANCELS, KnownExecution, KnownExecutions, LEASES, LeaseRequest, MAX_EPOCH, MAX_LEASE,
    MAX_RENEWED,
};
pub use limits::{Bounds, Limits};
pub use operate::{PauseOrder, PauseState, RetentionState, RunnerInfo, RunnerList, RunnerOrder};
pub use outcome::{Outcome, Output, OutputBytes, Reason, Status, Usage};
pub use problem::{FieldProblem, Kind, Problem};
pub use request::{ExecuteRequest, JobRequest};
pub use size::ByteSize;
pub use task::{Network, Program, Stdin, Task};
pub use timestamp::Timestamp;
