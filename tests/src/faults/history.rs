//! All that anybody saw, with the harness's own time: the only clock in it.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cloister_api::Timestamp;

use super::plan::Kind;

/// Where a job stood when somebody looked. The order is that in which a job may go through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Pending,
    Running,
    Completed,
    Failed,
    Cancelled,
}

impl Step {
    /// Of the word on the wire.
    pub(super) fn of(word: &str) -> Option<Self> {
        Some(match word {
            "pending" => Self::Pending,
            "running" => Self::Running,
            "completed" => Self::Completed,
            "failed" => Self::Failed,
            "cancelled" => Self::Cancelled,
            _ => return None,
        })
    }

    /// Whether nothing may follow.
    pub(super) fn ended(self) -> bool {
        self > Self::Running
    }
}

/// The same, with the attempt.
pub(super) type Stand = (u64, Step);

/// A stand that one coordinator showed, several times in a row perhaps.
#[derive(Clone, Debug)]
pub(super) struct Span {
    /// Which coordinator.
    pub(super) by: String,
    pub(super) stand: Stand,
    /// When the first answer that showed it had come.
    pub(super) known: Duration,
    /// When the last question that it answered was asked.
    pub(super) asked: Duration,
}

/// What happened to one job.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// A submission was not acknowledged.
    Tried { by: String, why: String },
    /// It was; `life` is the coordinator's, where it had one and the same from question to answer.
    Accepted { by: String, life: Option<usize>, status: u16, id: String },
    /// Its end was asked for and that was acknowledged.
    Cancelled { by: String, status: u16 },
    /// An execution reported its start, from this runner.
    Began { nonce: String, runner: String },
    /// It reported its end, with the exit code that it was about to end with.
    Ended { nonce: String, code: i64 },
    /// Its connection was closed: nothing of it lives any more.
    Gone { nonce: String },
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tried { by, why } => write!(f, "{by} did not accept it: {why}"),
            Self::Accepted { by, life, status, id } => {
                let life = life.map(|life| format!(", life {}", life + 1)).unwrap_or_default();
                write!(f, "{by}{life} accepted it: {status}, {id}")
            }
            Self::Cancelled { by, status } => write!(f, "{by} is to cancel it: {status}"),
            Self::Began { nonce, runner } => write!(f, "execution {nonce} began on {runner}"),
            Self::Ended { nonce, code } => {
                write!(f, "execution {nonce} is about to exit with {code}")
            }
            Self::Gone { nonce } => write!(f, "execution {nonce} is gone"),
        }
    }
}

/// All that is known of a job.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    /// As it was acknowledged.
    pub(super) id: Option<String>,
    pub(super) events: Vec<(Duration, What)>,
    pub(super) spans: Vec<Span>,
    /// As it was shown in the end, without what is long.
    pub(super) last: Option<String>,
}

/// One fault, from what was done to when everything was as before.
#[derive(Clone, Debug)]
pub(super) struct Episode {
    pub(super) kind: Kind,
    /// The processes that were hit.
    pub(super) hit: Vec<String>,
    /// The links that were hit, by their two ends.
    pub(super) links: Vec<(String, String)>,
    pub(super) detail: String,
    pub(super) from: Duration,
    pub(super) to: Option<Duration>,
}

impl Episode {
    /// Whether it was going on between these times.
    pub(super) fn within(&self, from: Duration, to: Duration) -> bool {
        self.from <= to && self.to.is_none_or(|end| end >= from)
    }

    /// Whether it hit this process, or a link of it.
    pub(super) fn concerns(&self, process: &str) -> bool {
        self.hit.iter().any(|name| name == process)
            || self.links.iter().any(|(a, b)| a == process || b == process)
    }
}

impl fmt::Display for Episode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.hit.join(", "))?;
        for (a, b) in &self.links {
            write!(f, " {a}–{b}")?;
        }
        write!(f, " {}", self.detail)
    }
}

