//! One simulation: who there is, what is asked of them, and what goes wrong meanwhile.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicI64},
    time::Duration,
};

use cloister_api::{JobRequest, Program, Reason, Seconds, Task};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::{
    check::{Seen, Story},
    execution::Runs,
    fleet::SimRunner,
    link::Link,
    nature::{Chance, Nature},
    net::{Net, ToStore},
    plan::{Bug, Plan, Summary},
};
use crate::{
    Config,
    dispatch::{Source, discover},
    engine::{Engine, Parts},
    store::{Store, gated::Gated, memory::Memory},
};

/// How long a runner goes on without hearing of a coordinator.
pub(super) const LEASE: Duration = Duration::from_secs(10);
/// No command runs for so long: only what is never reported is ended by it.
const TIMEOUT: Seconds = Seconds(Duration::from_secs(60));
/// By when everything must have ended after the last fault.
const SETTLED: Duration = Duration::from_secs(600);

/// A coordinator, which may have crashed.
pub(super) struct Node {
    engine: Mutex<Option<Arc<Engine>>>,
    pub(super) skew: Arc<AtomicI64>,
}

/// Everything there is.
pub(super) struct Sim {
    bug: Bug,
    pub(super) chance: Chance,
    began: Instant,
    pub(super) nodes: Vec<Node>,
    pub(super) net: Arc<Net>,
    store: Arc<dyn Store>,
    pub(super) runners: Arc<Vec<Arc<SimRunner>>>,
    names: Arc<BTreeMap<String, usize>>,
    pub(super) runs: Runs,
    pub(super) story: Mutex<Story>,
}

/// Runs it; answers what happened, or what was broken.
pub(super) fn simulate(seed: u64, bug: Bug, plan: &Plan) -> Result<Summary, Vec<String>> {
    within(seed, async {
        let sim = Sim::new(seed, bug, plan);
        sim.play(plan).await
    })
}

/// Has something happen in simulated time.
#[cfg_attr(not(tokio_unstable), expect(unused_variables, reason = "chance is not the seed's"))]
pub(super) fn within<T>(seed: u64, what: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    #[cfg(tokio_unstable)]
    runtime.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_be_bytes()));
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(what)
}

impl Sim {
    pub(super) fn new(seed: u64, bug: Bug, plan: &Plan) -> Arc<Self> {
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
            store: Arc::new(Memory::new(chance.id(), bug != Bug::NoEpochs)),
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

    pub(super) fn engine(&self, at: usize) -> Option<Arc<Engine>> {
        let engine = self.nodes[at].engine.lock();
        engine.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn any(&self, count: usize) -> usize {
        usize::try_from(self.chance.below(count as u64)).unwrap_or(0)
    }

    pub(super) fn start(&self, at: usize) {
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

    pub(super) fn crash(&self, at: usize) {
        let engine = self.nodes[at].engine.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(engine) = engine {
            self.tell(|story| story.life(&engine));
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
        let mut task = Task::new(Program::Argv(argv.into()));
        task.timeout = TIMEOUT;
        let mut request = JobRequest::new(task);
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
            let submitted = async {
                let key = Some(key.clone());
                if number.is_multiple_of(4) {
                    let made = engine.submit_all(vec![request.clone()], key).await;
                    return made.map(|made| made.jobs[0].job_id);
                }
                engine.submit(request.clone(), key).await.map(|made| made.job.job_id)
            };
            if self.bug == Bug::AcknowledgeFirst {
                self.tell(|story| story.acknowledged(&key, None, may_repeat, code));
                // Whatever becomes of it, nobody asks again.
                drop(timeout(Duration::from_secs(30), submitted).await);
                return;
            }
            match timeout(Duration::from_secs(10), submitted).await {
                Ok(Ok(made)) => break made,
                _ => self.pause(2_000).await,
            }
        };
        self.tell(|story| story.acknowledged(&key, Some(id), may_repeat, code));
        if chance.percent(10) {
            self.pause(8_000).await;
            if let Some(engine) = self.engine(self.any(self.nodes.len())) {
                // It may be cancelled also where nobody hears the answer.
                self.tell(|story| story.cancelled(&key));
                let answer = timeout(Duration::from_secs(10), engine.cancel(id)).await;
                if matches!(answer, Ok(Ok(Some(_)))) {
                    self.tell(|story| story.called_off(&key));
                }
            }
        }
    }

    pub(super) fn tell(&self, what: impl FnOnce(&mut Story)) {
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
                story.life(&engine);
            }
        }
        let summary = story.judge(&*self.store, &runs, self.began).await;
        for at in 0..self.nodes.len() {
            self.crash(at);
        }
        summary
    }
}
