//! Records of the store that cannot be read.
//!
//! Such a record is an error of that one job, and never of the store: whoever meets it leaves it out, and
//! goes on with the others. It is left as it is, counted, and named at `/health`, until it can be read
//! again or is gone. A job that has not ended is then taken up, as if it had just come.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use super::{Engine, lock};
use crate::store::{StoreError, Unreadable};

/// How often records are tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// How many are tried at once.
const RETRIED: usize = 10;
/// How many are kept in mind; what is found beyond it is left out all the same.
const MOST: usize = 10_000;
/// How many are named before the rest is counted.
const NAMED: usize = 3;

/// Records that were found to be unreadable, and why.
#[derive(Default)]
pub(super) struct Quarantine(Mutex<Known>);

#[derive(Default)]
struct Known {
    records: BTreeMap<Uuid, String>,
    /// The last one that was tried again, and when.
    retried: Option<(Uuid, Instant)>,
}

impl Quarantine {
    fn put(&self, found: &Unreadable) -> bool {
        let mut known = lock(&self.0);
        let new = !known.records.contains_key(&found.job) && known.records.len() < MOST;
        if new {
            known.records.insert(found.job, found.why.clone());
        }
        new
    }

    fn remove(&self, job: Uuid) -> bool {
        lock(&self.0).records.remove(&job).is_some()
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.0).records.len()
    }

    /// What is wrong, for a person.
    pub(super) fn problem(&self) -> Option<String> {
        let known = lock(&self.0);
        let count = known.records.len();
        let named = known.records.iter().take(NAMED).map(|(job, why)| format!("{job} ({why})"));
        let named = named.collect::<Vec<_>>().join("; ");
        Some(match (count, count.saturating_sub(NAMED)) {
            (0, _) => return None,
            (1, _) => format!("the record of a job can't be read, and is left as it is: {named}"),
            (_, more) => {
                let more = if more > 0 { format!("; and {more} more") } else { String::new() };
                format!(
                    "the records of {count} jobs can't be read, and are left as they are: {named}{more}"
                )
            }
        })
    }

    /// Those that are due to be tried again: some at a time, each in its turn.
    fn due(&self) -> Vec<Uuid> {
        let mut known = lock(&self.0);
        let now = Instant::now();
        let (after, recent) = match known.retried {
            Some((last, at)) => (last, now < at + RETRY_INTERVAL),
            None => (Uuid::nil(), false),
        };
        if recent || known.records.is_empty() {
            return Vec::new();
        }
        let later = known.records.keys().filter(|job| **job > after);
        let earlier = known.records.keys().filter(|job| **job <= after);
        let due: Vec<_> = later.chain(earlier).take(RETRIED).copied().collect();
        known.retried = due.last().map(|last| (*last, now));
        due
    }
}

impl Engine {
    /// A record cannot be read: it is left as it is, and known from now on.
    pub(crate) fn unreadable(&self, found: &Unreadable) {
        if self.quarantine.put(found) {
            tracing::error!(job_id = %found.job, error = found.why, "a job's record is left as it is");
        }
    }

    /// The same of what a call to the store was answered; tells whether it was that.
    pub(crate) fn is_unreadable(&self, error: &StoreError) -> bool {
        let StoreError::Record { job, why, .. } = error else { return false };
        self.unreadable(&Unreadable { job: *job, why: why.clone() });
        true
    }

    /// How many records are known to be unreadable.
    pub(crate) fn unreadable_records(&self) -> usize {
        self.quarantine.len()
    }

    /// Tries records again that could not be read. One that can be read now, or is gone, is forgotten
    /// here; a job that has not ended is taken up.
    pub(super) async fn retry_unreadable(self: &Arc<Self>) {
        for job in self.quarantine.due() {
            match self.store.get(job).await {
                Ok(found) => {
                    if self.quarantine.remove(job) {
                        tracing::info!(job_id = %job, "a job's record can be read again, or is gone");
                    }
                    if found.is_some_and(|job| !job.status.ended()) {
                        self.rescan.notify_one();
                    }
                }
                Err(error) if self.is_unreadable(&error) => {}
                // The store's own trouble is noticed by others.
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cloister_api::{Job, JobRequest, Program, Task, Timestamp};
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::{
        Config,
        dispatch::RunnerClient,
        engine::Parts,
        store::{Store, memory::Memory},
        world::Real,
    };

    /// In a time that does not pass by itself.
    async fn until(what: impl Fn() -> bool) {
        let looking = async {
            while !what() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(4 * RETRY_INTERVAL, looking).await.expect("in time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_whose_record_is_repaired_is_taken_up() {
        let store = Arc::new(Memory::new(Uuid::new_v4(), true));
        let request = JobRequest::new(Task::new(Program::Command("true".into())));
        let [bad, good] = [1, 2].map(Uuid::from_u128);
        for id in [bad, good] {
            let job = Job::new(id, Timestamp::now(), request.clone());
            store.submit(job, None, None).await.unwrap();
        }
        store.damage(bad, true);
        let config = Config::default();
        let parts = Parts {
            store: Arc::clone(&store) as Arc<dyn Store>,
            runners: Arc::new(RunnerClient::new(&config)),
            world: Arc::new(Real),
            name: "test".into(),
        };
        let engine = Engine::new(&config, parts).unwrap();
        engine.start();
        until(|| engine.read(|s| s.leads() && s.live(good).is_some())).await;
        assert!(engine.read(|s| s.live(bad).is_none()));
        assert_eq!(engine.unreadable_records(), 1);
        assert!(engine.view(bad).await.is_err());
        let problems = engine.problems();
        let named = |problem: &String| problem.contains(&format!("{bad} (damaged)"));
        assert!(problems.iter().any(named), "{problems:?}");
        // Longer than it takes to be tried again.
        sleep(2 * RETRY_INTERVAL).await;
        assert_eq!(engine.unreadable_records(), 1);

        store.damage(bad, false);
        until(|| engine.read(|s| s.live(bad).is_some())).await;
        assert_eq!(engine.unreadable_records(), 0);
        engine.close().await;
    }

    #[test]
    fn a_few_are_named_and_the_rest_is_counted() {
        let quarantine = Quarantine::default();
        assert_eq!(quarantine.problem(), None);
        let put = |id| {
            let found = Unreadable { job: Uuid::from_u128(id), why: "x".into() };
            quarantine.put(&found)
        };
        assert!(put(1) && !put(1));
        assert!(quarantine.problem().unwrap().starts_with("the record of a job"));
        assert!((2..6).all(put));
        let problem = quarantine.problem().unwrap();
        assert!(problem.starts_with("the records of 5 jobs"), "{problem}");
        assert!(problem.ends_with("(x); and 2 more"), "{problem}");
    }
}
