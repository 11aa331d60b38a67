//! Runners as a coordinator knows them: they keep executions with an id, join them, end them when
//! their lease runs out, refuse terms that are over, and have another life after each crash.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use cloister_api::{
    CANCELS, ExecuteRequest, KnownExecutions, LEASES, LeaseRequest, Outcome, Output, OutputBytes,
    Program, Reason, RunnerHealth, RunnerState, Seconds, Slots, Status, Timestamp,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use uuid::Uuid;

use super::{
    execution::{Execution, Run, Runs, Stage},
    nature::{Chance, EPOCH},
};
use crate::{
    dispatch::link::{Deleted, Known, Renewed, Taken},
    engine::Term,
    scheduler::tests::health,
};

/// How long making a cell takes.
const CELL: Duration = Duration::from_millis(5);
/// How many results in a hundred leave what was printed to be fetched apart.
const APART: u64 = 30;

struct Life {
    up: bool,
    /// It takes nothing more.
    drains: bool,
    boot: Uuid,
    epoch: u64,
    executions: BTreeMap<Uuid, Execution>,
    /// What is over: should it still come, it is not run.
    gone: BTreeSet<Uuid>,
}

/// A runner.
pub(super) struct SimRunner {
    pub(super) name: String,
    slots: usize,
    born: Instant,
    life: Mutex<Life>,
    /// Whether the machine stands still, and what it runs with it.
    pub(super) stopped: watch::Sender<bool>,
    /// When it last began to stand still, and when it went on.
    stood: Mutex<Option<(Instant, Option<Instant>)>>,
    /// How wrong its wall clock is, in milliseconds.
    pub(super) skew: AtomicI64,
    chance: Chance,
    runs: Runs,
    /// How often of a hundred times it can't make a cell.
    pub(super) clumsy: u64,
    /// How often of a hundred times it never reports an end: to it, the job runs for ever.
    pub(super) mute: AtomicU64,
}

/// Milliseconds since then.
fn millis(since: Instant) -> i64 {
    i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX)
}

impl SimRunner {
    pub(super) fn new(at: usize, slots: usize, chance: Chance, runs: Runs) -> Arc<Self> {
        let boot = chance.id();
        let clumsy = if chance.percent(10) { 30 } else { 0 };
        let mute = AtomicU64::new(if chance.percent(10) { 20 } else { 0 });
        Arc::new(Self {
            name: format!("http://10.0.{}.{}:8080", at / 256, at % 256),
            slots,
            born: Instant::now(),
            life: Mutex::new(Life {
                up: true,
                drains: false,
                boot,
                epoch: 0,
                executions: BTreeMap::new(),
                gone: BTreeSet::new(),
            }),
            stopped: watch::Sender::new(false),
            stood: Mutex::new(None),
            skew: AtomicI64::new(0),
            chance,
            runs,
            clumsy,
            mute,
        })
    }

    /// Whether its service runs.
    pub(super) fn is_up(&self) -> bool {
        self.life().up
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends without a word, and everything that it ran with it.
    pub(super) fn crash(&self) {
        let mut life = self.life();
        life.up = false;
        life.gone.clear();
        for (_, execution) in std::mem::take(&mut life.executions) {
            if let Some(task) = execution.task {
                task.abort();
            }
            self.over(&execution.run, false);
        }
    }

    pub(super) fn restart(&self) {
        let mut life = self.life();
        if !life.up {
            (life.up, life.drains) = (true, false);
            (life.boot, life.epoch) = (self.chance.id(), 0);
        }
    }

    /// Takes nothing more until it is started anew.
    pub(super) fn drain(&self) {
        self.life().drains = true;
    }

    /// The machine stands still from now on, or goes on.
    pub(super) fn stand(&self, still: bool) {
        let now = Instant::now();
        let mut stood = self.stood.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *stood {
            Some((_, on @ None)) if !still => *on = Some(now),
            _ if still && !*self.stopped.borrow() => *stood = Some((now, None)),
            _ => {}
        }
        drop(stood);
        self.stopped.send_replace(still);
    }

    /// The last moment at which anything happened on it: what is killed as it goes on ran until it
    /// began to stand still.
    fn last_moved(&self) -> Instant {
        let now = Instant::now();
        match *self.stood.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((since, on)) if on.is_none_or(|on| on == now) => since,
            _ => now,
        }
    }

    /// Executions that nobody acknowledged.
    pub(super) fn kept(&self) -> usize {
        self.life().executions.len()
    }

