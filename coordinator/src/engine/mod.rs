//! The engine: carries out what the scheduler decides, and tells it what came of it.
//!
//! All state is in one place, behind one lock that is held for the time of a decision and never
//! across an await: the scheduler, who waits for which job, and the present term, if this process
//! leads (`term`, `election`). What is durable is written before it is acknowledged: a job before
//! `201`, a claim before a runner is asked, an end before anybody is told of it (`storing`). Work
//! that must not stop half-way when a client goes away runs in tasks of the engine's own, which end
//! with it; work that only a leader may do ends with its term.
//!
//! Where several things are waited for at once the first one that is ready, in their order, is taken
//! (`biased`): not by chance, so that a simulation repeats itself.

mod batch;
mod claims;
mod election;
mod jobs;
mod quarantine;
mod quiet;
mod retention;
mod room;
mod storing;
mod term;
mod upkeep;
mod watch;

pub(crate) use self::{
    batch::AcceptedAll,
    claims::Hold,
    jobs::{Accepted, CalledOff, store_problem, unknown_job},
    term::Term,
    watch::start,
};

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use cloister_api::{Job, Outcome, Reason, RunnerState, Status};
use tokio::{
    sync::{Notify, Semaphore, watch as channel},
    task::JoinSet,
};
use uuid::Uuid;

use self::{quarantine::Quarantine, room::Elsewhere, term::Held};
use crate::{
    Config,
    dispatch::{Fleet, RunnerLink, attempt},
    length::apart,
    metrics::Metrics,
    scheduler::{Action, Event, QueueBounds, RunnerName, RunnerView, Scheduler},
    store::{
        Candidate, Figures, Keep, Leadership, Orders, Store, StoreClock,
        timed::{Timed, Writes},
    },
    world::World,
};

/// How often the store is tried while it takes no writes.
const PROBE: Duration = Duration::from_secs(1);
/// How often a leader looks for what others took in, should nothing tell it. Where there can be no
/// others, it is told of everything.
const POLL: Duration = Duration::from_secs(1);

/// How many attempts' outputs are copied into the store at once: each takes less than a mebibyte.
const COPIES: usize = 32;

/// What the engine works with.
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) runners: Arc<dyn RunnerLink>,
    pub(crate) world: Arc<dyn World>,
    /// For a person: where this coordinator is reached.
    pub(crate) name: String,
}

/// See the module.
pub(crate) struct Engine {
    state: Mutex<State>,
    pub(crate) store: Arc<dyn Store>,
    /// What is being written to it.
    writes: Writes,
    pub(crate) runners: Arc<dyn RunnerLink>,
    /// For who copies output from a runner to the store: each holds some of it in memory.
    pub(crate) copies: Semaphore,
    pub(crate) world: Arc<dyn World>,
    pub(crate) metrics: Metrics,
    pub(crate) fleet: Fleet,
    /// For how long a runner goes on with a job without hearing of a coordinator.
    pub(crate) lease: Duration,
    pub(crate) bounds: QueueBounds,
    keep: Keep,
    /// The clock by which ended jobs are kept, while this process leads.
    retention: channel::Sender<StoreClock>,
    /// This process, as a leader.
    me: Candidate,
    leader: channel::Sender<Option<Leadership>>,
    /// Told when it should be asked at once who leads.
    elect: Notify,
    /// Changes with each confirmation of the leader's lease, and when a term has taken up what there is.
    validity: channel::Sender<()>,
    /// Changes when a runner has said whether it takes an execution.
    answered: channel::Sender<()>,
    /// Does not stand as a leader any more.
    retired: channel::Sender<bool>,
    /// Told when the store may have what is not known here.
    rescan: Notify,
    /// Terms that this process began.
    pub(crate) terms: AtomicU64,
    /// None before the store was first asked.
    figures: channel::Sender<Option<Figures>>,
    /// Changes when jobs come and go.
    stirred: channel::Sender<()>,
    /// Told when somebody waits for a job's end.
    awaited: Notify,
    /// Told when the next tick may be due earlier.
    due: Notify,
    /// Jobs that runners have, or whose end is being recorded.
    busy: channel::Sender<usize>,
    /// Recorded results whose runner is yet to be told so for the first time.
    untold: channel::Sender<usize>,
    /// Records that cannot be read.
    quarantine: Quarantine,
    /// Why the store takes no writes, if so.
    store_failure: channel::Sender<Option<String>>,
    /// Whoever waits for a job should wait no longer.
    closing: channel::Sender<bool>,
    tasks: Mutex<Option<JoinSet<()>>>,
}

