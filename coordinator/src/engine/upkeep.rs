//! What is done every now and then, by every coordinator or by the one that leads.

use std::{sync::Arc, time::Duration};

use cloister_api::{Problem, Timestamp};
use tokio::time::sleep;
use uuid::Uuid;

use super::{Engine, jobs::store_problem};
use crate::{
    scheduler::{Event, RunnerName, Scheduler},
    store::{Figures, Order, Orders, StoreError},
};

/// How often operators' orders, and how full the store is, are read.
const LOOK: Duration = Duration::from_secs(2);
/// How often those who wait for jobs that others schedule are looked after.
const ENDS: Duration = Duration::from_millis(100);
/// Jobs asked for at once.
const ASKED: usize = 1000;

impl Engine {
    /// Ticks the scheduler when it is due.
    pub(crate) async fn tick(self: Arc<Self>) {
        loop {
            let due = self.read(Scheduler::next_due);
            let left = due.map(|due| due.since_ms(self.world.now()).max(0).unsigned_abs());
            tokio::select! {
                biased;
                () = self.due.notified() => {}
                () = sleep(Duration::from_millis(left.unwrap_or_default())), if left.is_some() => {
                    self.apply(Event::Tick);
                }
            }
        }
    }

    /// Reads what operators ordered, at whichever coordinator, and how full the store is.
    pub(crate) async fn look(self: Arc<Self>) {
        let mut stirs = self.stirs();
        loop {
            match self.store.orders().await {
                Ok(orders) => self.obey(orders),
                Err(error) => self.store_failed(&error),
            }
            let stored = self.state().elsewhere.stored();
            match self.store.figures().await {
                Ok(figures) => {
                    let mut state = self.state();
                    state.elsewhere.told(stored);
                    self.figures.send_replace(Some(figures));
                }
                Err(error) => self.store_failed(&error),
            }
            self.retry_unreadable().await;
            self.rest(LOOK, &mut stirs).await;
        }
    }

    fn obey(self: &Arc<Self>, orders: Orders) {
        let mut state = self.state();
        let before = std::mem::replace(&mut state.orders, orders.clone());
        if before.paused != orders.paused {
            if let Some(why) = &orders.paused {
                tracing::warn!(why, "paused: no job is dispatched");
            } else {
                tracing::info!("no longer paused: jobs are dispatched");
            }
            self.apply_within(&mut state, Event::Paused(orders.paused));
        }
        let changed = |from: &[String], to: &[String]| {
            from.iter().filter(|name| !to.contains(name)).cloned().collect::<Vec<_>>()
        };
        let lifted = changed(&before.drained, &orders.drained);
        let given = changed(&orders.drained, &before.drained);
        for (names, drained) in [(lifted, false), (given, true)] {
            for name in names {
                tracing::info!(runner = name, drained, "an operator drains a runner, or no more");
                let runner = RunnerName::from(name);
                self.apply_within(&mut state, Event::Drained { runner, drained });
            }
        }
    }

    /// Does what an operator orders. It is durable when this returns, and other coordinators hear of
    /// it within seconds.
    pub(crate) async fn order(self: &Arc<Self>, order: Order) -> Result<(), Problem> {
        let failed = |error: StoreError| {
            self.store_failed(&error);
            store_problem(&error)
        };
        self.store.order(order).await.map_err(failed)?;
        let orders = self.store.orders().await.map_err(failed)?;
        self.obey(orders);
        Ok(())
    }

    /// How full the store was when it was last looked at.
    pub(crate) fn figures(&self) -> Figures {
        self.figures.borrow().unwrap_or_default()
    }

    /// Returns once it is known how full the store is, or that it fails.
    pub(super) async fn figures_known(&self) {
        let (mut figures, mut failure) = (self.figures.subscribe(), self.store_failure.subscribe());
        // The senders are the engine's own, and live as long.
        tokio::select! {
            biased;
            _ = figures.wait_for(Option::is_some) => {}
            _ = failure.wait_for(Option::is_some) => {}
        }
    }

    /// Why nothing is dispatched, if an operator ordered that, or the store is a restored copy.
    pub(crate) fn paused(&self) -> Option<String> {
        self.state().orders.paused.clone()
    }

    /// Wakes those who wait for the end of a job that this process does not schedule.
    pub(crate) async fn watch_ends(self: Arc<Self>) {
        loop {
            sleep(ENDS).await;
            let Some(foreign) = self.foreign_ends() else {
                self.awaited.notified().await;
                continue;
            };
            for jobs in foreign.chunks(ASKED) {
                let Ok(ended) = self.store.ended(jobs.to_vec()).await else { break };
                let mut state = self.state();
                for job in ended {
                    state.ends.remove(&job);
                }
            }
        }
    }

    /// `None` where nobody waits for any job.
    fn foreign_ends(&self) -> Option<Vec<Uuid>> {
        let mut state = self.state();
        state.ends.retain(|_, end| end.receiver_count() > 0);
        if state.ends.is_empty() {
            return None;
        }
        let own = |job: &Uuid| state.scheduler.live(*job).is_some();
        Some(state.ends.keys().filter(|job| !own(job)).copied().collect())
    }

    /// The time of day.
    pub(crate) fn now(&self) -> Timestamp {
        self.world.now()
    }
}
