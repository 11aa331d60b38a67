//! Runners as a coordinator knows them: they keep executions with an id, join them, end them when
//! their lease runs out, refuse terms that are over, and have another life after each crash.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cloister_api::{
    ByteSize, ExecuteRequest, KnownExecution, KnownExecutions, LEASES, LeaseRequest, Outcome,
    Output, Program, Reason, RunnerHealth, RunnerState, Slots, Status, Timestamp,
};
use tokio::{
    sync::{oneshot, watch},
    task::AbortHandle,
    time::{Instant, sleep, sleep_until, timeout},
};
use uuid::Uuid;

use super::{
    nature::Chance,
    net::{Net, Party},
};
use crate::{
    dispatch::link::{CallError, Deleted, Known, Line, Lines, Renewed, Reply, RunnerLink, Taken},
    engine::Term,
};

const ANSWER: Duration = Duration::from_secs(3);
/// How long making a cell takes.
const CELL: Duration = Duration::from_millis(5);

/// One execution of a job's command.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) key: String,
    pub(super) began: Instant,
    /// When it ended or was killed.
    pub(super) ended: Option<Instant>,
    /// It ended by itself.
    pub(super) finished: bool,
}

/// Every execution that there was.
pub(super) type Runs = Arc<Mutex<Vec<Run>>>;

#[derive(Clone, Debug)]
enum Stage {
    Making,
    Runs(Timestamp),
    Over(Option<Timestamp>, Box<Outcome>),
}

struct Execution {
    attempt: Option<u32>,
    stage: watch::Sender<Stage>,
    lease: watch::Sender<Option<Instant>>,
    cancel: watch::Sender<bool>,
    task: Option<AbortHandle>,
    /// Where it stands in the list of runs, once its command was executed.
    run: Arc<Mutex<Option<usize>>>,
}

struct Life {
    up: bool,
    boot: Uuid,
    epoch: u64,
    executions: BTreeMap<Uuid, Execution>,
}

/// A runner.
pub(super) struct SimRunner {
    pub(super) name: String,
    slots: usize,
    life: Mutex<Life>,
    /// The machine stands still, and what it runs with it.
    pub(super) stopped: watch::Sender<bool>,
    chance: Chance,
    runs: Runs,
    /// How often of a hundred times it can't make a cell.
    pub(super) clumsy: u64,
}

impl SimRunner {
    pub(super) fn new(at: usize, slots: usize, chance: Chance, runs: Runs) -> Arc<Self> {
        let boot = chance.id();
        let clumsy = if chance.percent(10) { 30 } else { 0 };
        Arc::new(Self {
            name: format!("http://10.0.{}.{}:8080", at / 256, at % 256),
            slots,
            life: Mutex::new(Life { up: true, boot, epoch: 0, executions: BTreeMap::new() }),
            stopped: watch::Sender::new(false),
            chance,
            runs,
            clumsy,
        })
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends without a word, and everything that it ran with it.
    pub(super) fn crash(&self) {
        let mut life = self.life();
        life.up = false;
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
            (life.up, life.boot, life.epoch) = (true, self.chance.id(), 0);
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
            (run.ended, run.finished) = (Some(Instant::now()), finished);
        }
    }

    fn health(&self) -> RunnerHealth {
        let life = self.life();
        RunnerHealth {
            status: RunnerState::Ok,
            boot_id: life.boot,
            version: "simulated".into(),
            features: vec![LEASES.into()],
            slots: Slots { total: self.slots, used: life.running() },
            load: None,
            cpus: 4.0,
            memory: ByteSize::mib(4096),
            open_files: 4096,
            network_host: false,
            problems: Vec::new(),
            enforcement: Vec::new(),
        }
    }

