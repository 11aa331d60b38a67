//! The thread that watches, while jobs run and only then.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    attribute::{self, Evidence, Held},
    host::{self, Gauge},
    meminfo::Level,
};
use crate::{cgroup::Folders, layers::Layer, wire::CellId};

/// How often the level is read. One reading takes some 50 µs.
const PERIOD: Duration = Duration::from_millis(50);
/// How often while it grows.
const FAST: Duration = Duration::from_millis(10);
/// Growth within one period from which on it is read more often.
const GROWING: u64 = 2 << 20;
/// No more than this share of the time is spent reading, where that is slow.
const MAX_SHARE: u32 = 100;
/// How often growth is logged that nobody is known to have caused.
const LOGGED: Duration = Duration::from_secs(60);

/// The jobs that run, as the engine's thread tells of them.
#[derive(Default)]
pub(crate) struct Jobs {
    state: Mutex<State>,
    changed: Condvar,
}

/// What the watcher has to know of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// Its memory limit, bytes.
    pub(crate) memory: u64,
    /// Whether its network is its own, and with that the sockets there.
    pub(crate) own_network: bool,
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

    /// Sleeps that long, and comes back with the jobs that run then; none when there are none.
    fn after(&self, pause: Duration) -> Option<HashMap<CellId, Job>> {
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
        (!state.stopped && !state.running.is_empty()).then(|| state.running.clone())
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
    let mut calm = None;
    let mut before = 0;
    let charged = folders.charged_to_kernel();
    // Further growth that is allowed before the next look, from here; none before the first look.
    let mut looked: Option<(u64, u64)> = None;
    let mut logged: Option<Instant> = None;
    let mut pause = PERIOD;
    while let Some(running) = jobs.after(pause) {
        let began = Instant::now();
        let level = match gauge.level() {
            Ok(level) => level,
            Err(error) => {
                if logged.is_none_or(|at| at.elapsed() >= LOGGED) {
                    logged = Some(Instant::now());
                    tracing::warn!(%error, "kernel memory that no cgroup counts cannot be read");
                }
                continue;
            }
        };
        let cost = began.elapsed();
        let least = calm.unwrap_or(level);
        let least =
            Level { residue: least.residue.min(level.residue), slab: least.slab.min(level.slab) };
        if calm.replace(least).is_none() {
            before = level.residue;
        }
        let calm = least;
        let growing = level.residue.saturating_sub(before) >= GROWING;
        pause = if growing { FAST } else { PERIOD }.max(cost * MAX_SHARE);
        before = level.residue;

        let first =
            attribute::first_step(running.values().map(|job| job.memory).min().unwrap_or(u64::MAX));
        let (from, step) = match looked {
            // What was there then has gone since.
            Some((at, _)) if level.residue < at => {
                looked = None;
                (calm.residue, first)
            }
            Some(looked) => looked,
            None => (calm.residue, first),
        };
        if level.residue.saturating_sub(from) < step {
            continue;
        }
        // Charged slab cannot be uncharged locks.
        let charged = folders.charged_to_kernel().saturating_sub(charged);
        let slab_growth = level.slab.saturating_sub(calm.slab).saturating_sub(charged);
        let evidence = host::evidence(folders, &running, slab_growth);
        tracing::debug!(
            level = level.residue,
            calm = calm.residue,
            ms = began.elapsed().as_millis(),
            ?evidence,
            "looked who holds kernel memory that no cgroup counts"
        );
        let guilty: Vec<&Evidence> = evidence.iter().filter(|each| each.exceeds()).collect();
        for each in &guilty {
            exceeded(each.cell, each.held);
        }
        looked = Some((level.residue, attribute::next_step(&evidence)));
        let known = evidence.iter().map(|each| each.held.bytes() + each.charged).sum::<u64>();
        let growth = level.residue.saturating_sub(calm.residue);
        let unknown = growth.saturating_sub(known);
        if unknown >= first && logged.is_none_or(|at| at.elapsed() >= LOGGED) {
            logged = Some(Instant::now());
            tracing::warn!(
                bytes = unknown,
                jobs = running.len(),
                "kernel memory grew that no cgroup counts, and no job is known to hold it"
            );
        }
        // Looking takes longer than reading, and holds up whoever takes a lock meanwhile.
        pause = pause.max(began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sleeps_until_a_job_runs_and_while_none_does() {
        let job = Job { memory: 64, own_network: true };
        let jobs = Arc::new(Jobs::default());
        let other = Arc::clone(&jobs);
        let waiting = thread::spawn(move || other.wait());
        jobs.began(1, job);
        assert!(waiting.join().unwrap());
        assert_eq!(jobs.after(Duration::ZERO), Some(HashMap::from([(1, job)])));
        jobs.ended(1);
        assert_eq!(jobs.after(Duration::ZERO), None);
        jobs.stop();
        assert!(!jobs.wait());
        assert_eq!(jobs.after(Duration::from_secs(3600)), None, "and at once");
    }

    #[test]
    fn it_ends_when_it_is_dropped() {
        let jobs = Arc::new(Jobs::default());
        let gauge = Some(Arc::new(Gauge::open().unwrap()));
        let watcher = Watcher::start(gauge, &jobs, Arc::default(), |_, _| {}).unwrap();
        jobs.began(1, Job { memory: 64, own_network: false });
        drop(watcher);
    }
}
