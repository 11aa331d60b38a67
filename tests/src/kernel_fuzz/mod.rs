//! Random system calls in cells, while the host's kernel memory is measured.
//!
//! The program `calls.c` runs in several cells at a time, each with a seed of its own; a cell that has ended, for
//! instance because it used too much memory, is followed by one with the next seed. Two things are findings:
//!
//! - *growth*: kernel memory that no memory cgroup holds grew by more than the bound while the cells ran. The
//!   seeds that ran are tried again, each alone, to tell which of them it was.
//! - *leak*: after the cells had ended, kernel memory or a counter of the host did not come back.
//!
//! A seed stands for the calls and their arguments; what the kernel answers depends on timing, so that a seed does
//! not always repeat what it found.

mod cell;
mod program;

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use cloister_api::ByteSize;

use self::{
    cell::{Calls, Cell},
    program::Program,
};
use crate::host::{Growth, INTERVAL, Reading, Recent};

/// Cells run for so long before all are ended, to see what stays.
const ROUND: Duration = Duration::from_secs(15);
/// A seed that is tried again alone has so long.
const AGAIN: Duration = Duration::from_secs(8);
/// What cells had is given back within this.
const PATIENCE: Duration = Duration::from_secs(10);
/// Uncharged kernel memory that stays after a round and is no leak.
const UNCHARGED: ByteSize = ByteSize::mib(16);
/// The same, charged or not: other programs have some, too.
const CHARGED: ByteSize = ByteSize::mib(64);
/// Open files, and threads, that stay and are no leak: other programs have some, too.
const OTHERS: i64 = 1000;
/// More findings say nothing new.
const MOST_FINDINGS: usize = 20;

/// What is tried, and for how long.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The first seed; each further cell has the next
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How long
    #[arg(long, value_name = "MINUTES", default_value_t = 30.0)]
    pub minutes: f64,
    /// Cells at once
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub cells: usize,
    /// The limit of each cell
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub memory: ByteSize,
    /// The most uncharged kernel memory that is no finding
    #[arg(long, value_name = "SIZE", default_value = "96MiB")]
    pub bound: ByteSize,
    /// Make only these calls; see the table in calls.c
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub only: Vec<String>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Cells that were run.
    pub cells: u64,
    /// System calls that were made.
    pub calls: u64,
    /// The most uncharged kernel memory that lasted, in bytes.
    pub peak: i64,
    /// What was found, a paragraph for each.
    pub findings: Vec<String>,
}

/// Runs cells with random calls for as long as is asked. Tells of findings as they are made.
pub fn fuzz(options: &Options) -> anyhow::Result<Outcome> {
    let program = Program::compile()?;
    let until = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    let mut outcome = Outcome::default();
    let mut seed = options.seed;
    while Instant::now() < until && outcome.findings.len() < MOST_FINDINGS {
        let long = ROUND.min(until.saturating_duration_since(Instant::now()));
        let round = Round { options, program: &program, long, cells: options.cells };
        let ended = round.run(seed..u64::MAX)?;
        outcome.cells += ended.started;
        outcome.calls += ended.calls.total();
        outcome.peak = outcome.peak.max(ended.peak.uncharged());
        let seeds = seed..seed + ended.started;
        let mut find = |finding: String| {
            println!("FOUND {finding}\n");
            outcome.findings.push(finding);
        };
        if let Some(growing) = &ended.growing {
            find(grown(&ended, growing, &program, options)?);
        }
        if let Some(left) = &ended.left {
            find(format!("leak: seeds {seeds:?} left {left}\ncalls: {}", ended.calls));
        }
        println!(
            "seeds {seeds:?}: {} calls, at most {} MiB uncharged",
            ended.calls.total(),
            ended.peak.uncharged() >> 20
        );
        seed = seeds.end;
    }
    Ok(outcome)
}

/// Tries the seeds of a round again, each alone, and tells what is known.
fn grown(
    ended: &Ended,
    growing: &[(u64, Calls)],
    program: &Program,
    options: &Options,
) -> anyhow::Result<String> {
    let first = format!("growth: uncharged {} MiB: {}", ended.peak.uncharged() >> 20, ended.peak);
    let mut lines = vec![first];
    for (seed, calls) in growing {
        let alone = Round { options, program, long: AGAIN, cells: 1 };
        let again = alone.run(*seed..*seed + 1)?;
        let mib = again.peak.uncharged() >> 20;
        let word = if again.growing.is_some() { "does it alone" } else { "alone does not" };
        lines.push(format!("seed {seed} {word}: uncharged {mib} MiB\n  calls: {calls}"));
    }
    Ok(lines.join("\n"))
}

/// Some cells at once.
struct Round<'a> {
    options: &'a Options,
    program: &'a Program,
    long: Duration,
    cells: usize,
}