    fn execute(
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
        let lease = request.lease.map(|lease| Instant::now() + lease.0);
        if let Some(known) = life.executions.get(&id) {
            known.renew(lease);
            return Ok(known.stage.subscribe());
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
        };
        let Program::Argv(argv) = &request.task.program else { panic!("these are not shells") };
        let run = self.clone().run(
            argv.clone(),
            execution.stage.clone(),
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
        stage: watch::Sender<Stage>,
        mut lease: watch::Receiver<Option<Instant>>,
        mut cancel: watch::Receiver<bool>,
        run: Arc<Mutex<Option<usize>>>,
    ) {
        let [_, key, millis, code] = argv.as_slice() else { panic!("{argv:?}") };
        sleep(CELL).await;
        if self.chance.percent(self.clumsy) {
            let reason = Some(Reason::SandboxError);
            let outcome = Outcome::never_ran(Status::Failed, reason, "no cell");
            stage.send_replace(Stage::Over(None, Box::new(outcome)));
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
        let outcome =
            outcome.with_output(Output::new(key.clone().into(), false), Output::default());
        stage.send_replace(Stage::Over(Some(at), Box::new(outcome)));
    }

    fn renew(&self, request: &LeaseRequest) -> Renewed {
        let mut life = self.life();
        if let Err(why) = life.hear(Some(request.epoch)) {
            return Renewed::Stale(why);
        }
        let lease = Some(Instant::now() + request.lease.0);
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

    fn known(&self) -> KnownExecutions {
        let life = self.life();
        let executions = life.executions.iter().map(|(id, execution)| execution.known(*id));
        KnownExecutions {
            boot_id: life.boot,
            executions: executions.collect(),
            unknown: Vec::new(),
        }
    }

    fn look(&self, id: Uuid) -> Known {
        match self.life().executions.get(&id).map(|e| e.stage.borrow().clone()) {
            None => Known::Nothing,
            Some(Stage::Over(_, outcome)) => Known::Ended(outcome),
            Some(_) => Known::Running,
        }
    }

    fn delete(&self, id: Uuid, term: Option<Term>) -> Deleted {
        let mut life = self.life();
        if life.hear(term.map(|term| term.epoch.0)).is_err() {
            return Deleted::Stale;
        }
        let Some(execution) = life.executions.get(&id) else {
            return Deleted::Unknown;
        };
        if execution.is_over() {
            life.executions.remove(&id);
        } else {
            execution.cancel.send_replace(true);
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

impl Execution {
    fn is_over(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Over(..))
    }

    /// A lease that has run out is not renewed.
    fn renew(&self, lease: Option<Instant>) {
        let over = self.lease.borrow().is_some_and(|until| until <= Instant::now());
        if !over {
            self.lease.send_replace(lease);
        }
    }

    fn known(&self, execution_id: Uuid) -> KnownExecution {
        let (status, started_at) = match &*self.stage.borrow() {
            Stage::Making => (Status::Running, None),
            Stage::Runs(at) => (Status::Running, Some(*at)),
            Stage::Over(at, outcome) => (outcome.status, *at),
        };
        KnownExecution { execution_id, attempt: self.attempt, status, started_at }
    }
}

/// All runners, as one coordinator reaches them.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) node: usize,
    pub(super) net: Arc<Net>,
    pub(super) runners: Arc<Vec<Arc<SimRunner>>>,
    pub(super) at: Arc<BTreeMap<String, usize>>,
    pub(super) chance: Chance,
}

impl Link {
    /// Has a runner do something. What was sent is done also where nobody waits for the answer.
    async fn call<T: Send + 'static>(
        &self,
        runner: &str,
        doing: impl FnOnce(&Arc<SimRunner>) -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let at = self.at[runner];
        if !self.net.moving(self.node).await {
            return Err(CallError::Connect("it stood still".into()));
        }
        let (reply, answer) = oneshot::channel();
        let link = self.clone();
        tokio::spawn(async move {
            let runner = &link.runners[at];
            link.net.leg().await;
            let party = Party::Runner(at);
            if link.net.between(link.node, party).there {
                // New connections fail, and what goes over an old one never comes.
                sleep(ANSWER).await;
                let error = if link.chance.percent(50) {
                    CallError::Connect("no route".into())
                } else {
                    CallError::Broken("no acknowledgement".into())
                };
                return drop(reply.send(Err(error)));
            }
            let stood = *runner.stopped.borrow();
            let _ = runner.stopped.subscribe().wait_for(|stopped| !stopped).await;
            // What it would find of a connection that was given up is left out: a request that lies in
            // a machine for longer than a lease can't be told from one that was just sent.
            if stood && reply.is_closed() {
                return;
            }
            if !runner.life().up {
                return drop(reply.send(Err(CallError::Connect("refused".into()))));
            }
            let done = doing(runner);
            link.net.leg().await;
            if link.net.between(link.node, party).back {
                sleep(ANSWER).await;
                return drop(reply.send(Err(CallError::Broken("reset".into()))));
            }
            let _ = reply.send(Ok(done));
        });
        let answer = timeout(ANSWER, answer).await;
        self.net.moving(self.node).await;
        answer.map_or(Err(CallError::Late(ANSWER)), |answer| {
            answer.unwrap_or_else(|_| Err(CallError::Broken("nobody answered".into())))
        })
    }
}

impl RunnerLink for Link {
    fn health<'a>(&'a self, runner: &'a str) -> Reply<'a, RunnerHealth> {
        Box::pin(self.call(runner, |runner| runner.health()))
    }

    fn execute<'a>(
        &'a self,
        runner: &'a str,
        request: &'a ExecuteRequest,
        boot: Option<Uuid>,
        _max_line: usize,
    ) -> Reply<'a, Taken> {
        let sent = request.clone();
        Box::pin(async move {
            let answer = self.call(runner, move |runner| runner.execute(&sent, boot)).await?;
            Ok(match answer {
                Err(taken) => taken,
                Ok(stages) => {
                    let at = self.at[runner];
                    Taken::Yes(Box::new(SimLines { link: self.clone(), at, stages, told: 0 }))
                }
            })
        })
    }

    fn look<'a>(&'a self, runner: &'a str, execution: Uuid, _max: usize) -> Reply<'a, Known> {
        Box::pin(self.call(runner, move |runner| runner.look(execution)))
    }

    fn renew<'a>(&'a self, runner: &'a str, request: &'a LeaseRequest) -> Reply<'a, Renewed> {
        let request = request.clone();
        Box::pin(self.call(runner, move |runner| runner.renew(&request)))
    }

    fn known<'a>(&'a self, runner: &'a str) -> Reply<'a, KnownExecutions> {
        Box::pin(self.call(runner, |runner| runner.known()))
    }

    fn delete<'a>(
        &'a self,
        runner: &'a str,
        execution: Uuid,
        term: Option<Term>,
    ) -> Reply<'a, Deleted> {
        Box::pin(self.call(runner, move |runner| runner.delete(execution, term)))
    }
}

