//! From a request to an execution: who is joined, who is refused, and what runs.

use std::sync::Arc;

use cloister_api::{
    Bounds, ExecuteRequest, FieldProblem, Kind, KnownExecutions, LeaseRequest, Network, Problem,
    Task,
};
use cloister_web::{BodyReader, Shutdown};
use tokio::{sync::Mutex, time::Instant};
use uuid::Uuid;

use crate::{
    Config, Error, Lost,
    cells::Cells,
    clock::Clock,
    entry::{Grant, Terms},
    epochs::{Caller, Unheard},
    execution::{Execution, Why, Witness},
    kept::{Ended, Kept},
    metrics::{Metrics, Refusal},
    slots::Slots,
    spool::Spool,
};

/// Why a runner without room for results takes nothing with an id.
pub(crate) const RESULTS: &str =
    "too many results wait to be acknowledged; DELETE /executions/{id} does that";
/// Why a runner whose spool is full takes nothing.
pub(crate) const SPOOL: &str = "the runner's spool is full: results have to be acknowledged first, or \
                                it needs a larger --spool-size";
/// Why a runner does not begin what comes when the lease that it came with is over.
const LATE: &str = "the request was so long on its way that its lease is over";
/// After how many seconds a cluster too many may try again: nothing but a day's silence makes room.
const STRANGER: u64 = 60;

/// Everything that handlers share.
pub(crate) struct Runner {
    pub(crate) cells: Arc<dyn Cells>,
    /// Made anew at each start.
    pub(crate) boot_id: Uuid,
    pub(crate) bounds: Bounds,
    pub(crate) slots: Arc<Slots>,
    pub(crate) kept: Arc<Kept>,
    pub(crate) spool: Spool,
    pub(crate) metrics: Arc<Metrics>,
    /// Held while a scrape reads cgroups.
    pub(crate) scraping: Arc<Mutex<()>>,
    pub(crate) bodies: BodyReader,
    pub(crate) shutdown: Shutdown,
    pub(crate) lost: Lost,
}

/// A caller's hold on an execution.
pub(crate) struct Admission {
    pub(crate) execution: Arc<Execution>,
    /// Without an id nobody else can come for it: the job ends with its caller's connection.
    alone: bool,
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.alone && self.execution.outcome().is_none() {
            self.execution.cancel(Why::CallerGone);
        }
    }
}

impl Runner {
    /// One that runs nothing yet. Must be called within a runtime.
    pub(crate) fn new(
        config: &Config,
        cells: Arc<dyn Cells>,
        clock: Arc<dyn Clock>,
        lost: Lost,
        shutdown: Shutdown,
    ) -> Result<Self, Error> {
        let slots = config.slots.unwrap_or_else(|| cells.host().cores.max(2)).max(1);
        Ok(Self {
            boot_id: Uuid::new_v4(),
            bounds: cells.host().bounds(&config.bounds),
            slots: Slots::new(slots),
            kept: Kept::new(config.results, clock),
            spool: Spool::new(config.spool.clone(), config.spool_size.0)?,
            metrics: Arc::new(Metrics::new(slots)?),
            scraping: Arc::default(),
            bodies: BodyReader::new(config.bodies),
            cells,
            shutdown,
            lost,
        })
    }

    /// Reads what is to be run, within what this machine can give.
    pub(crate) fn parse(&self, body: &[u8]) -> Result<ExecuteRequest, Problem> {
        let request = ExecuteRequest::parse(body, &self.bounds)?;
        if request.task.network == Network::Host && !self.cells.host().network_host {
            return Err(Problem::invalid(vec![FieldProblem {
                pointer: "/network".into(),
                detail: "\"host\" is not allowed on this runner; \
                         its operator can allow it with --allow-network host"
                    .into(),
            }]));
        }
        Ok(request)
    }