/// What came of a round.
struct Ended {
    started: u64,
    calls: Calls,
    /// The growth when most was uncharged.
    peak: Growth,
    /// What ran when more than the bound was, with the calls that it had made.
    growing: Option<Vec<(u64, Calls)>>,
    /// What did not come back.
    left: Option<Growth>,
}

/// What the threads of a round share.
struct Shared {
    seeds: Range<u64>,
    running: Vec<(u64, Calls)>,
    calls: Calls,
}

impl Round<'_> {
    /// Runs cells with these seeds, in their order, until its time is over, none is left or too much is uncharged.
    fn run(&self, seeds: Range<u64>) -> anyhow::Result<Ended> {
        let first_seed = seeds.start;
        let mut recent = Recent::take()?;
        let before = recent.least();
        let before_uncharged = recent.least_uncharged();
        let shared = Mutex::new(Shared { seeds, running: Vec::new(), calls: Calls::default() });
        let stop = AtomicBool::new(false);
        let until = Instant::now() + self.long;
        let bound = i64::try_from(self.options.bound.0)?;
        let mut peak = Growth::default();
        let mut growing = None;
        thread::scope(|scope| -> anyhow::Result<()> {
            let slots: Vec<_> =
                (0..self.cells).map(|_| scope.spawn(|| self.slot(&shared, &stop, until))).collect();
            let watched = (|| -> anyhow::Result<()> {
                while slots.iter().any(|slot| !slot.is_finished()) {
                    thread::sleep(INTERVAL);
                    recent.update()?;
                    let growth = Growth::between(&before_uncharged, &recent.least_uncharged());
                    if growth.uncharged() > peak.uncharged() {
                        peak = growth;
                    }
                    if growing.is_none() && growth.uncharged() > bound {
                        let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                        growing = Some(shared.running.clone());
                        stop.store(true, Ordering::Relaxed);
                    }
                }
                Ok(())
            })();
            stop.store(true, Ordering::Relaxed);
            for slot in slots {
                slot.join().map_err(|_| anyhow::anyhow!("a thread of the round panicked"))??;
            }
            watched
        })?;
        let shared = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        let started = shared.seeds.start - first_seed;
        Ok(Ended { started, calls: shared.calls, peak, growing, left: left(&before)? })
    }

    /// One cell after another.
    fn slot(
        &self,
        shared: &Mutex<Shared>,
        stop: &AtomicBool,
        until: Instant,
    ) -> anyhow::Result<()> {
        let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
        while !stop.load(Ordering::Relaxed) && Instant::now() < until {
            let Some(seed) = lock().seeds.next() else { return Ok(()) };
            let mut cell = Cell::start(self.program, self.options, seed, until)?;
            lock().running.push((seed, Calls::default()));
            while !cell.has_ended()? {
                thread::sleep(INTERVAL);
                let calls = cell.calls();
                let mut shared = lock();
                let mine = shared.running.iter_mut().find(|(running, _)| *running == seed);
                if let Some((_, made)) = mine {
                    *made = calls;
                }
                drop(shared);
                if stop.load(Ordering::Relaxed) {
                    cell.end()?;
                }
            }
            let mut shared = lock();
            shared.running.retain(|(running, _)| *running != seed);
            shared.calls.add(&cell.calls());
        }
        Ok(())
    }
}

/// What is there more than before, once it does not become less; nothing if that is little.
fn left(before: &Reading) -> anyhow::Result<Option<Growth>> {
    let until = Instant::now() + PATIENCE;
    loop {
        let growth = Growth::between(before, &Recent::take()?.least());
        if !is_leak(&growth) {
            return Ok(None);
        }
        if Instant::now() > until {
            return Ok(Some(growth));
        }
        thread::sleep(INTERVAL);
    }
}

fn is_leak(growth: &Growth) -> bool {
    let (memory, counters) = (&growth.0.memory, &growth.0.counters);
    let exceeds = |bytes: i64, most: ByteSize| bytes > 0 && bytes.unsigned_abs() > most.0;
    exceeds(growth.uncharged(), UNCHARGED)
        || exceeds(memory.kernel, CHARGED)
        || counters.aio > 0
        || counters.files > OTHERS
        || counters.threads > OTHERS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Counters, Memory};

    #[test]
    fn what_stays_is_a_leak() {
        let growth = |kernel, charged, aio| {
            let memory = Memory { kernel, ..Memory::default() };
            let counters = Counters { aio, ..Counters::default() };
            Growth(Reading { memory, charged, counters })
        };
        assert!(!is_leak(&growth(15 << 20, 0, 0)));
        assert!(!is_leak(&growth(60 << 20, 50 << 20, 0)));
        for leak in [growth(17 << 20, 0, 0), growth(65 << 20, 65 << 20, 0), growth(0, 0, 1)] {
            assert!(is_leak(&leak));
        }
    }
}
