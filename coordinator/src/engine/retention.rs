//! How long ended jobs are kept, by a clock that may jump.
//!
//! A job's age counts from when its end was stored, by the coordinator's clock; what its runner's clock
//! said plays no part. A clock that is set forward by a week would make every job a week older, and
//! remove results that are minutes old. So the store remembers when it was last looked through (its
//! [`StoreClock`]), and a step forward is not believed:
//!
//! - While one process leads, time that really passed is told by a clock that nobody can set
//!   (`CLOCK_BOOTTIME`). Any step beyond it is left out of every job's age.
//! - Between two processes nothing tells whether the clock was set or nobody led. A step is believed
//!   up to half of `--keep-time`.
//!
//! What was left out is taken back when the clock is, when an operator says that the clock is right
//! (`cloister resume --retention`), or once `--keep-time` has really passed: then all that was stored
//! before the step is old by either reckoning. The number and the size of what is kept know no clock, and
//! hold throughout.

use std::{sync::Arc, time::Duration};

use cloister_api::Timestamp;
use tokio::time::sleep;

use super::{Engine, Term};
use crate::{
    length::length,
    store::{Order, StoreClock, StoreError},
};

/// How often ended jobs are looked through for those that are kept no longer.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often it is written down that they were, where nothing else is to be written.
const REMEMBERED: i64 = 600_000;
/// Steps that are none: both clocks are read one after the other.
const SLACK: i64 = 1_000;

/// Both clocks, read at one moment by the leader of a term.
#[derive(Clone, Copy, Debug)]
struct Look {
    term: Term,
    now: Timestamp,
    uptime: Duration,
}

impl StoreClock {
    /// The clock at `now`. `passed` tells how much time really did since the last look, where that is
    /// known.
    fn at(self, now: Timestamp, passed: Option<Duration>, keep: Duration) -> Self {
        let keep = millis(keep);
        let Some(seen_at) = self.seen_at else {
            return Self { seen_at: Some(now), ..self };
        };
        let step = now.since_ms(seen_at).saturating_sub(passed.map_or(0, millis));
        let believed = if passed.is_some() { SLACK } else { keep / 2 };
        let mut next = Self { seen_at: Some(now), ..self };
        if step > believed {
            next.ahead = self.ahead.saturating_add(step);
            next.until = Timestamp(now.0.saturating_sub(next.ahead).saturating_add(keep));
        } else if step < -SLACK {
            next.ahead = self.ahead.saturating_add(step).max(0);
        }
        if next.ahead > 0 && next.reckoned(now) >= next.until {
            next.ahead = 0;
        }
        next
    }

