//! From a request to an execution: who is joined, who is refused, and what runs.

use std::sync::Arc;

use cloister_api::{Bounds, ExecuteRequest, FieldProblem, Kind, Network, Problem, Task};
use cloister_web::{BodyReader, Shutdown};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    Config, Error, Lost,
    cells::Cells,
    execution::{Execution, Why, Witness},
    kept::{Kept, Table, Terms},
    metrics::{Metrics, Refusal},
    slots::Slots,
};

/// Everything that handlers share.
pub(crate) struct Runner {
    pub(crate) cells: Arc<dyn Cells>,
    /// Made anew at each start.
    pub(crate) boot_id: Uuid,
    pub(crate) bounds: Bounds,
    pub(crate) slots: Arc<Slots>,
    pub(crate) kept: Arc<Kept>,
    pub(crate) metrics: Arc<Metrics>,
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
    pub(crate) fn new(
        config: &Config,
        cells: Arc<dyn Cells>,
        lost: Lost,
        shutdown: Shutdown,
    ) -> Result<Self, Error> {
        let slots = config.slots.unwrap_or_else(|| cells.host().cores.max(2)).max(1);
        Ok(Self {
            boot_id: Uuid::new_v4(),
            bounds: cells.host().bounds(&config.bounds),
            slots: Slots::new(slots),
            kept: Kept::new(config.results),
            metrics: Arc::new(Metrics::new(slots)?),
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
        let mut table = self.kept.lock();
        table.hear(request.epoch).map_err(|newest| stale(&request, newest))?;
        let Some(terms) = terms else {
            drop(table);
            let execution = self.start(request.task, streamed)?;
            return Ok(Admission { execution, alone: true });
        };
        let execution = match join(&table, &terms)? {
            Some(execution) => execution,
            None if self.kept.has_room(&table) => {
                // Whoever joins may want the stream, however the first one asked.
                let execution = self.start(request.task, true)?;
                self.kept.insert(&mut table, &terms, &execution);
                execution
            }
            None => {
                return Err(self.refuse(
                    Refusal::Results,
                    "too many results wait to be acknowledged; DELETE /executions/{id} does that",
                ));
            }
        };
        Ok(Admission { execution, alone: false })
    }

    fn start(&self, task: Task, logged: bool) -> Result<Arc<Execution>, Problem> {
        if self.lost.is_lost() {
            return Err(self.refuse(Refusal::Failed, "this runner can make no cells any more"));
        }
        if self.shutdown.is_draining() {
            return Err(
                self.refuse(Refusal::Draining, "this runner is draining and takes no new work")
            );
        }
        let execution = Execution::new(logged);
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

/// The execution that this id stands for already, whose owner was thereby heard of.
fn join(table: &Table, terms: &Terms) -> Result<Option<Arc<Execution>>, Problem> {
    let Some(entry) = table.find(terms.id) else {
        return Ok(None);
    };
    if !entry.means(terms) {
        let detail = format!(
            "the execution_id {} stands for another task or attempt; choose a new one",
            terms.id
        );
        return Err(Problem::new(Kind::KeyReused, detail));
    }
    entry.renew(terms);
    Ok(Some(Arc::clone(&entry.execution)))
}

fn stale(request: &ExecuteRequest, newest: u64) -> Problem {
    let epoch = request.epoch.unwrap_or_default();
    let detail = format!("epoch {epoch} is over: a coordinator of epoch {newest} leads now");
    Problem::new(Kind::Conflict, detail)
}