/// See the module.
pub(super) struct History {
    began: Instant,
    date: Timestamp,
    jobs: Vec<Mutex<Record>>,
    episodes: Mutex<Vec<Episode>>,
    notes: Mutex<Vec<(Duration, String)>>,
    refusals: Mutex<BTreeMap<String, usize>>,
}

impl History {
    /// For so many jobs.
    pub(super) fn new(jobs: usize) -> Self {
        Self {
            began: Instant::now(),
            date: Timestamp::now(),
            jobs: (0..jobs).map(|_| Mutex::default()).collect(),
            episodes: Mutex::default(),
            notes: Mutex::default(),
            refusals: Mutex::default(),
        }
    }

    /// When the run began, by the clock of the machine.
    pub(super) fn began(&self) -> Timestamp {
        self.date
    }

    /// The time since the start.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// How many jobs there are.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// What is known of a job.
    pub(super) fn job(&self, index: usize) -> MutexGuard<'_, Record> {
        lock(&self.jobs[index])
    }

    /// Something happened to a job.
    pub(super) fn add(&self, index: usize, what: What) {
        // The time is taken under the lock, so that the order of events is that of their times.
        let mut record = self.job(index);
        record.events.push((self.now(), what));
    }

    /// A coordinator showed a job.
    pub(super) fn saw(&self, index: usize, by: &str, stand: Stand, asked: Duration) {
        let known = self.now();
        let spans = &mut self.job(index).spans;
        let last = spans.iter_mut().rev().find(|span| span.by == by);
        match last {
            Some(span) if span.stand == stand => span.asked = span.asked.max(asked),
            _ => spans.push(Span { by: by.into(), stand, known, asked }),
        }
    }

    /// Counts an answer to a submission that was no acknowledgement.
    pub(super) fn refused(&self, why: &str) {
        *lock(&self.refusals).entry(why.into()).or_default() += 1;
    }

    /// How often submissions were answered how.
    pub(super) fn refusals(&self) -> BTreeMap<String, usize> {
        lock(&self.refusals).clone()
    }

    /// A fault begins; its number.
    pub(super) fn open(&self, episode: Episode) -> usize {
        let mut all = lock(&self.episodes);
        all.push(episode);
        all.len() - 1
    }

    /// A fault is over.
    pub(super) fn close(&self, episode: usize) {
        let now = self.now();
        lock(&self.episodes)[episode].to = Some(now);
    }

    /// All faults.
    pub(super) fn episodes(&self) -> Vec<Episode> {
        lock(&self.episodes).clone()
    }

    /// Something that concerns no single job.
    pub(super) fn note(&self, text: impl Into<String>) {
        let now = self.now();
        lock(&self.notes).push((now, text.into()));
    }

    /// Everything of one job and all faults of its time, in order, for a person.
    pub(super) fn tell(&self, index: usize) -> String {
        let record = self.job(index).clone();
        let mut lines: Vec<(Duration, String)> =
            record.events.iter().map(|(at, what)| (*at, what.to_string())).collect();
        for span in &record.spans {
            let (attempt, step) = span.stand;
            let until = span.asked.as_secs_f64();
            let shown = format!("{} shows attempt {attempt} {step:?}, until {until:.3}", span.by);
            lines.push((span.known, shown));
        }
        let first = lines.iter().map(|(at, _)| *at).min().unwrap_or_default();
        let last = lines.iter().map(|(at, _)| *at).max().unwrap_or_default();
        for episode in self.episodes().iter().filter(|episode| episode.within(first, last)) {
            lines.push((episode.from, format!("--- {episode}")));
            if let Some(to) = episode.to {
                lines.push((to, format!("--- over: {episode}")));
            }
        }
        let notes = lock(&self.notes);
        lines.extend(notes.iter().filter(|(at, _)| (first..=last).contains(at)).cloned());
        lines.sort();
        let id = record.id.as_deref().unwrap_or("never acknowledged");
        let mut text = format!("job {index} ({id}):\n");
        for (at, line) in lines {
            let _ = writeln!(text, "  {:>9.3} {line}", at.as_secs_f64());
        }
        if let Some(last) = &record.last {
            let _ = writeln!(text, "  in the end {last}");
        }
        text
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
