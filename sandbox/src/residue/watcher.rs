//! The thread that watches, while jobs run and only then.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    attribute::{self, Evidence, Held},
    hold::Hold,
    host::{self, Gauge},
    meminfo::Level,
};
use crate::{
    cgroup::{Brake, Folders},
    layers::Layer,
    wire::CellId,
};

/// How often the level is read. One reading takes some 50 µs.
const PERIOD: Duration = Duration::from_millis(50);
/// How often it is asked in between whether it may have grown, which takes some 10 µs: a job can make the
/// kernel allocate 6 MiB in a millisecond.
const SHORT: Duration = Duration::from_millis(4);
/// The same while it grows, and while a job holds so much that it may soon be more than it may.
const FAST: Duration = Duration::from_millis(1);
/// Growth from which on the level is read at once, and more often.
const GROWING: i64 = 2 << 20;
/// No more than these shares of the time are spent asking, where that is slow.
const MAX_SHARE: u32 = 50;
const MAX_SHARE_FAST: u32 = 10;
/// How often growth is logged that nobody is known to have caused.
const LOGGED: Duration = Duration::from_secs(60);

/// The jobs that run, as the engine's thread tells of them.
#[derive(Default)]
pub(crate) struct Jobs {
    state: Mutex<State>,
    changed: Condvar,
}

/// What the watcher has to know of a job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// Its memory limit, bytes.
    pub(crate) memory: u64,
    /// Whether its network is its own, and with that the sockets there.
    pub(crate) own_network: bool,
    /// What holds its cell back, where the host limits CPU bandwidth.
    pub(crate) brake: Option<Arc<Brake>>,
}

#[derive(Default)]
struct State {
    running: HashMap<CellId, Job>,
    /// Whether the thread waits for a job to come.
    idle: bool,
    stopped: bool,
}

impl Jobs {
    /// A job's command was executed.
    pub(crate) fn began(&self, cell: CellId, job: Job) {
        let mut state = self.lock();
        state.running.insert(cell, job);
        if state.idle {
            self.changed.notify_one();
        }
    }

    /// A job has ended, or never began.
    pub(crate) fn ended(&self, cell: CellId) {
        self.lock().running.remove(&cell);
    }

