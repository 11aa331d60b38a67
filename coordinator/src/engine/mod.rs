//! The engine: carries out what the scheduler decides, and tells it what came of it.
//!
//! All state is in one place, behind one lock that is held for the time of a decision and never
//! across an await: the scheduler, and who waits for which job. What is durable is written before it
//! is acknowledged: a job before `201`, a claim before a runner is asked, an end before anybody is
//! told of it. Work that must not stop half-way when a client goes away runs in tasks of the
//! engine's own, which end with it.

mod jobs;
mod recover;
mod watch;

pub(crate) use self::{
    jobs::{store_problem, unknown_job},
    watch::start,
};

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cloister_api::{Job, Outcome, Reason, RunnerState, Status, Timestamp};
use tokio::{
    sync::{Notify, watch as channel},
    task::JoinSet,
    time::sleep,
};
use uuid::Uuid;

use crate::{
    Config,
    dispatch::{Fleet, RunnerClient, attempt},
    metrics::Metrics,
    scheduler::{Action, Event, RunnerName, RunnerView, Scheduler},
    store::{Answer, Keep, Store, StoreError},
};

/// How often the store is tried while it takes no writes.
const PROBE: Duration = Duration::from_secs(1);
/// How often ended jobs are looked through for those that are kept no longer.
const EXPIRE: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Engine {
    state: Mutex<State>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) client: RunnerClient,
    pub(crate) metrics: Metrics,
    pub(crate) fleet: Fleet,
    pub(crate) runner_grace: Duration,
    pub(crate) max_queue: usize,
    keep: Keep,
    /// Told when the next tick may be due earlier.
    due: Notify,
    /// Jobs that runners have, or whose end is being recorded.
    busy: channel::Sender<usize>,
    /// Recorded results whose runner is yet to be told so for the first time.
    untold: channel::Sender<usize>,
    /// Why the store takes no writes, if so.
    store_failure: channel::Sender<Option<String>>,
    /// Whoever waits for a job should wait no longer.
    closing: channel::Sender<bool>,
    tasks: Mutex<Option<JoinSet<()>>>,
}

struct State {
    scheduler: Scheduler,
    /// Who waits for a job's end. Dropping the sender tells them.
    ends: HashMap<Uuid, channel::Sender<()>>,
    /// Set for an attempt that should end.
    stops: HashMap<Uuid, channel::Sender<bool>>,
    /// Names of runners that can't be resolved, and why.
    names: BTreeMap<String, String>,
}

impl Engine {
    pub(crate) fn new(
        config: &Config,
        store: Arc<dyn Store>,
    ) -> Result<Arc<Self>, prometheus::Error> {
        Ok(Arc::new(Self {
            state: Mutex::new(State {
                scheduler: Scheduler::new(config.max_queue),
                ends: HashMap::new(),
                stops: HashMap::new(),
                names: BTreeMap::new(),
            }),
            store,
            client: RunnerClient::new(config.runner_token.as_ref()),
            metrics: Metrics::new()?,
            fleet: Fleet::default(),
            runner_grace: config.runner_grace,
            max_queue: config.max_queue,
            keep: Keep { time: config.keep_time, number: config.keep_number },
            due: Notify::new(),
            busy: channel::Sender::new(0),
            untold: channel::Sender::new(0),
            store_failure: channel::Sender::new(None),
            closing: channel::Sender::new(false),
            tasks: Mutex::new(Some(JoinSet::new())),
        }))
    }