    /// Starts what was asked, or joins it.
    pub(crate) fn admit(
        &self,
        request: ExecuteRequest,
        streamed: bool,
    ) -> Result<Admission, Problem> {
        let terms = Terms::of(&request);
        let mut kept = self.kept.lock();
        let caller = Caller::of(&request);
        kept.hear(caller).map_err(|unheard| {
            if unheard == Unheard::Stranger {
                self.metrics.refused(Refusal::Clusters);
            }
            self.unheard(caller, unheard)
        })?;
        let Some(terms) = terms else {
            drop(kept);
            let execution = self.start(request.task, streamed)?;
            return Ok(Admission { execution, alone: true });
        };
        let known = kept.join(&terms).map_err(|what| {
            let detail =
                format!("the execution_id {} stands for {what}; choose a new one", terms.id);
            Problem::new(Kind::KeyReused, detail)
        })?;
        let now = self.kept.now();
        let execution = match known {
            Some(execution) => execution,
            None if terms.lease.is_some_and(|grant| grant.until(now) <= now) => {
                return Err(self.refuse(Refusal::Late, LATE));
            }
            None if kept.has_room(self.spool.in_memory()) => {
                // Whoever joins may want the stream, however the first one asked.
                let execution = self.start(request.task, true)?;
                kept.insert(&terms, &execution);
                execution
            }
            None => return Err(self.refuse(Refusal::Results, RESULTS)),
        };
        Ok(Admission { execution, alone: false })
    }

    /// Renews leases together, and tells how each execution stands.
    pub(crate) fn renew(&self, request: LeaseRequest) -> Result<KnownExecutions, Problem> {
        let LeaseRequest { cluster, epoch, lease, as_of, executions } = request;
        let mut kept = self.kept.lock();
        let caller = Caller { cluster: Some(cluster), epoch: Some(epoch) };
        kept.hear(caller).map_err(|unheard| self.unheard(caller, unheard))?;
        let (executions, unknown) = kept.renew(cluster, Grant { lease, as_of }, executions);
        Ok(KnownExecutions { boot_id: self.boot_id, executions, unknown })
    }

    /// All that is known, or what is of one cluster.
    pub(crate) fn known(&self, cluster: Option<Uuid>) -> KnownExecutions {
        let executions = self.kept.lock().all(cluster);
        KnownExecutions { boot_id: self.boot_id, executions, unknown: Vec::new() }
    }

    /// Cancels what runs, or forgets what has ended, if that is acknowledged; `None` where nothing is
    /// known.
    pub(crate) fn end(
        &self,
        id: Uuid,
        caller: Caller,
        acknowledge: bool,
    ) -> Result<Option<Ended>, Problem> {
        let mut kept = self.kept.lock();
        kept.hear(caller).map_err(|unheard| self.unheard(caller, unheard))?;
        Ok(kept.end(id, caller.cluster, acknowledge))
    }

    /// What is said to who does not lead any more.
    fn unheard(&self, caller: Caller, unheard: Unheard) -> Problem {
        match unheard {
            Unheard::Stale(newest) => {
                self.metrics.stale();
                let epoch = caller.epoch.unwrap_or_default();
                let detail =
                    format!("epoch {epoch} is over: a coordinator of epoch {newest} leads now");
                Problem::new(Kind::Conflict, detail)
            }
            Unheard::Stranger => {
                let detail = "this runner has heard of as many clusters as it tells apart; one that is \
                              silent for a day makes room, and so does starting the runner anew";
                Problem::new(Kind::Unavailable, detail).retry_after(STRANGER)
            }
        }
    }

    /// Why nothing new is taken, whatever room there is.
    pub(crate) fn closed(&self) -> Option<(Refusal, &'static str)> {
        if self.lost.is_lost() {
            Some((Refusal::Failed, "this runner can make no cells any more"))
        } else if self.shutdown.is_draining() {
            Some((Refusal::Draining, "this runner is draining and takes no new work"))
        } else {
            None
        }
    }

    /// Whether there is room for one more execution with an id.
    pub(crate) fn has_room(&self) -> bool {
        self.kept.lock().has_room(self.spool.in_memory())
    }

    fn start(&self, task: Task, logged: bool) -> Result<Arc<Execution>, Problem> {
        if let Some((refusal, detail)) = self.closed() {
            return Err(self.refuse(refusal, detail));
        }
        if self.spool.is_full() {
            return Err(self.refuse(Refusal::Spool, SPOOL));
        }
        let execution = Execution::new(logged, &self.spool);
        let Some(slot) = self.slots.take(&execution) else {
            let detail = format!("all {} slots of this runner are taken", self.slots.total());
            return Err(self.refuse(Refusal::Slots, detail));
        };
        self.metrics.taken();
        let witness = Witness {
            execution: Arc::clone(&execution),
            metrics: Arc::clone(&self.metrics),
            accepted: Instant::now(),
            slot: Some(slot),
        };
        execution.runs(self.cells.run(task, Box::new(witness)));
        Ok(execution)
    }

    fn refuse(&self, refusal: Refusal, detail: impl Into<String>) -> Problem {
        self.metrics.refused(refusal);
        Problem::new(Kind::Unavailable, detail).retry_after(1)
    }
}
