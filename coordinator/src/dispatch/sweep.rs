//! Asks runners to end or forget executions of this cluster that no job claims, at the beginning of a term
//! and every [`SWEEP`] in it: a result that nobody acknowledges takes up room at its runner.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, time::Instant};

use super::link::Deleted;
use crate::{
    engine::{Engine, Term},
    scheduler::RunnerName,
};

/// How often a runner is asked for executions that no job claims.
const SWEEP: Duration = Duration::from_secs(30);

/// Sweeps when it is due and the runner has just answered, one sweep after the other.
pub(super) async fn sweep_on(engine: Arc<Engine>, runner: RunnerName, answered: Arc<Notify>) {
    let mut swept = None;
    loop {
        answered.notified().await;
        sweep(&engine, &runner, &mut swept).await;
    }
}

async fn sweep(engine: &Arc<Engine>, runner: &RunnerName, swept: &mut Option<(Term, Instant)>) {
    let Some(term) = engine.mandate() else { return };
    let due = swept.is_none_or(|(then, at)| then != term || at.elapsed() >= SWEEP);
    if !due || engine.read(|scheduler| !scheduler.leads()) {
        return;
    }
    let Ok(known) = engine.runners.known(runner, term.cluster).await else { return };
    *swept = Some((term, Instant::now()));
    for execution in engine.orphans(term, &known.executions) {
        // A sweep may take longer than the term: a later one is not to be undone by it.
        if engine.mandate() != Some(term) {
            return;
        }
        let deleted = engine.runners.delete(runner, execution, Some(term), true).await;
        if matches!(deleted, Ok(Deleted::Yes)) {
            tracing::info!(%runner, execution_id = %execution, "a runner forgets what is nobody's any more");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use cloister_api::{ExecuteRequest, KnownExecutions, LEASES, LeaseRequest, RunnerHealth};
    use tokio::{sync::watch, time::timeout};
    use uuid::Uuid;

    use super::{
        super::{
            health::watch,
            link::{CallError, Chunks, Known, Renewed, Reply, RunnerLink, Taken},
        },
        *,
    };
    use crate::{
        Config,
        engine::Parts,
        scheduler::{Event, tests::health},
        store::{Stream, tests::Place},
        world::Real,
    };

    /// It answers, and never says what it has.
    #[derive(Default)]
    struct SlowToTell {
        asked: watch::Sender<usize>,
        renewed: watch::Sender<usize>,
    }

    fn never<T: Send + 'static>() -> Reply<'static, T> {
        Box::pin(pending::<Result<T, CallError>>())
    }

    impl RunnerLink for SlowToTell {
        fn health<'a>(&'a self, _: &'a str) -> Reply<'a, RunnerHealth> {
            let health = RunnerHealth { features: vec![LEASES.into()], ..health(1, 1) };
            Box::pin(async { Ok(health) })
        }

        fn execute<'a>(
            &'a self,
            _: &'a str,
            _: &'a ExecuteRequest,
            _: Option<Uuid>,
            _: usize,
        ) -> Reply<'a, Taken> {
            never()
        }

        fn look<'a>(&'a self, _: &'a str, _: Uuid, _: usize) -> Reply<'a, Known> {
            never()
        }

        fn output<'a>(
            &'a self,
            _: &'a str,
            _: Uuid,
            _: Stream,
            _: u64,
        ) -> Reply<'a, Option<Box<dyn Chunks>>> {
            never()
        }

        fn renew<'a>(&'a self, _: &'a str, _: &'a LeaseRequest) -> Reply<'a, Renewed> {
            self.renewed.send_modify(|count| *count += 1);
            Box::pin(async {
                Ok(Renewed::Yes(KnownExecutions {
                    boot_id: Uuid::nil(),
                    executions: Vec::new(),
                    unknown: Vec::new(),
                }))
            })
        }

        fn known<'a>(&'a self, _: &'a str, _: Uuid) -> Reply<'a, KnownExecutions> {
            self.asked.send_modify(|count| *count += 1);
            never()
        }

        fn delete<'a>(
            &'a self,
            _: &'a str,
            _: Uuid,
            _: Option<Term>,
            _: bool,
        ) -> Reply<'a, Deleted> {
            never()
        }
    }

    #[tokio::test]
    async fn a_slow_sweep_delays_no_renewal() {
        let (place, link) = (Place::sqlite(), Arc::new(SlowToTell::default()));
        let parts = Parts {
            store: place.open().await,
            runners: Arc::clone(&link) as Arc<dyn RunnerLink>,
            world: Arc::new(Real),
            name: "test".into(),
        };
        let engine = Engine::new(&Config::default(), parts).unwrap();
        engine.spawn(Arc::clone(&engine).campaign());
        let runner = RunnerName::from("http://a");
        engine.apply(Event::Listed(runner.clone()));
        let all = async {
            while engine.read(|scheduler| !scheduler.leads()) {
                tokio::task::yield_now().await;
            }
            let term = engine.mandate().unwrap();
            let held = engine.hold(term, &runner, Uuid::nil());
            held.taken();
            let post = watch(&engine, &runner);
            let (mut asked, mut renewed) = (link.asked.subscribe(), link.renewed.subscribe());
            asked.wait_for(|count| *count == 1).await.unwrap();
            let before = *renewed.borrow_and_update();
            post.ask_soon();
            renewed.wait_for(|count| *count > before).await.unwrap();
            post.ask_soon();
            renewed.wait_for(|count| *count > before + 1).await.unwrap();
            assert_eq!(*asked.borrow(), 1, "one sweep at a time");
        };
        timeout(Duration::from_secs(5), all).await.expect("a lease is not renewed");
        engine.close().await;
    }
}