    fn over(&self, run: &Mutex<Option<usize>>, finished: bool) {
        let at = *run.lock().unwrap_or_else(PoisonError::into_inner);
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = at.and_then(|at| runs.get_mut(at))
            && run.ended.is_none()
        {
            let at = if finished { Instant::now() } else { self.last_moved().max(run.began) };
            (run.ended, run.finished) = (Some(at), finished);
        }
    }

    /// Its own time, by a clock that nobody sets: milliseconds.
    fn clock(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// When a lease is over that counts from then.
    fn until(&self, lease: Seconds, as_of: Option<u64>) -> Instant {
        as_of.map_or_else(Instant::now, |ms| self.born + Duration::from_millis(ms)) + lease.0
    }

    pub(super) fn health(&self) -> RunnerHealth {
        let life = self.life();
        RunnerHealth {
            status: if life.drains { RunnerState::Draining } else { RunnerState::Ok },
            boot_id: life.boot,
            features: vec![LEASES.into(), CANCELS.into()],
            time: Some(Timestamp(EPOCH + millis(self.born) + self.skew.load(Relaxed))),
            clock_ms: Some(self.clock()),
            slots: Slots { total: self.slots, used: life.running() },
            ..health(0, self.slots)
        }
    }

    pub(super) fn execute(
        self: &Arc<Self>,
        request: &ExecuteRequest,
        boot: Option<Uuid>,
    ) -> Result<watch::Receiver<Stage>, Taken> {
        let mut life = self.life();
        if boot.is_some_and(|boot| boot != life.boot) {
            return Err(Taken::OtherBoot);
        }
        life.hear(request.epoch).map_err(Taken::Stale)?;
        let id = request.execution_id.expect("the coordinator names its executions");
        let lease = request.lease.map(|lease| self.until(lease, request.as_of));
        if let Some(known) = life.executions.get(&id) {
            known.renew(lease);
            return Ok(known.stage.subscribe());
        }
        if life.gone.contains(&id) {
            return Err(Taken::Refused("it is over".into()));
        }
        if lease.is_some_and(|until| until <= Instant::now()) {
            return Err(Taken::Busy("its lease is over".into()));
        }
        if life.drains {
            return Err(Taken::Busy("it drains".into()));
        }
        if life.running() >= self.slots {
            return Err(Taken::Busy("all slots are taken".into()));
        }
        let (stage, stages) = watch::channel(Stage::Making);
        let mut execution = Execution {
            attempt: request.attempt,
            stage,
            lease: watch::Sender::new(lease),
            cancel: watch::Sender::new(false),
            task: None,
            run: Arc::default(),
            mute: self.chance.percent(self.mute.load(Relaxed)),
        };
        let Program::Argv(argv) = &request.task.program else { panic!("these are not shells") };
        // Nobody hears of what becomes of one that is mute, except that it runs.
        let end = if execution.mute { watch::Sender::default() } else { execution.stage.clone() };
        let run = self.clone().run(
            argv.clone(),
            (execution.stage.clone(), end),
            execution.lease.subscribe(),
            execution.cancel.subscribe(),
            Arc::clone(&execution.run),
        );
        execution.task = Some(tokio::spawn(run).abort_handle());
        life.executions.insert(id, execution);
        Ok(stages)
    }

    /// The command `run KEY MILLISECONDS EXIT-CODE`.
    async fn run(
        self: Arc<Self>,
        argv: Vec<String>,
        (stage, end): (watch::Sender<Stage>, watch::Sender<Stage>),
        mut lease: watch::Receiver<Option<Instant>>,
        mut cancel: watch::Receiver<bool>,
        run: Arc<Mutex<Option<usize>>>,
    ) {
        let [_, key, millis, code] = argv.as_slice() else { panic!("{argv:?}") };
        sleep(CELL).await;
        if self.chance.percent(self.clumsy) {
            let reason = Some(Reason::SandboxError);
            let outcome = Outcome::never_ran(Status::Failed, reason, "no cell");
            end.send_replace(Stage::Over(None, Box::new(outcome)));
            return;
        }
        let began = Instant::now();
        {
            let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
            *run.lock().unwrap_or_else(PoisonError::into_inner) = Some(runs.len());
            runs.push(Run { key: key.clone(), began, ended: None, finished: false });
        }
        let at = Timestamp::now();
        stage.send_replace(Stage::Runs(at));
        let mut left = Duration::from_millis(millis.parse().unwrap_or(0));
        let mut stopped = self.stopped.subscribe();
        let (status, reason, code) = loop {
            // While the machine stands still nothing happens on it.
            let still = *stopped.borrow_and_update();
            let over = *lease.borrow_and_update();
            let from = Instant::now();
            let never = from + Duration::from_secs(1 << 20);
            tokio::select! {
                biased;
                _ = stopped.changed() => {}
                _ = lease.changed() => {}
                _ = cancel.wait_for(|cancel| *cancel), if !still => {
                    break (Status::Cancelled, None, None);
                }
                () = sleep_until(over.unwrap_or(never)), if !still => {
                    break (Status::Failed, Some(Reason::RunnerLost), None);
                }
                () = sleep(left), if !still => {
                    let code: i32 = code.parse().unwrap_or(0);
                    let failed = (code != 0).then_some(Reason::ExitCode);
                    let status = if code == 0 { Status::Completed } else { Status::Failed };
                    break (status, failed, Some(code));
                }
            }
            if !still {
                left = left.saturating_sub(from.elapsed());
            }
        };
        self.over(&run, code.is_some());
        let mut outcome = Outcome::never_ran(status, reason, "it ended");
        (outcome.started_at, outcome.exit_code) = (Some(at), code);
        let mut outcome =
            outcome.with_output(Output::new(key.clone().into(), false), Output::default());
        if self.chance.percent(APART) {
            let stdout = key.len() as u64;
            outcome = outcome.without_output();
            outcome.output_bytes = Some(OutputBytes { stdout, stderr: 0 });
        }
        end.send_replace(Stage::Over(Some(at), Box::new(outcome)));
    }

    /// What an execution printed that has ended.
    pub(super) fn output(&self, execution: Uuid) -> Option<Vec<u8>> {
        let run = Arc::clone(&self.life().executions.get(&execution)?.run);
        let run = (*run.lock().unwrap_or_else(PoisonError::into_inner))?;
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        Some(runs.get(run)?.key.clone().into_bytes())
    }

    pub(super) fn renew(&self, request: &LeaseRequest) -> Renewed {
        let mut life = self.life();
        if let Err(why) = life.hear(Some(request.epoch)) {
            return Renewed::Stale(why);
        }
        let lease = Some(self.until(request.lease, request.as_of));
        let (mut executions, mut unknown) = (Vec::new(), Vec::new());
        for id in &request.executions {
            match life.executions.get(id) {
                Some(execution) => {
                    execution.renew(lease);
                    executions.push(execution.known(*id));
                }
                None => unknown.push(*id),
            }
        }
        Renewed::Yes(KnownExecutions { boot_id: life.boot, executions, unknown })
    }

    pub(super) fn known(&self) -> KnownExecutions {
        let life = self.life();
        let executions = life.executions.iter().map(|(id, execution)| execution.known(*id));
        KnownExecutions {
            boot_id: life.boot,
            executions: executions.collect(),
            unknown: Vec::new(),
        }
    }

    pub(super) fn look(&self, id: Uuid) -> Known {
        match self.life().executions.get(&id).map(|e| e.stage.borrow().clone()) {
            None => Known::Nothing,
            Some(Stage::Over(_, outcome)) => Known::Ended(outcome),
            Some(_) => Known::Running,
        }
    }

    pub(super) fn delete(&self, id: Uuid, term: Option<Term>, acknowledge: bool) -> Deleted {
        let mut life = self.life();
        if life.hear(term.map(|term| term.epoch.0)).is_err() {
            return Deleted::Stale;
        }
        let Some(execution) = life.executions.get(&id) else {
            life.gone.insert(id);
            return Deleted::Unknown;
        };
        if !execution.is_over() {
            execution.cancel.send_replace(true);
        }
        if acknowledge && (execution.is_over() || execution.mute && execution.is_finished()) {
            life.executions.remove(&id);
            life.gone.insert(id);
        }
        Deleted::Yes
    }
}

impl Life {
    fn hear(&mut self, epoch: Option<u64>) -> Result<(), String> {
        let epoch = epoch.unwrap_or_default();
        if epoch < self.epoch {
            return Err(format!("epoch {epoch} is over: {} is heard of", self.epoch));
        }
        self.epoch = self.epoch.max(epoch);
        Ok(())
    }

    fn running(&self) -> usize {
        self.executions.values().filter(|execution| !execution.is_over()).count()
    }
}
