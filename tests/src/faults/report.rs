//! What a run found: conditions by name, how often each was checked, and what is broken.

use std::{collections::BTreeMap, fmt::Write, path::PathBuf, process::ExitCode};

use serde_json::{Value, json};

/// Of broken conditions, so many are written out: one cause breaks many.
const WRITTEN_OUT: usize = 20;
/// Of jobs with a broken condition, so many are told with all that happened to them.
const HISTORIES: usize = 3;

/// A condition that does not hold.
#[derive(Clone, Debug)]
struct Broken {
    name: &'static str,
    what: String,
    job: Option<usize>,
}

/// See the module.
#[derive(Debug, Default)]
#[must_use]
pub struct Report {
    conditions: BTreeMap<&'static str, (u64, u64)>,
    broken: Vec<Broken>,
    told: String,
    histories: Vec<String>,
    data: BTreeMap<String, Value>,
    logs: Option<PathBuf>,
}

impl Report {
    /// A condition of this name, and what to say where it does not hold.
    pub(super) fn must(
        &mut self,
        name: &'static str,
        holds: bool,
        otherwise: impl FnOnce() -> String,
    ) {
        self.check(name, None, holds, otherwise);
    }

    /// The same of one job.
    pub(super) fn must_of(
        &mut self,
        name: &'static str,
        job: usize,
        holds: bool,
        otherwise: impl FnOnce() -> String,
    ) {
        self.check(name, Some(job), holds, otherwise);
    }

    fn check(
        &mut self,
        name: &'static str,
        job: Option<usize>,
        holds: bool,
        otherwise: impl FnOnce() -> String,
    ) {
        let counts = self.conditions.entry(name).or_default();
        counts.0 += 1;
        if !holds {
            counts.1 += 1;
            self.broken.push(Broken { name, what: otherwise(), job });
        }
    }

    /// A line of the report.
    pub(super) fn say(&mut self, line: &str) {
        self.told += line;
        self.told.push('\n');
    }

    /// Something for programs.
    pub(super) fn put(&mut self, name: &str, value: Value) {
        self.data.insert(name.into(), value);
    }

    /// Adds the whole history of the first jobs that something is wrong with.
    pub(super) fn add_histories(&mut self, tell: impl Fn(usize) -> String) {
        let mut jobs: Vec<usize> = Vec::new();
        // One of each condition first: they are different stories.
        for name in self.conditions.keys() {
            let first =
                self.broken.iter().find(|broken| broken.name == *name && broken.job.is_some());
            jobs.extend(first.and_then(|broken| broken.job));
        }
        jobs.extend(self.broken.iter().filter_map(|broken| broken.job));
        let mut seen = std::collections::BTreeSet::new();
        jobs.retain(|job| seen.insert(*job));
        self.histories = jobs.into_iter().take(HISTORIES).map(tell).collect();
    }

    /// Where the logs were kept.
    pub(super) fn keep_logs(&mut self, logs: PathBuf) {
        self.logs = Some(logs);
    }

    /// Whether anything is broken.
    pub(super) fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// What does not hold.
    pub fn broken(&self) -> Vec<String> {
        self.broken.iter().map(|broken| format!("{}: {}", broken.name, broken.what)).collect()
    }

    /// All of it, for a person.
    pub fn text(&self) -> String {
        let mut text = self.told.clone();
        let _ = writeln!(text, "\n{:<66}{:>10}{:>10}", "condition", "checked", "broken");
        let (mut checked, mut broken) = (0, 0);
        for (name, (of, bad)) in &self.conditions {
            let _ = writeln!(text, "{name:<66}{of:>10}{bad:>10}");
            (checked, broken) = (checked + of, broken + bad);
        }
        let _ = writeln!(text, "\n{checked} conditions checked, {broken} broken");
        for what in self.broken().iter().take(WRITTEN_OUT) {
            let _ = writeln!(text, "BROKEN: {what}");
        }
        if self.broken.len() > WRITTEN_OUT {
            let _ = writeln!(text, "and {} more", self.broken.len() - WRITTEN_OUT);
        }
        for history in &self.histories {
            let _ = write!(text, "\n{history}");
        }
        if let Some(logs) = &self.logs {
            let _ = writeln!(text, "\nlogs of all services: {}", logs.display());
        }
        text
    }

    /// All of it, for programs.
    pub fn json(&self) -> Value {
        let conditions: BTreeMap<_, _> = self
            .conditions
            .iter()
            .map(|(name, (of, bad))| (*name, json!({ "checked": of, "broken": bad })))
            .collect();
        let mut all = self.data.clone();
        all.insert("conditions".into(), json!(conditions));
        all.insert("broken".into(), json!(self.broken()));
        json!(all)
    }

    /// Prints it, and what a program that made it ends with.
    pub fn conclude(&self) -> ExitCode {
        print!("{}", self.text());
        if self.is_broken() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
