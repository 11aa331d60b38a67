//! What goes wrong: coordinators and runners that crash or stand still, networks that are cut or slow,
//! clocks that jump, drains.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use super::{
    net::{Cut, Party},
    run::Sim,
};

impl Sim {
    /// Something goes wrong, and is mended after a while.
    pub(super) fn fault(self: &Arc<Self>) {
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
                    if kind == 3 {
                        of.drain();
                        sleep(lasts / 4).await;
                    }
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
                    of.stand(true);
                    sleep(lasts).await;
                    of.stand(false);
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
                    let slowest = if sim.chance.percent(30) { 2_500 } else { 800 };
                    sim.net.slowest.store(slowest, Relaxed);
                    sleep(lasts).await;
                    sim.net.slowest.store(5, Relaxed);
                }
                10 => {
                    let hour = 3_600_000;
                    let by = i64::try_from(sim.chance.below(2 * hour)).unwrap_or(0) - 3_600_000;
                    let skew =
                        if sim.chance.percent(50) { &sim.nodes[node].skew } else { &of.skew };
                    skew.store(by, Relaxed);
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

    /// Everything works again.
    pub(super) fn heal(&self) {
        self.net.mend();
        for node in 0..self.nodes.len() {
            self.net.stopped[node].send_replace(false);
            self.nodes[node].skew.store(0, Relaxed);
            self.start(node);
        }
        for runner in self.runners.iter() {
            runner.skew.store(0, Relaxed);
            runner.stand(false);
            runner.restart();
        }
    }
}