    /// The time from which the age of ended jobs is computed.
    fn reckoned(self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_sub(self.ahead))
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl Engine {
    /// Removes ended jobs that are kept no longer, while this process leads.
    pub(crate) async fn expire(self: Arc<Self>) {
        let mut stirs = self.stirs();
        let mut last = None;
        loop {
            let Some(term) = self.mandate() else {
                self.retention.send_replace(StoreClock::default());
                sleep(INTERVAL).await;
                continue;
            };
            match self.expire_some(term, &mut last).await {
                Ok(0) => self.rest(INTERVAL, &mut stirs).await,
                Ok(count) => tracing::debug!(count, "removed ended jobs"),
                Err(StoreError::Stale { .. }) => self.doubt(term),
                Err(error) => {
                    tracing::warn!(%error, "cannot remove ended jobs");
                    sleep(INTERVAL).await;
                }
            }
        }
    }

    async fn expire_some(&self, term: Term, last: &mut Option<Look>) -> Result<usize, StoreError> {
        let known = self.store.clock().await?;
        let look = Look { term, now: self.now(), uptime: self.world.uptime() };
        let before = last.filter(|last| last.term == term);
        // Of a term of this process the time is exact also where it was not written down.
        let since = StoreClock { seen_at: before.map(|last| last.now).or(known.seen_at), ..known };
        let passed = before.map(|last| look.uptime.saturating_sub(last.uptime));
        let clock = since.at(look.now, passed, self.keep.time);
        tell_of_step(known, clock);
        let old = known.seen_at.is_none_or(|at| look.now.since_ms(at).abs() >= REMEMBERED);
        if old || (clock.ahead, clock.until) != (known.ahead, known.until) {
            self.store.set_clock(term.epoch, clock).await?;
        }
        // Not before it is written down: a step that was not would be forgotten by the next look.
        *last = Some(look);
        self.retention.send_replace(clock);
        self.store.expire(term.epoch, self.keep, clock.reckoned(look.now)).await
    }

    /// What is wrong with the clock by which ended jobs are kept, if it would matter.
    pub(super) fn retention_problem(&self) -> Option<String> {
        let clock = *self.retention.borrow();
        (clock.ahead > millis(self.keep.time) / 10).then(|| {
            format!(
                "the clock of this coordinator went forward by {} more than time did: no ended job is \
                 removed for its age before that has really passed; if the clock is right, \
                 `cloister resume --retention` has them removed",
                ahead(clock.ahead)
            )
        })
    }

    /// An operator says that the clock is right: jobs are removed by it from now on.
    pub(crate) async fn trust_clock(self: &Arc<Self>) -> Result<(), cloister_api::Problem> {
        self.order(Order::TrustClock).await?;
        self.retention.send_modify(|clock| clock.ahead = 0);
        Ok(())
    }
}

fn tell_of_step(before: StoreClock, now: StoreClock) {
    if now.ahead > before.ahead {
        tracing::warn!(
            detail = ahead(now.ahead),
            "the clock was set forward: no job is removed for its age before its time has really passed"
        );
    } else if now.ahead == 0 && before.ahead > 0 {
        tracing::info!("ended jobs are removed by the clock again");
    }
}

fn ahead(millis: i64) -> String {
    length(Duration::from_millis(millis.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

    use cloister_api::{Job, JobRequest, Outcome, Program, Status, Task};
    use tokio::time::timeout;
    use uuid::Uuid;

    use super::*;
    use crate::{
        Config,
        dispatch::RunnerClient,
        engine::Parts,
        store::{Key, Store, Submitted, tests::Place},
        world::World,
    };

    const SECOND: i64 = 1_000;
    const DAY: i64 = 86_400 * SECOND;
    const KEEP: Duration = Duration::from_secs(7 * 86_400);

    /// A clock that was looked at `seconds` after the last look, and shows `step` more than that.
    fn later(clock: StoreClock, seconds: u64, step: i64) -> StoreClock {
        let passed = Duration::from_secs(seconds);
        let now = Timestamp(clock.seen_at.unwrap().0 + millis(passed) + step);
        clock.at(now, Some(passed), KEEP)
    }

    fn reckoned(clock: StoreClock) -> i64 {
        clock.reckoned(clock.seen_at.unwrap()).0
    }

    fn fresh() -> StoreClock {
        StoreClock::default().at(Timestamp(100 * DAY), None, KEEP)
    }

    #[test]
    fn time_that_passes_is_believed() {
        let mut clock = fresh();
        for _ in 0..1000 {
            clock = later(clock, 60, SLACK);
        }
        assert_eq!((clock.ahead, reckoned(clock)), (0, clock.seen_at.unwrap().0));
    }

    #[test]
    fn a_step_forward_makes_nothing_older_until_its_time_has_passed() {
        let clock = later(fresh(), 10, 8 * DAY);
        assert_eq!(clock.ahead, 8 * DAY);
        assert_eq!(reckoned(clock), 100 * DAY + 10 * SECOND);
        // Also by small steps.
        let again = later(later(clock, 10, 2 * SECOND), 10, 2 * SECOND);
        assert_eq!(reckoned(again), 100 * DAY + 30 * SECOND);
        // The next process goes on with it.
        let next = again.at(Timestamp(again.seen_at.unwrap().0 + SECOND), None, KEEP);
        assert_eq!(next.ahead, again.ahead);
        let nearly = later(next, 7 * 86_400 - 60, 0);
        assert!(nearly.ahead > 0, "{nearly:?}");
        assert_eq!(later(nearly, 120, 0).ahead, 0);
    }

    #[test]
    fn a_step_that_is_taken_back_is_forgotten() {
        let clock = later(later(fresh(), 10, 8 * DAY), 10, -8 * DAY);
        assert_eq!((clock.ahead, reckoned(clock)), (0, 100 * DAY + 20 * SECOND));
        // A clock that is only set back makes nothing younger than it says.
        let back = later(fresh(), 10, -3 * DAY);
        assert_eq!((back.ahead, reckoned(back)), (0, 97 * DAY + 10 * SECOND));
        // What was stored meanwhile is not a day older when it is set right.
        assert_eq!(later(back, 10, 3 * DAY).ahead, 3 * DAY);
    }

    #[test]
    fn between_processes_a_pause_is_believed_and_a_week_is_not() {
        let after = |days: i64| fresh().at(Timestamp((100 + days) * DAY), None, KEEP);
        assert_eq!(after(3).ahead, 0);
        assert_eq!(after(8).ahead, 8 * DAY);
        assert_eq!(after(-8).ahead, 0);
    }

    /// A machine whose wall clock can be set; both are milliseconds.
    #[derive(Default)]
    struct Machine {
        wall: AtomicI64,
        up: AtomicI64,
    }

    impl Machine {
        fn new() -> Arc<Self> {
            let machine = Self::default();
            machine.wall.store(100 * DAY, Relaxed);
            Arc::new(machine)
        }

        /// Time passes, and the clock is set forward by as much more.
        fn pass(&self, ms: i64, step: i64) {
            self.up.fetch_add(ms, Relaxed);
            self.wall.fetch_add(ms + step, Relaxed);
        }
    }

    impl World for Machine {
        fn now(&self) -> Timestamp {
            Timestamp(self.wall.load(Relaxed))
        }

        fn uptime(&self) -> Duration {
            Duration::from_millis(self.up.load(Relaxed).unsigned_abs())
        }

        fn random(&self) -> [u8; 16] {
            rand::random()
        }

        fn job_id(&self) -> Uuid {
            Uuid::now_v7()
        }
    }

    async fn engine(store: &Arc<dyn Store>, machine: &Arc<Machine>) -> (Arc<Engine>, Term) {
        let config = Config::default();
        let parts = Parts {
            store: Arc::clone(store),
            runners: Arc::new(RunnerClient::new(&config)),
            world: Arc::clone(machine) as Arc<dyn World>,
            name: "test".into(),
        };
        let engine = Engine::new(&config, parts).unwrap();
        // Without the loop: the test looks when it wants to.
        engine.spawn(Arc::clone(&engine).campaign());
        let leads = async {
            loop {
                match engine.mandate() {
                    Some(term) => break term,
                    None => tokio::task::yield_now().await,
                }
            }
        };
        let term = timeout(Duration::from_secs(10), leads).await.expect("it leads");
        (engine, term)
    }

    /// Submits a job, and records its end by the machine's clock.
    async fn job(engine: &Arc<Engine>, term: Term, key: &str) -> Job {
        let request = JobRequest::new(Task::new(Program::Command("true".into())));
        let mut job = Job::new(Uuid::now_v7(), engine.now(), request);
        let key = Key { tenant: String::new(), name: key.into(), digest: [1; 32] };
        let made = engine.store.submit(job.clone(), Some(key), Some(term.epoch)).await.unwrap();
        assert!(matches!(made, Submitted::New { .. }));
        job.finish(Outcome::never_ran(Status::Cancelled, None, "x"));
        engine.store.finish(term.epoch, job.clone(), engine.now()).await.unwrap();
        job
    }

    async fn a_step_removes_nothing_until_an_operator_says_so(place: Place) {
        let (store, machine) = (place.open().await, Machine::new());
        let (engine, term) = engine(&store, &machine).await;
        let mut last = None;
        let fresh = job(&engine, term, "k").await;
        assert_eq!(engine.expire_some(term, &mut last).await.unwrap(), 0);
        assert_eq!(engine.retention_problem(), None);

        machine.pass(10 * SECOND, 8 * DAY);
        for _ in 0..2 {
            assert_eq!(engine.expire_some(term, &mut last).await.unwrap(), 0);
            machine.pass(10 * SECOND, 0);
        }
        let problem = engine.retention_problem().unwrap();
        assert!(problem.contains("by 8 d more than time did"), "{problem}");
        assert!(problem.contains("`cloister resume --retention`"), "{problem}");
        assert!(engine.problems().contains(&problem));
        let later = job(&engine, term, "later").await;

        engine.trust_clock().await.unwrap();
        assert_eq!(engine.retention_problem(), None);
        assert_eq!(engine.expire_some(term, &mut last).await.unwrap(), 1);
        assert_eq!(engine.store.get(fresh.job_id).await.unwrap(), None);
        assert!(engine.store.get(later.job_id).await.unwrap().is_some());
        engine.close().await;
    }

    async fn a_step_between_two_processes_removes_nothing(place: Place) {
        let (store, machine) = (place.open().await, Machine::new());
        let (first, term) = engine(&store, &machine).await;
        let fresh = job(&first, term, "k").await;
        assert_eq!(first.expire_some(term, &mut None).await.unwrap(), 0);
        first.close().await;
        machine.pass(10 * SECOND, 8 * DAY);
        let (second, term) = engine(&store, &machine).await;
        let mut last = None;
        assert_eq!(second.expire_some(term, &mut last).await.unwrap(), 0);
        assert!(second.retention_problem().is_some());
        // When its time has really passed it goes, and that is all there was to it.
        machine.pass(7 * DAY + SECOND, 0);
        assert_eq!(second.expire_some(term, &mut last).await.unwrap(), 1);
        assert_eq!(second.retention_problem(), None);
        assert_eq!(store.get(fresh.job_id).await.unwrap(), None);
        second.close().await;
    }

    mod on_sqlite {
        use super::*;

        #[tokio::test]
        async fn a_step_removes_nothing_until_an_operator_says_so() {
            super::a_step_removes_nothing_until_an_operator_says_so(Place::sqlite()).await;
        }

        #[tokio::test]
        async fn a_step_between_two_processes_removes_nothing() {
            super::a_step_between_two_processes_removes_nothing(Place::sqlite()).await;
        }
    }

    mod on_postgres {
        use super::*;

        #[tokio::test]
        async fn a_step_removes_nothing_until_an_operator_says_so() {
            super::a_step_removes_nothing_until_an_operator_says_so(Place::postgres()).await;
        }

        #[tokio::test]
        async fn a_step_between_two_processes_removes_nothing() {
            super::a_step_between_two_processes_removes_nothing(Place::postgres()).await;
        }
    }
}
