//! What clients were told, what they saw, and whether that is what was promised.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use cloister_api::{OutputBytes, Reason, Status};
use tokio::time::Instant;
use uuid::Uuid;

use super::{execution::Run, plan::Summary, run::LEASE};
use crate::{
    engine::Engine,
    store::{Store, Stream},
};

/// What was on its way to a runner when a job was called off can arrive for so long: a lease.
const CALLED_OFF: Duration = LEASE;

/// A job that was acknowledged.
struct Promise {
    /// Unknown where it was acknowledged before it was made.
    id: Option<Uuid>,
    /// It asked for retries.
    may_repeat: bool,
    /// How its command ends if it is let.
    code: i32,
    /// Somebody asked for its end.
    cancelled: bool,
    /// And was told then that it will end.
    called_off: Option<Instant>,
}

/// How a job was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) attempt: u32,
    pub(super) status: Status,
    /// By which coordinator.
    pub(super) at: usize,
}

impl Seen {
    fn rank(self) -> (u32, u8) {
        let rank = match self.status {
            Status::Pending => 0,
            Status::Running => 1,
            _ => 2,
        };
        (self.attempt, rank)
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Story {
    promises: BTreeMap<String, Promise>,
    seen: HashMap<Uuid, Seen>,
    faults: Vec<String>,
    looks: u64,
    terms: u64,
    /// How often coordinators counted a job's end.
    ends: HashMap<Uuid, usize>,
    pub(super) broken: Vec<String>,
}

impl Story {
    pub(super) fn acknowledged(
        &mut self,
        key: &str,
        id: Option<Uuid>,
        may_repeat: bool,
        code: i32,
    ) {
        let promise = Promise { id, may_repeat, code, cancelled: false, called_off: None };
        self.promises.insert(key.into(), promise);
    }

    pub(super) fn cancelled(&mut self, key: &str) {
        if let Some(promise) = self.promises.get_mut(key) {
            promise.cancelled = true;
        }
    }

    pub(super) fn called_off(&mut self, key: &str) {
        if let Some(promise) = self.promises.get_mut(key) {
            promise.called_off = Some(Instant::now());
        }
    }

    pub(super) fn fault(&mut self, what: String) {
        self.faults.push(what);
    }

    pub(super) fn ids(&self) -> Vec<Uuid> {
        self.promises.values().filter_map(|promise| promise.id).collect()
    }

    pub(super) fn saw(&mut self, id: Uuid, seen: Seen, when: Duration) {
        self.looks += 1;
        if let Some(before) = self.seen.insert(id, seen) {
            let back = seen.rank() < before.rank();
            let changed = before.status.ended() && seen.status != before.status;
            if back || changed {
                self.broken.push(format!("{id} went from {before:?} to {seen:?} at {when:?}"));
            }
        }
    }

    /// A coordinator's life is over, or all of it is.
    pub(super) fn life(&mut self, engine: &Engine) {
        self.terms += engine.terms.load(Relaxed);
        for id in engine.metrics.counted.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            *self.ends.entry(*id).or_default() += 1;
        }
    }

    /// What happened, or everything that was broken.
    pub(super) async fn judge(
        mut self,
        store: &dyn Store,
        runs: &[Run],
        began: Instant,
    ) -> Result<Summary, Vec<String>> {
        let mut by_key: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
        for run in runs {
            by_key.entry(&run.key).or_default().push(run);
        }
        let mut sum = Summary {
            jobs: self.promises.len() as u64,
            executions: runs.len() as u64,
            terms: self.terms,
            looks: self.looks,
            ..Summary::default()
        };
        let mut broken = std::mem::take(&mut self.broken);
        for (id, count) in self.ends.iter().filter(|(_, count)| **count > 1) {
            broken.push(format!("the end of {id} was counted {count} times"));
        }
        for (key, promise) in &self.promises {
            let none = Vec::new();
            let runs = by_key.get(key.as_str()).unwrap_or(&none);
            let tell = |what: String| {
                let at = |t: Instant| t.duration_since(began).as_secs_f64();
                let runs = runs.iter().map(|run| (at(run.began), run.ended.map(at), run.finished));
                format!("{key}: {what}; executions {:?}", runs.collect::<Vec<_>>())
            };
            let found = match promise.id {
                Some(id) => store.get(id).await.ok().flatten(),
                None => match store.find_key(String::new(), key.clone()).await {
                    Ok(Some((id, _))) => store.get(id).await.ok().flatten(),
                    _ => None,
                },
            };
            let Some(job) = found else {
                broken.push(tell("was acknowledged and is lost".into()));
                continue;
            };
            if !job.status.ended() {
                broken.push(tell(format!("stays {}", job.status.as_str())));
                continue;
            }
            if runs.len() > 1 && !promise.may_repeat {
                broken.push(tell(format!("was executed {} times", runs.len())));
            }
            for (one, next) in runs.iter().zip(runs.iter().skip(1)) {
                if one.ended.is_none_or(|end| end > next.began) {
                    broken.push(tell("two attempts ran at once".into()));
                }
            }
            if let Some(at) = promise.called_off
                && runs.iter().any(|run| run.began > at + CALLED_OFF)
            {
                broken.push(tell(format!(
                    "was executed although it was called off at {:.3}",
                    at.duration_since(began).as_secs_f64()
                )));
            }
            let finished = runs.iter().any(|run| run.finished);
            match (job.status, job.reason) {
                (Status::Completed, _) => {
                    sum.completed += 1;
                    let printed = match (&job.stdout, job.output_bytes) {
                        (Some(stdout), _) => *stdout == *key,
                        // Its runner was gone before it had handed it over.
                        (None, Some(OutputBytes { stdout: 0, .. })) => {
                            job.stdout_truncated == Some(true) && job.message.is_some()
                        }
                        (None, _) => {
                            let row = store.output(job.job_id, job.attempt, Stream::Stdout, 0);
                            row.await.ok().flatten().as_deref() == Some(key.as_bytes())
                        }
                    };
                    if !finished || promise.code != 0 || !printed {
                        broken.push(tell("is completed, and its command says otherwise".into()));
                    }
                }
                (Status::Failed, Some(Reason::ExitCode)) => {
                    sum.failed += 1;
                    if !finished || job.exit_code != Some(promise.code) {
                        broken.push(tell("failed, and its command says otherwise".into()));
                    }
                }
                (Status::Failed, Some(Reason::RunnerLost)) => sum.lost_runners += 1,
                (Status::Failed, Some(Reason::SandboxError)) => sum.failed += 1,
                (Status::Cancelled, _) if promise.cancelled => {
                    sum.cancelled += 1;
                    if job.started_at.is_none() && job.attempts.is_empty() && !runs.is_empty() {
                        broken.push(tell("was told as cancelled before it began".into()));
                    }
                }
                (status, reason) => {
                    broken.push(tell(format!("ended as {status:?}, {reason:?}")));
                }
            }
            sum.repeated += u64::from(job.attempt - 1);
        }
        if broken.is_empty() {
            return Ok(sum);
        }
        broken.extend(self.faults.into_iter().map(|fault| format!("fault {fault}")));
        Err(broken)
    }
}