    fn runs(&self, cell: CellId) -> bool {
        self.lock().running.contains_key(&cell)
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until a job runs; `false` when there will be none any more.
    fn wait(&self) -> bool {
        let mut state = self.lock();
        state.idle = true;
        while state.running.is_empty() && !state.stopped {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.idle = false;
        !state.stopped
    }

    /// The jobs that run.
    fn running(&self) -> HashMap<CellId, Job> {
        self.lock().running.clone()
    }

    /// Sleeps that long; whether a job runs then.
    fn after(&self, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        let mut state = self.lock();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if state.stopped || left.is_zero() {
                break;
            }
            (state, _) =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        !state.stopped && !state.running.is_empty()
    }
}

/// The thread.
pub(crate) struct Watcher {
    jobs: Arc<Jobs>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts it, where there is a gauge. `exceeded` is told of each cell that holds more than it may, on this
    /// thread.
    pub(crate) fn start(
        gauge: Option<Arc<Gauge>>,
        jobs: &Arc<Jobs>,
        folders: Arc<Folders>,
        exceeded: impl Fn(CellId, Held) + Send + 'static,
    ) -> std::io::Result<Self> {
        let thread = match gauge {
            Some(gauge) if Layer::Watcher.stands() => {
                let jobs = Arc::clone(jobs);
                let watch = move || {
                    while jobs.wait() {
                        watch(&gauge, &folders, &jobs, &exceeded);
                    }
                };
                Some(thread::Builder::new().name("residue".into()).spawn(watch)?)
            }
            _ => None,
        };
        Ok(Self { jobs: Arc::clone(jobs), thread })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.jobs.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Watches until no job runs any more.
fn watch(gauge: &Gauge, folders: &Folders, jobs: &Jobs, exceeded: &impl Fn(CellId, Held)) {
    let mut look = Look::new(folders);
    let mut suspects = Suspects::default();
    let mut pause = Duration::ZERO;
    let mut last: Option<Reading> = None;
    while jobs.after(pause) {
        let began = Instant::now();
        suspects.told.keep(|cell| jobs.runs(cell));
        let trend = gauge.trend();
        pause = suspects.pause(began.elapsed());
        if let (Some(trend), Some(Reading { at, least: Some(least), .. })) = (trend, &mut last)
            && at.elapsed() < PERIOD
            && trend.saturating_sub(*least) < GROWING
        {
            *least = trend.min(*least);
            continue;
        }
        let level = match gauge.level() {
            Ok(level) => level,
            Err(error) => {
                pause = PERIOD;
                if look.may_log() {
                    tracing::warn!(%error, "kernel memory that no cgroup counts cannot be read");
                }
                continue;
            }
        };
        let reading = Reading { level, at: began, least: trend };
        let before = last.replace(reading).map_or(level, |before| before.level);
        suspects.growing = level.residue.saturating_sub(before.residue) >= GROWING.unsigned_abs();
        if trend.is_none() {
            pause = suspects.pause(began.elapsed());
        } else if suspects.growing {
            pause = FAST;
        }
        let running = jobs.running();
        let due = look.is_due(level, &running);
        if look.from.is_none() {
            suspects.near = false;
            suspects.of_locks.clear();
        }
        if due {
            let began = Instant::now();
            look.at_all(folders, level, &running, &mut suspects, exceeded);
            if !suspects.of_locks.is_empty() {
                // Looking at locks holds up whoever takes one meanwhile.
                pause = pause.max(began.elapsed());
            }
        }
    }
}

/// The last time that the level was read.
struct Reading {
    level: Level,
    at: Instant,
    /// The least trend since.
    least: Option<i64>,
}

/// Cells that a look at all cells left in doubt.
#[derive(Default)]
struct Suspects {
    /// Whether the level grew between the last two readings.
    growing: bool,
    /// Whether a cell holds so much that it may soon be more than it may.
    near: bool,
    /// Those that have many locks.
    of_locks: Vec<CellId>,
    /// Those that are to be ended. They are held back until then, and the engine lets them go to end them.
    told: Hold,
}

impl Suspects {
    /// How long to wait after a question that took so long.
    fn pause(&self, cost: Duration) -> Duration {
        if self.growing || self.near {
            FAST.max(cost * MAX_SHARE_FAST)
        } else {
            SHORT.max(cost * MAX_SHARE)
        }
    }
}

/// When all cells are looked at, and what is known from the last time.
struct Look {
    /// The least level since a job began to run.
    calm: Option<Level>,
    /// What cells were charged with as kernel memory then, bytes.
    charged: u64,
    /// The residue at the last look, and by how much it must grow for the next one.
    from: Option<(u64, u64)>,
    /// When something was logged last.
    logged: Option<Instant>,
}

impl Look {
    fn new(folders: &Folders) -> Self {
        Self { calm: None, charged: folders.charged_to_kernel(), from: None, logged: None }
    }

    fn may_log(&mut self) -> bool {
        let may = self.logged.is_none_or(|at| at.elapsed() >= LOGGED);
        if may {
            self.logged = Some(Instant::now());
        }
        may
    }

    /// Whether the level has grown by as much as matters.
    fn is_due(&mut self, level: Level, running: &HashMap<CellId, Job>) -> bool {
        let least = self.calm.unwrap_or(level);
        let calm =
            Level { residue: least.residue.min(level.residue), slab: least.slab.min(level.slab) };
        self.calm = Some(calm);
        // Where it has fallen since the last look, what was there then has gone.
        self.from = self.from.filter(|(at, _)| level.residue >= *at);
        let (from, step) = self.from.unwrap_or((calm.residue, first_step(running)));
        level.residue.saturating_sub(from) >= step
    }

    /// Looks who holds it, and tells of those that hold more than they may.
    fn at_all(
        &mut self,
        folders: &Folders,
        level: Level,
        running: &HashMap<CellId, Job>,
        suspects: &mut Suspects,
        exceeded: &impl Fn(CellId, Held),
    ) {
        let began = Instant::now();
        let calm = self.calm.unwrap_or(level);
        // Charged slab cannot be uncharged locks.
        let charged = folders.charged_to_kernel().saturating_sub(self.charged);
        let slab_growth = level.slab.saturating_sub(calm.slab).saturating_sub(charged);
        let (evidence, mut hold) =
            host::evidence(folders, running, slab_growth, &suspects.of_locks);
        tracing::debug!(
            level = level.residue,
            calm = calm.residue,
            ms = began.elapsed().as_millis(),
            ?evidence,
            "looked who holds kernel memory that no cgroup counts"
        );
        let guilty: Vec<&Evidence> = evidence.iter().filter(|each| each.exceeds()).collect();
        hold.keep(|cell| guilty.iter().any(|each| each.cell == cell));
        suspects.told = hold;
        suspects.near = evidence.iter().any(|each| each.held.bytes() >= attribute::FLOOR);
        suspects.of_locks =
            evidence.iter().filter(|each| each.held.locks > 0).map(|each| each.cell).collect();
        for each in &guilty {
            exceeded(each.cell, each.held);
        }
        self.from = Some((level.residue, attribute::next_step(&evidence)));
        let known = evidence.iter().map(|each| each.held.bytes() + each.charged).sum::<u64>();
        let growth = level.residue.saturating_sub(calm.residue);
        let unknown = growth.saturating_sub(known);
        if unknown >= first_step(running) && self.may_log() {
            tracing::warn!(
                bytes = unknown,
                jobs = running.len(),
                "kernel memory grew that no cgroup counts, and no job is known to hold it"
            );
        }
    }
}

/// The growth after which it is looked first.
fn first_step(running: &HashMap<CellId, Job>) -> u64 {
    attribute::first_step(running.values().map(|job| job.memory).min().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sleeps_until_a_job_runs_and_while_none_does() {
        let job = Job { memory: 64, own_network: true, brake: None };
        let jobs = Arc::new(Jobs::default());
        let other = Arc::clone(&jobs);
        let waiting = thread::spawn(move || other.wait());
        jobs.began(1, job);
        assert!(waiting.join().unwrap());
        assert!(jobs.after(Duration::ZERO) && jobs.runs(1));
        jobs.ended(1);
        assert!(!jobs.after(Duration::ZERO) && !jobs.runs(1));
        jobs.stop();
        assert!(!jobs.wait());
        assert!(!jobs.after(Duration::from_secs(3600)), "and at once");
    }

    #[test]
    fn it_ends_when_it_is_dropped() {
        let jobs = Arc::new(Jobs::default());
        let gauge = Some(Arc::new(Gauge::open().unwrap()));
        let watcher = Watcher::start(gauge, &jobs, Arc::default(), |_, _| {}).unwrap();
        jobs.began(1, Job { memory: 64, own_network: false, brake: None });
        drop(watcher);
    }
}