    /// Runs a task that ends with the engine at the latest.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        if let Some(tasks) = tasks.as_mut() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn(task);
        }
    }

    /// Ends all tasks, and with them every use of the store.
    pub(crate) async fn close(&self) {
        let tasks = lock(&self.tasks).take();
        if let Some(mut tasks) = tasks {
            tasks.shutdown().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Looks at the scheduler.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Scheduler) -> T) -> T {
        look(&self.state().scheduler)
    }

    /// Tells the scheduler and does what it answers; hands back what only the caller can do, which
    /// is to record the end of the attempt that it told of.
    pub(crate) fn apply(self: &Arc<Self>, event: Event) -> Option<Action> {
        let mut state = self.state();
        self.apply_within(&mut state, event)
    }

    fn apply_within(self: &Arc<Self>, state: &mut State, event: Event) -> Option<Action> {
        let mut own = None;
        let due = state.scheduler.next_due();
        for action in state.scheduler.apply(event, Timestamp::now()) {
            match action {
                Action::Dispatch { job, attempt, runner } => {
                    let (stop, stopped) = channel::channel(false);
                    state.stops.insert(job, stop);
                    let engine = Arc::clone(self);
                    self.spawn(attempt::fresh(engine, job, attempt, runner, stopped));
                }
                Action::Stop { job } => {
                    if let Some(stop) = state.stops.get(&job) {
                        stop.send_replace(true);
                    }
                }
                Action::Withdraw { job } => {
                    state.stops.remove(&job);
                    self.spawn(Arc::clone(self).withdraw(job));
                }
                Action::Finish { job } | Action::Retry { job, .. } => {
                    state.stops.remove(&job);
                    own = Some(action);
                }
            }
        }
        if state.scheduler.next_due() != due {
            self.due.notify_one();
        }
        let busy = state.scheduler.len() - state.scheduler.pending();
        self.busy.send_if_modified(|now| std::mem::replace(now, busy) != busy);
        own
    }

    /// What was to be recorded of a job is durable: those who wait for its end are told, if it is.
    pub(crate) fn recorded(self: &Arc<Self>, job: Uuid) {
        let mut state = self.state();
        self.apply_within(&mut state, Event::Recorded { job });
        if state.scheduler.live(job).is_none() {
            state.ends.remove(&job);
        }
    }

    /// Records a job that no runner has as cancelled.
    async fn withdraw(self: Arc<Self>, id: Uuid) {
        if let Some(mut job) = self.fetch(id).await {
            job.finish(cancelled_before_start(&job));
            self.persist(|| self.store.finish(job.clone())).await;
            self.ended(&job, None);
        }
        self.recorded(id);
    }

    /// Counts and logs the end of a job, which is recorded; `execution` is what its runner knew it by.
    pub(crate) fn ended(&self, job: &Job, execution: Option<Uuid>) {
        self.metrics.ended(job);
        tracing::info!(
            job_id = %job.job_id,
            attempt = job.attempt,
            execution_id = execution.map(display),
            runner = job.runner.as_deref(),
            status = job.status.as_str(),
            reason = job.reason.map(Reason::as_str),
            runtime_ms = job.runtime_ms,
            "job ended"
        );
    }

    /// Does something with the store until it succeeds: what has happened can't be refused, only be
    /// recorded later. Nothing new is dispatched meanwhile, so that what waits here is bounded by
    /// the runners' slots.
    pub(crate) async fn persist<'a, T>(
        self: &'a Arc<Self>,
        doing: impl Fn() -> Answer<'a, T>,
    ) -> T {
        loop {
            match doing().await {
                Ok(done) => return done,
                Err(error) => {
                    self.store_failed(&error);
                    let mut failure = self.store_failure.subscribe();
                    // The sender is the engine's own, and lives as long.
                    let _ = failure.wait_for(Option::is_none).await;
                }
            }
        }
    }

    /// A job from the store, as soon as the store can be read; `None` where there is none that can.
    pub(crate) async fn fetch(self: &Arc<Self>, id: Uuid) -> Option<Job> {
        self.persist(|| {
            Box::pin(async move {
                match self.store.get(id).await {
                    Err(error @ StoreError::Record { .. }) => {
                        tracing::error!(job_id = %id, %error, "a job's record is left as it is");
                        Ok(None)
                    }
                    answer => answer,
                }
            })
        })
        .await
    }

    /// The store failed: nothing is dispatched until a probe succeeds.
    pub(crate) fn store_failed(self: &Arc<Self>, error: &StoreError) {
        let why = error.to_string();
        let first = self.store_failure.send_replace(Some(why.clone())).is_none();
        self.apply(Event::StoreFailed(why));
        if first {
            tracing::error!(%error, "the store failed; nothing is dispatched until it is back");
            self.spawn(Arc::clone(self).probe());
        }
    }

    async fn probe(self: Arc<Self>) {
        loop {
            sleep(PROBE).await;
            match self.store.probe().await {
                Ok(()) => break,
                Err(error) => {
                    self.store_failure.send_replace(Some(error.to_string()));
                }
            }
        }
        tracing::info!("the store is back");
        self.store_failure.send_replace(None);
        self.apply(Event::StoreBack);
    }

    /// Why the store takes no writes, if so.
    pub(crate) fn store_failure(&self) -> Option<String> {
        self.store_failure.borrow().clone()
    }

    /// A name of runners can't be resolved, for this reason, or can again.
    pub(crate) fn name_failed(&self, name: &str, why: Option<String>) {
        let mut state = self.state();
        match why {
            Some(why) => state.names.insert(name.into(), why),
            None => state.names.remove(name),
        };
    }

    /// What is wrong, for a person.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.store_failure().into_iter().collect();
        let state = self.state();
        problems.extend(state.names.values().cloned());
        let mut runners = state.scheduler.runners();
        runners.retain(|runner| runner.listed);
        if runners.is_empty() {
            problems.push("no runner is known".into());
        }
        for runner in runners.into_iter().filter(|runner| !runner.twin) {
            let health = runner.health.filter(|_| runner.up);
            if let Some(health) = health
                && health.status == RunnerState::Degraded
            {
                let what = health.problems.join("; ");
                problems.push(format!("runner {} is degraded: {what}", runner.name));
            }
            problems.extend(runner.trouble);
        }
        problems
    }

    /// How each runner stands.
    pub(crate) fn runners(&self) -> Vec<RunnerView> {
        self.read(Scheduler::runners)
    }

    /// Whether a runner is still of interest.
    pub(crate) fn knows(&self, runner: &RunnerName) -> bool {
        self.read(|scheduler| scheduler.knows(runner))
    }

    /// Nothing more is dispatched and submissions are refused from now on.
    pub(crate) fn drain(self: &Arc<Self>) {
        self.apply(Event::Drain);
    }

    /// Returns when no runner has a job, no end waits to be recorded, and runners were told of those
    /// that are: one that drains waits for that.
    pub(crate) async fn idle(&self) {
        for count in [&self.busy, &self.untold] {
            let _ = count.subscribe().wait_for(|count| *count == 0).await;
        }
    }

    /// Counts a runner that is to be told of a result, until this is dropped. To be taken before the
    /// result is recorded, so that [`idle`](Self::idle) misses neither.
    pub(crate) fn to_tell(self: &Arc<Self>) -> ToTell {
        self.untold.send_modify(|count| *count += 1);
        ToTell(Arc::clone(self))
    }

    /// Ticks the scheduler when it is due.
    pub(crate) async fn tick(self: Arc<Self>) {
        loop {
            let due = self.read(Scheduler::next_due);
            let left = due.map(|due| due.since_ms(Timestamp::now()).max(0).unsigned_abs());
            tokio::select! {
                () = self.due.notified() => {}
                () = sleep(Duration::from_millis(left.unwrap_or_default())), if left.is_some() => {
                    self.apply(Event::Tick);
                }
            }
        }
    }

    /// Removes ended jobs that are kept no longer.
    pub(crate) async fn expire(self: Arc<Self>) {
        loop {
            match self.store.expire(self.keep, Timestamp::now()).await {
                Ok(0) => sleep(EXPIRE).await,
                Ok(count) => tracing::debug!(count, "removed ended jobs"),
                Err(error) => {
                    tracing::warn!(%error, "cannot remove ended jobs");
                    sleep(EXPIRE).await;
                }
            }
        }
    }
}

/// How a job ends that was cancelled before its present attempt began.
pub(crate) fn cancelled_before_start(job: &Job) -> Outcome {
    let message = match job.attempts.last() {
        // It has done something, which "before it started" alone would deny.
        Some(past) => {
            let (before, now) = (past.attempt, job.attempt);
            let ran = past.outcome.started_at.is_some();
            let verb = if ran { "ran" } else { "was made" };
            format!("it was cancelled before attempt {now} started; attempt {before} {verb} before")
        }
        None => "it was cancelled before it started".into(),
    };
    Outcome::never_ran(Status::Cancelled, None, message)
}

/// A lock that is held without an await; what it guards is whole also if a thread panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A runner that is yet to be told of a result.
pub(crate) struct ToTell(Arc<Engine>);

impl Drop for ToTell {
    fn drop(&mut self) {
        self.0.untold.send_modify(|count| *count -= 1);
    }
}