struct State {
    scheduler: Scheduler,
    /// What was taken in for another leader.
    elsewhere: Elsewhere,
    /// The present term, if this process leads.
    held: Option<Held>,
    /// Who waits for a job's end. Dropping the sender tells them.
    ends: HashMap<Uuid, channel::Sender<()>>,
    /// Set for an attempt that should end.
    stops: HashMap<Uuid, channel::Sender<bool>>,
    /// Names of runners that can't be resolved, and why.
    names: BTreeMap<String, String>,
    /// What operators have ordered, as last read.
    orders: Orders,
}

impl Engine {
    pub(crate) fn new(config: &Config, parts: Parts) -> Result<Arc<Self>, prometheus::Error> {
        let Parts { store, runners, world, name } = parts;
        let bounds = QueueBounds { jobs: config.max_queue, size: config.max_queue_size.0 };
        let writes = Writes::new(config.late_write);
        let store = Arc::new(Timed::new(store, writes.clone()));
        Ok(Arc::new(Self {
            state: Mutex::new(State {
                scheduler: Scheduler::new(bounds),
                elsewhere: Elsewhere::default(),
                held: None,
                ends: HashMap::new(),
                stops: HashMap::new(),
                names: BTreeMap::new(),
                orders: Orders::default(),
            }),
            store,
            writes,
            runners,
            copies: Semaphore::new(COPIES),
            me: Candidate { id: world.id(), name },
            world,
            metrics: Metrics::new()?,
            fleet: Fleet::default(),
            lease: config.lease,
            bounds,
            keep: Keep {
                time: config.keep_time,
                number: config.keep_number,
                size: config.keep_size.0,
            },
            retention: channel::Sender::new(StoreClock::default()),
            leader: channel::Sender::new(None),
            elect: Notify::new(),
            answered: channel::Sender::new(()),
            validity: channel::Sender::new(()),
            retired: channel::Sender::new(false),
            rescan: Notify::new(),
            terms: AtomicU64::new(0),
            figures: channel::Sender::new(None),
            stirred: channel::Sender::new(()),
            awaited: Notify::new(),
            due: Notify::new(),
            busy: channel::Sender::new(0),
            untold: channel::Sender::new(0),
            quarantine: Quarantine::default(),
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

    /// Everything that goes on by itself.
    pub(crate) fn start(self: &Arc<Self>) {
        self.spawn(Arc::clone(self).campaign());
        self.spawn(Arc::clone(self).tick());
        self.spawn(Arc::clone(self).expire());
        self.spawn(Arc::clone(self).look());
        self.spawn(Arc::clone(self).watch_ends());
    }

    /// Ends all tasks, and with them every use of the store.
    pub(crate) async fn close(self: &Arc<Self>) {
        // No further term may begin.
        self.retired.send_replace(true);
        let term = self.state().held.take();
        if let Some(mut held) = term {
            held.tasks.shutdown().await;
            self.resign(held.term).await;
        }
        let tasks = lock(&self.tasks).take();
        if let Some(mut tasks) = tasks {
            tasks.shutdown().await;
        }
    }

    /// Ends everything at once, as a crash does.
    #[cfg(test)]
    pub(crate) fn crash(&self) {
        drop(self.state().held.take());
        drop(lock(&self.tasks).take());
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
        self.stir(&event);
        let mut own = None;
        let due = state.scheduler.next_due();
        for action in state.scheduler.apply(event, self.world.now()) {
            // Without a term the scheduler has no jobs, and so nothing to do with any.
            let Some(term) = state.term() else { break };
            match action {
                Action::Dispatch { job, attempt, runner } => {
                    let (stop, stopped) = channel::channel(false);
                    state.stops.insert(job, stop);
                    let engine = Arc::clone(self);
                    let fresh = attempt::fresh(engine, term, job, attempt, runner, stopped);
                    Self::spawn_within(state, term, fresh);
                }
                Action::Stop { job } => {
                    if let Some(stop) = state.stops.get(&job) {
                        stop.send_replace(true);
                    }
                }
                Action::Withdraw { job } => {
                    state.stops.remove(&job);
                    Self::spawn_within(state, term, Arc::clone(self).withdraw(term, job));
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
        self.count_busy(state);
        own
    }

    fn count_busy(&self, state: &State) {
        let busy = state.scheduler.len() - state.scheduler.pending();
        self.busy.send_if_modified(|now| std::mem::replace(now, busy) != busy);
    }

    /// What was to be recorded of a job is durable: those who wait for its end are told, if it is.
    pub(crate) fn recorded(self: &Arc<Self>, term: Term, job: Uuid) {
        let mut state = self.state();
        if !state.is_in(term) {
            return;
        }
        self.apply_within(&mut state, Event::Recorded { job });
        if state.scheduler.live(job).is_none() {
            if let Some(ended) = state.held.as_mut().and_then(|held| held.ended.as_mut()) {
                ended.insert(job);
            }
            state.ends.remove(&job);
        }
    }

    /// Records a job that no runner has as cancelled.
    async fn withdraw(self: Arc<Self>, term: Term, id: Uuid) {
        if let Some(mut job) = self.fetch(term, id).await {
            job.finish(cancelled_before_start(&job));
            let now = self.now();
            self.persist(term, || self.store.finish(term.epoch, job.clone(), now)).await;
            self.ended(&job, None);
        }
        self.recorded(term, id);
    }

    /// Counts and logs the end of a job, which is recorded; `execution` is what its runner knew it by.
    pub(crate) fn ended(&self, job: &Job, execution: Option<Uuid>) {
        self.metrics.ended(job, self.now());
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
        let mut problems: Vec<String> = self.store_trouble().into_iter().collect();
        problems.extend(self.quarantine.problem());
        problems.extend(self.retention_problem());
        let state = self.state();
        problems.extend(state.orders.paused.iter().map(|why| format!("paused: {why}")));
        problems.extend(state.names.values().cloned());
        problems.extend(state.scheduler.own_skew().map(|ahead| {
            let stands = apart(ahead.saturating_neg());
            format!(
                "the clock of this coordinator is {stands} those of all its runners; set it right"
            )
        }));
        let mut runners = state.scheduler.runners();
        runners.retain(|runner| runner.listed);
        if runners.is_empty() {
            problems.push("no runner is known".into());
        }
        // What an operator ordered is nothing that is wrong.
        for runner in runners.into_iter().filter(|runner| !runner.twin && !runner.drained) {
            let health = runner.health.filter(|_| runner.up);
            if let Some(health) = health
                && health.status == RunnerState::Degraded
            {
                let what = health.problems.join("; ");
                problems.push(format!("runner {} is degraded: {what}", runner.name));
            }
            problems.extend(runner.trouble);
        }
        drop(state);
        if self.leader().is_none() {
            problems.push("no coordinator leads yet".into());
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

    /// Nothing more is dispatched and submissions are refused from now on. Where another coordinator
    /// could lead it is let: it goes on with all that runs. Where none then does (they were all asked to
    /// end), this one leads once more, to the end of what runs.
    pub(crate) async fn drain(self: &Arc<Self>) {
        self.apply(Event::Drain);
        if self.leader().is_some_and(|found| found.others > 0) {
            self.hand_over().await;
        }
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
