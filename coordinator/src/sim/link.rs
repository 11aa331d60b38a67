//! The way of one coordinator to the runners: what is asked, answered and told over the network.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use cloister_api::{ExecuteRequest, KnownExecutions, LeaseRequest, RunnerHealth};
use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::{
    execution::Stage,
    fleet::SimRunner,
    nature::Chance,
    net::{Cut, Net, Party},
};
use crate::{
    dispatch::link::{
        CallError, Chunks, Deleted, Known, Line, Lines, Renewed, Reply, RunnerLink, Taken,
    },
    engine::Term,
    store::Stream,
};

/// What a coordinator waits for that is answered from memory.
const ANSWER: Duration = Duration::from_secs(3);

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
        // What it had just decided to send when it was stopped it sends when it goes on.
        if !self.net.moving(self.node).await && !self.chance.percent(30) {
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
            let _ = runner.stopped.subscribe().wait_for(|stopped| !stopped).await;
            if !runner.is_up() {
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

    fn output<'a>(
        &'a self,
        runner: &'a str,
        execution: Uuid,
        stream: Stream,
        offset: u64,
    ) -> Reply<'a, Option<Box<dyn Chunks>>> {
        Box::pin(async move {
            let printed = self.call(runner, move |runner| runner.output(execution)).await?;
            let Some(printed) = printed else { return Ok(None) };
            let whole = if stream == Stream::Stdout { Bytes::from(printed) } else { Bytes::new() };
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(whole.len());
            // It may break off anywhere.
            let broken = self.chance.percent(20);
            let length = if broken { self.chance.below(whole.len() as u64) } else { u64::MAX };
            let to = usize::try_from(length).unwrap_or(usize::MAX).clamp(from, whole.len());
            Ok(Some(Box::new(SimChunks { rest: Some(whole.slice(from..to)), broken }) as _))
        })
    }

    fn renew<'a>(&'a self, runner: &'a str, request: &'a LeaseRequest) -> Reply<'a, Renewed> {
        let request = request.clone();
        Box::pin(self.call(runner, move |runner| runner.renew(&request)))
    }

    fn known<'a>(&'a self, runner: &'a str, _cluster: Uuid) -> Reply<'a, KnownExecutions> {
        Box::pin(self.call(runner, |runner| runner.known()))
    }

    fn delete<'a>(
        &'a self,
        runner: &'a str,
        execution: Uuid,
        term: Option<Term>,
        acknowledge: bool,
    ) -> Reply<'a, Deleted> {
        Box::pin(self.call(runner, move |runner| runner.delete(execution, term, acknowledge)))
    }
}

/// What an execution printed, as it comes over the network.
struct SimChunks {
    rest: Option<Bytes>,
    broken: bool,
}

impl Chunks for SimChunks {
    fn next(&mut self) -> Reply<'_, Option<Bytes>> {
        Box::pin(async {
            match self.rest.take() {
                None if self.broken => Err(CallError::Broken("reset".into())),
                rest => Ok(rest),
            }
        })
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
        while self.link.net.between(node, party) != Cut::default() {
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
