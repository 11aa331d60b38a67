//! The audit log: one line for everything that somebody asked to be changed, with target `audit`.
//!
//! It says who (the other end of the connection, and which token by its fingerprint), what, of which
//! job or runner, and what came of it as an HTTP status. Never a token, a command or an environment.
//! Refused credentials are told by the guard, which lets nothing of them through to here.

use cloister_api::{Kind, Problem};
use cloister_web::{Caller, Fingerprint};
use http::StatusCode;
use uuid::Uuid;

/// A job was handed in.
pub(crate) const SUBMIT: &str = "submit";
/// A job's end was asked for.
pub(crate) const CANCEL: &str = "cancel";
/// A runner is to get nothing new.
pub(crate) const DRAIN_RUNNER: &str = "drain_runner";
/// A runner is to get jobs again.
pub(crate) const RESUME_RUNNER: &str = "resume_runner";
/// Nothing is to be dispatched.
pub(crate) const PAUSE: &str = "pause";
/// Jobs are to be dispatched again.
pub(crate) const RESUME: &str = "resume";
/// Ended jobs are to be removed by the clock again.
pub(crate) const RESUME_RETENTION: &str = "resume_retention";

/// What of a runner's name is told: it is whatever a client wrote.
const MAX_NAME: usize = 300;

/// What something was done to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject {
    job: Option<Uuid>,
    runner: Option<String>,
}

impl Subject {
    /// All of the coordinator, or what is not known.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// A job.
    pub(crate) fn job(id: Uuid) -> Self {
        Self { job: Some(id), runner: None }
    }

    /// A runner, by its name.
    pub(crate) fn runner(name: &str) -> Self {
        Self { job: None, runner: Some(name.chars().take(MAX_NAME).collect()) }
    }
}

/// Writes the line. `action` is a word that programs can look for.
pub(crate) fn record(caller: Caller, action: &'static str, subject: &Subject, status: u16) {
    tracing::info!(
        target: "audit",
        peer = caller.peer.map(display),
        token = caller.token.as_ref().map_or("none".to_owned(), Fingerprint::to_string),
        action,
        job_id = subject.job.map(display),
        runner = subject.runner,
        status,
        "audit"
    );
}

/// Does what a client asked for and records it, both also when the client hangs up meanwhile: it must
/// not be able to have something done without a line. `outcome` tells to which jobs it was done,
/// where that is known only then, each of which has its line; and the status.
pub(crate) async fn recorded<T: Send + 'static>(
    caller: Caller,
    action: &'static str,
    subject: Subject,
    doing: impl Future<Output = Result<T, Problem>> + Send + 'static,
    outcome: fn(&T) -> (Vec<Uuid>, StatusCode),
) -> Result<T, Problem> {
    let task = tokio::spawn(async move {
        let result = doing.await;
        match &result {
            Ok(done) => {
                let (jobs, status) = outcome(done);
                if jobs.is_empty() {
                    record(caller, action, &subject, status.as_u16());
                }
                for job in jobs {
                    record(caller, action, &Subject::job(job), status.as_u16());
                }
            }
            Err(problem) => record(caller, action, &subject, problem.status),
        }
        result
    });
    // It can't panic and live: what is left is a runtime that ends.
    let over = |_| Problem::new(Kind::Unavailable, "the coordinator is shutting down");
    task.await.map_err(over)?
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use cloister_tests::Lines;
    use futures_util::FutureExt;
    use tokio::{sync::Notify, time::timeout};

    use super::*;

    #[tokio::test]
    async fn who_hangs_up_meanwhile_is_recorded_all_the_same() {
        let (lines, _guard) = Lines::listen();
        let (id, go_on, done) = (Uuid::now_v7(), Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (wait, tell) = (Arc::clone(&go_on), Arc::clone(&done));
        let doing = async move {
            wait.notified().await;
            tell.notify_one();
            Ok(id)
        };
        let outcome = |id: &Uuid| (vec![*id], StatusCode::CREATED);
        let mut request =
            Box::pin(recorded(Caller::default(), SUBMIT, Subject::none(), doing, outcome));
        assert!((&mut request).now_or_never().is_none());
        // The connection is gone, and its handler with it.
        drop(request);
        go_on.notify_one();
        timeout(Duration::from_secs(20), done.notified()).await.expect("it goes on");
        let line = lines.line("audit");
        assert_eq!((&*line["job_id"], &*line["status"]), (&*id.to_string(), "201"), "{line:?}");
        assert_eq!((&*line["action"], &*line["token"]), (SUBMIT, "none"));
    }
}
