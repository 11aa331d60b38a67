//! One simulation: who there is, what is asked of them, and what goes wrong meanwhile.

use std::{
    collections::BTreeMap,
    ops::AddAssign,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use cloister_api::{JobRequest, Program, Reason, Task};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::{
    check::{Seen, Story},
    fleet::{Link, Runs, SimRunner},
    nature::{Chance, Nature},
    net::{Cut, Net, Party, ToStore},
};
use crate::{
    Config,
    dispatch::{Source, discover},
    engine::{Engine, Parts},
    store::{Store, gated::Gated, memory::Memory},
};

/// How long a runner goes on without hearing of a coordinator.
const LEASE: Duration = Duration::from_secs(10);
/// By when everything must have ended after the last fault.
const SETTLED: Duration = Duration::from_secs(600);

/// An error that is put in, to see whether it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    /// A job is acknowledged before it is written.
    AcknowledgeFirst,
}

/// How large, and how bad.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    nodes: usize,
    runners: usize,
    slots: usize,
    jobs: u64,
    faults: u64,
}

impl Plan {
    /// Small, so that there can be many.
    pub(super) fn of(seed: u64) -> Self {
        let chance = Chance::new(seed ^ 0x9e37_79b9);
        let pick = |from: u64, to: u64| from + chance.below(to - from + 1);
        Self {
            nodes: usize::try_from(pick(1, 3)).unwrap_or(1),
            runners: usize::try_from(pick(1, 5)).unwrap_or(1),
            slots: usize::try_from(pick(1, 4)).unwrap_or(1),
            jobs: pick(10, 40),
            faults: pick(3, 20),
        }
    }

    /// As large as a fleet gets.
    #[cfg(tokio_unstable)]
    pub(super) fn large(seed: u64) -> Self {
        Self { nodes: 3, runners: 1000, slots: 2, jobs: 3000, faults: 20 + seed % 20 }
    }
}

/// What happened in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) runners: u64,
    pub(super) jobs: u64,
    pub(super) executions: u64,
    /// Jobs by how they ended.
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) cancelled: u64,
    pub(super) lost_runners: u64,
    /// Attempts that followed others.
    pub(super) repeated: u64,
    pub(super) faults: u64,
    pub(super) terms: u64,
    pub(super) looks: u64,
    /// Simulated.
    pub(super) seconds: u64,
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.runners += other.runners;
        self.jobs += other.jobs;
        self.executions += other.executions;
        self.completed += other.completed;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.lost_runners += other.lost_runners;
        self.repeated += other.repeated;
        self.faults += other.faults;
        self.terms += other.terms;
        self.looks += other.looks;
        self.seconds += other.seconds;
    }
}

/// A coordinator, which may have crashed.
struct Node {
    engine: Mutex<Option<Arc<Engine>>>,
    skew: Arc<AtomicI64>,
}

/// Everything there is.
pub(super) struct Sim {
    bug: Bug,
    chance: Chance,
    began: Instant,
    nodes: Vec<Node>,
    net: Arc<Net>,
    store: Arc<dyn Store>,
    runners: Arc<Vec<Arc<SimRunner>>>,
    names: Arc<BTreeMap<String, usize>>,
    pub(super) runs: Runs,
    pub(super) story: Mutex<Story>,
}

/// Runs it; answers what happened, or what was broken.
pub(super) fn simulate(seed: u64, bug: Bug, plan: &Plan) -> Result<Summary, Vec<String>> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    #[cfg(tokio_unstable)]
    runtime.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_be_bytes()));
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let sim = Sim::new(seed, bug, plan);
        sim.play(plan).await
    })
}

impl Sim {
    fn new(seed: u64, bug: Bug, plan: &Plan) -> Arc<Self> {
        let chance = Chance::new(seed);
        let runs = Runs::default();
        let runner = |at| SimRunner::new(at, plan.slots, chance.clone(), runs.clone());
        let runners: Vec<_> = (0..plan.runners).map(runner).collect();
        let names = runners.iter().enumerate().map(|(at, runner)| (runner.name.clone(), at));
        let node = |_| Node { engine: Mutex::new(None), skew: Arc::default() };
        Arc::new(Self {
            bug,
            began: Instant::now(),
            nodes: (0..plan.nodes).map(node).collect(),
            net: Arc::new(Net::new(chance.clone(), plan.nodes)),
            store: Arc::new(Memory::new(chance.id())),
            names: Arc::new(names.collect()),
            runners: Arc::new(runners),
            chance,
            runs,
            story: Mutex::default(),
        })
    }