/// What happens at an execution, as it comes over the network.
struct SimLines {
    link: Link,
    at: usize,
    stages: watch::Receiver<Stage>,
    /// Lines that were read.
    told: usize,
}

impl SimLines {
    async fn line(&mut self) -> Result<Option<Line>, CallError> {
        let told = self.told;
        let due = move |stage: &Stage| match (told, stage) {
            (0, Stage::Runs(at) | Stage::Over(Some(at), _)) => Some(Line::Started(*at)),
            (_, Stage::Over(_, outcome)) => Some(Line::Result(outcome.clone())),
            (_, _) => None,
        };
        let line = match self.stages.wait_for(|stage| due(stage).is_some()).await {
            Ok(stage) => due(&stage),
            Err(_) => None,
        };
        self.link.net.leg().await;
        let mut mended = self.link.net.mended.subscribe();
        let (node, party) = (self.link.node, Party::Runner(self.at));
        while self.link.net.between(node, party) != super::net::Cut::default() {
            if self.link.chance.percent(30) {
                return Err(CallError::Broken("reset".into()));
            }
            let _ = mended.changed().await;
        }
        self.link.net.moving(node).await;
        match line {
            Some(line) => {
                self.told = if matches!(line, Line::Started(_)) { 1 } else { 2 };
                Ok(Some(line))
            }
            None => Err(CallError::Broken("the runner is gone".into())),
        }
    }
}

impl Lines for SimLines {
    fn next(&mut self) -> Reply<'_, Option<Line>> {
        Box::pin(self.line())
    }
}
