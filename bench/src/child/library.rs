//! By the library: a launcher, an engine, and a cell for each launch.

use std::{
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use cloister_api::{Bounds, Limits, Program, Status, Task};
use cloister_sandbox::{Collector, Config, Engine, Launcher, Stdio};
use cloister_tests::cleanup::{cells, children};
use nix::unistd::{Pid, getpid};

use super::{Launched, Order, spawn};
use crate::procs;

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// When nothing has changed for so long, nothing is being made.
const STILL: Duration = Duration::from_millis(200);
/// Between two looks at cells that are being made; nothing tells of them.
const LOOK: Duration = Duration::from_micros(200);

/// A launcher's configuration with so many cells made ahead at most.
fn config(ahead: usize) -> Config {
    Config { max_cells: Some(64), cells_ahead: ahead, ..Config::default() }
}

pub(super) struct Cells {
    engine: Engine,
    launcher: Pid,
    /// Cells that wait at least when nothing is launched.
    ahead: usize,
}

impl Cells {
    /// Forks the launcher, which is why nothing may have started a thread yet.
    pub(super) fn start(ahead: usize) -> anyhow::Result<Self> {
        let launcher = Launcher::fork(&config(ahead)).context("the launcher cannot be started")?;
        let missing = launcher.host().not_enforced();
        ensure!(missing.is_empty(), "this host cannot enforce {}", missing.join(", "));
        let engine = Engine::start(launcher, || {}).context("the engine cannot be started")?;
        let launcher = children(getpid()).first().copied().context("there is no launcher")?;
        let mut cells = Self { engine, launcher, ahead: 0 };
        // Which cells to make ahead may be learnt from the first jobs.
        for _ in 0..5 {
            cells.one(&["/bin/true".into()])?;
        }
        let waiting = cells.still()?;
        ensure!(ahead > 0 || waiting == 0, "{waiting} cells are made ahead, and none should be");
        // For jobs that come one after the other, one is enough: more go again by themselves.
        cells.ahead = ahead.min(1);
        Ok(cells)
    }

    pub(super) fn launch(&self, order: &Order) -> anyhow::Result<Launched> {
        ensure!(order.at_once == 1, "the library's child launches one at a time");
        let (began, busy) = (Instant::now(), self.cpu()?);
        let times = order.launch(|| self.one(&order.argv))?;
        self.refilled()?;
        Ok(Launched { times, elapsed: began.elapsed(), cpu: self.cpu()?.saturating_sub(busy) })
    }

    pub(super) fn stop(&self) {
        self.engine.stop();
    }

    fn one(&self, argv: &[String]) -> anyhow::Result<()> {
        let mut task = Task::new(Program::Argv(argv.to_vec()));
        task.limits = Limits::within(&self.engine.host().bounds(&Bounds::default()));
        let (teller, told) = channel();
        let collector = Collector::new(move |outcome| {
            // Who has stopped waiting does not want to know.
            let _ = teller.send(outcome);
        });
        self.engine.run(task, Stdio::Captured, Box::new(collector));
        let outcome = told.recv().context("the engine ended without a word")?;
        if outcome.status != Status::Completed {
            bail!("{} ended with {outcome:?}", argv.join(" "));
        }
        Ok(())
    }

    /// Returns when a cell waits again, if any is to, and nothing is left of others.
    fn refilled(&self) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        while self.waiting().is_none_or(|count| count < self.ahead) {
            ensure!(Instant::now() < until, "cells are not made ahead again");
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// How many cells wait, once that stays as it is.
    fn still(&self) -> anyhow::Result<usize> {
        let until = Instant::now() + PATIENCE;
        let (mut last, mut since) = (self.waiting(), Instant::now());
        loop {
            if let Some(count) = last
                && since.elapsed() >= STILL
            {
                return Ok(count);
            }
            ensure!(Instant::now() < until, "the number of cells goes on changing");
            thread::sleep(LOOK);
            let now = self.waiting();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
    }

    /// How many cells wait for a command; `None` while one is being made or taken away.
    fn waiting(&self) -> Option<usize> {
        let cells = cells(self.launcher);
        for cell in &cells {
            // One that has just gone has no name any more.
            let ready = procs::name(*cell).is_ok_and(|name| name == "cell-init")
                && procs::waits(*cell).unwrap_or(false);
            if !ready {
                return None;
            }
        }
        Some(cells.len())
    }

    /// CPU time of this process, the launcher, what it has beside it, and the cells that it has waited
    /// for.
    fn cpu(&self) -> anyhow::Result<Duration> {
        let cells = cells(self.launcher);
        let beside = children(self.launcher).into_iter().filter(|pid| !cells.contains(pid));
        let beside: Duration = beside.map(procs::cpu).sum::<Result<_, _>>()?;
        Ok(spawn::cpu()? + procs::cpu(self.launcher)? + beside)
    }
}