    async fn play(self: &Arc<Self>, plan: &Plan) -> Result<Summary, Vec<String>> {
        for at in 0..plan.nodes {
            self.start(at);
        }
        let observer = tokio::spawn(Arc::clone(self).observe());
        let clients: Vec<_> =
            (0..plan.jobs).map(|job| tokio::spawn(Arc::clone(self).client(job))).collect();
        for _ in 0..plan.faults {
            self.pause(6_000).await;
            self.fault();
        }
        self.heal();
        for client in clients {
            client.await.expect("clients do not fail");
        }
        let settled = timeout(SETTLED, self.settle()).await;
        observer.abort();
        let mut summary = self.judge(settled.is_err()).await?;
        summary.faults = plan.faults;
        summary.runners = plan.runners as u64;
        summary.seconds = self.began.elapsed().as_secs();
        Ok(summary)
    }

    async fn pause(&self, at_most: u64) {
        sleep(Duration::from_millis(self.chance.below(at_most))).await;
    }

    fn engine(&self, at: usize) -> Option<Arc<Engine>> {
        let engine = self.nodes[at].engine.lock();
        engine.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn any(&self, count: usize) -> usize {
        usize::try_from(self.chance.below(count as u64)).unwrap_or(0)
    }

    fn start(&self, at: usize) {
        let node = &self.nodes[at];
        let mut engine = node.engine.lock().unwrap_or_else(PoisonError::into_inner);
        if engine.is_some() {
            return;
        }
        let gate = ToStore { net: Arc::clone(&self.net), node: at };
        let nature = Nature::new(self.chance.clone(), self.began, Arc::clone(&node.skew));
        let link = Link {
            node: at,
            net: Arc::clone(&self.net),
            runners: Arc::clone(&self.runners),
            at: Arc::clone(&self.names),
            chance: self.chance.clone(),
        };
        let parts = Parts {
            store: Arc::new(Gated { inner: Arc::clone(&self.store), gate }),
            runners: Arc::new(link),
            world: Arc::new(nature),
            name: format!("node{at}"),
        };
        let config = Config { lease: LEASE, ..Config::default() };
        let new = Engine::new(&config, parts).expect("metrics");
        for runner in self.runners.iter() {
            let source = Source::Fixed(runner.name.as_str().into());
            new.spawn(discover(Arc::clone(&new), source));
        }
        new.start();
        *engine = Some(new);
    }

    fn crash(&self, at: usize) {
        let engine = self.nodes[at].engine.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(engine) = engine {
            let mut story = self.story.lock().unwrap_or_else(PoisonError::into_inner);
            story.terms += engine.terms.load(Relaxed);
            engine.crash();
        }
    }

    /// Submits a job until it is acknowledged, wherever, and perhaps cancels it later.
    async fn client(self: Arc<Self>, number: u64) {
        self.pause(40_000).await;
        let chance = &self.chance;
        let key = format!("job-{number}");
        let (millis, code) = match chance.below(10) {
            0 => (chance.below(40_000), 0),
            1 => (50, 3),
            2..=5 => (chance.below(5_000), 0),
            _ => (0, 0),
        };
        let argv = ["run", &key, &millis.to_string(), &code.to_string()].map(String::from);
        let mut request = JobRequest::new(Task::new(Program::Argv(argv.into())));
        if chance.percent(30) {
            request.retries = 10;
            request.retry_on = vec![Reason::RunnerLost];
        }
        request.priority = i32::try_from(chance.below(3)).unwrap_or(0);
        let may_repeat = request.retries > 0;
        let id = loop {
            let Some(engine) = self.engine(self.any(self.nodes.len())) else {
                self.pause(500).await;
                continue;
            };
            let submitted = async { engine.submit(request.clone(), Some(key.clone())).await };
            if self.bug == Bug::AcknowledgeFirst {
                self.tell(|story| story.acknowledged(&key, None, may_repeat, code));
                // Whatever becomes of it, nobody asks again.
                drop(timeout(Duration::from_secs(30), submitted).await);
                return;
            }
            match timeout(Duration::from_secs(10), submitted).await {
                Ok(Ok(accepted)) => break accepted.job.job_id,
                _ => self.pause(2_000).await,
            }
        };
        self.tell(|story| story.acknowledged(&key, Some(id), may_repeat, code));
        if chance.percent(10) {
            self.pause(8_000).await;
            if let Some(engine) = self.engine(self.any(self.nodes.len())) {
                // It may be cancelled also where nobody hears the answer.
                self.tell(|story| story.cancelled(&key));
                drop(timeout(Duration::from_secs(10), engine.cancel(id)).await);
            }
        }
    }

    fn tell(&self, what: impl FnOnce(&mut Story)) {
        what(&mut self.story.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Looks at jobs, one after the other, wherever it is answered.
    async fn observe(self: Arc<Self>) {
        loop {
            self.pause(300).await;
            let ids: Vec<Uuid> = self.story.lock().unwrap_or_else(PoisonError::into_inner).ids();
            if ids.is_empty() {
                continue;
            }
            let id = ids[self.any(ids.len())];
            let at = self.any(self.nodes.len());
            let Some(engine) = self.engine(at) else { continue };
            if let Ok(Ok(Some(job))) = timeout(Duration::from_secs(10), engine.view(id)).await {
                let seen = Seen { attempt: job.attempt, status: job.status, at };
                let when = self.began.elapsed();
                self.tell(|story| story.saw(id, seen, when));
            }
        }
    }

    fn fault(self: &Arc<Self>) {
        let (node, runner) = (self.any(self.nodes.len()), self.any(self.runners.len()));
        let sim = Arc::clone(self);
        let of = Arc::clone(&self.runners[runner]);
        let cut = Cut { there: self.chance.percent(70), back: self.chance.percent(70) };
        let party = Party::Runner(runner);
        let kind = self.chance.below(12);
        let lasts = Duration::from_millis(200 + self.chance.below(20_000));
        let what = format!("{kind} node {node} runner {runner} {lasts:?} {cut:?}");
        self.tell(|story| story.fault(what));
        tokio::spawn(async move {
            match kind {
                0 | 1 => {
                    sim.crash(node);
                    sleep(lasts / 8).await;
                    sim.start(node);
                }
                2 | 3 => {
                    of.crash();
                    sleep(lasts / 4).await;
                    of.restart();
                }
                4 => {
                    sim.net.stopped[node].send_replace(true);
                    sleep(lasts).await;
                    sim.net.stopped[node].send_replace(false);
                }
                5 => {
                    of.stopped.send_replace(true);
                    sleep(lasts).await;
                    of.stopped.send_replace(false);
                }
                6 | 7 => {
                    sim.net.cut(node, party, cut);
                    sleep(lasts).await;
                    sim.net.cut(node, party, Cut::default());
                }
                8 => {
                    sim.net.cut(node, Party::Store, cut);
                    sleep(lasts).await;
                    sim.net.cut(node, Party::Store, Cut::default());
                }
                9 => {
                    sim.net.slowest.store(800, Relaxed);
                    sleep(lasts).await;
                    sim.net.slowest.store(5, Relaxed);
                }
                10 => {
                    let hour = 3_600_000;
                    let by = i64::try_from(sim.chance.below(2 * hour)).unwrap_or(0) - 3_600_000;
                    sim.nodes[node].skew.store(by, Relaxed);
                }
                _ => {
                    let engine = sim.engine(node);
                    if let Some(engine) = engine {
                        engine.drain().await;
                        let _ = timeout(lasts / 4, engine.idle()).await;
                        sim.crash(node);
                    }
                    sim.start(node);
                }
            }
        });
    }

    fn heal(&self) {
        self.net.mend();
        for node in 0..self.nodes.len() {
            self.net.stopped[node].send_replace(false);
            self.start(node);
        }
        for runner in self.runners.iter() {
            runner.stopped.send_replace(false);
            runner.restart();
        }
    }

    /// Returns when every job that was acknowledged has ended, and every result was acknowledged.
    async fn settle(&self) {
        loop {
            // Faults may end later than the last one began.
            self.heal();
            let ids = self.story.lock().unwrap_or_else(PoisonError::into_inner).ids();
            let ended = self.store.ended(ids.clone()).await.unwrap_or_default();
            let kept: usize = self.runners.iter().map(|runner| runner.kept()).sum();
            if ended.len() == ids.len() && kept == 0 {
                return;
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    async fn judge(&self, unsettled: bool) -> Result<Summary, Vec<String>> {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut story =
            std::mem::take(&mut *self.story.lock().unwrap_or_else(PoisonError::into_inner));
        if unsettled {
            let kept: usize = self.runners.iter().map(|runner| runner.kept()).sum();
            story.broken.push(format!("not everything ended; {kept} results are kept"));
        }
        for at in 0..self.nodes.len() {
            if let Some(engine) = self.engine(at) {
                story.terms += engine.terms.load(Relaxed);
            }
        }
        let summary = story.judge(&*self.store, &runs, self.began).await;
        for at in 0..self.nodes.len() {
            self.crash(at);
        }
        summary
    }
}
