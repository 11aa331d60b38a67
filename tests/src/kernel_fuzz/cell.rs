//! One cell that makes random calls.

use std::{
    collections::BTreeMap,
    fmt,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
};

use anyhow::Context;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Options, program::Program};
use crate::cloister;

/// How many are named of the calls that were made.
const NAMED: usize = 24;

/// How often each call was made.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls(BTreeMap<String, u64>);

impl Calls {
    /// By a line of the program.
    fn parse(line: &str) -> Option<Self> {
        let counts = line.strip_prefix("counts:")?.split_ascii_whitespace();
        let counts = counts.filter_map(|word| {
            let (name, count) = word.split_once('=')?;
            Some((name.to_owned(), count.parse().ok()?))
        });
        Some(Self(counts.collect()))
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            *self.0.entry(name.clone()).or_default() += count;
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// The most frequent first.
impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts: Vec<_> = self.0.iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (name, count) in counts.iter().take(NAMED) {
            write!(f, "{name}={count} ")?;
        }
        let more = counts.len().saturating_sub(NAMED);
        if more > 0 { write!(f, "and {more} more") } else { Ok(()) }
    }
}

/// It; ended when dropped.
pub(super) struct Cell {
    child: Child,
    calls: Arc<Mutex<Calls>>,
    reader: Option<JoinHandle<()>>,
}

impl Cell {
    /// Starts it, to end by itself at a time.
    pub(super) fn start(
        program: &Program,
        options: &Options,
        seed: u64,
        until: Instant,
    ) -> anyhow::Result<Self> {
        let seconds = until.saturating_duration_since(Instant::now()).as_secs().max(1);
        let mut child = Command::new(cloister())
            .args(["run", "--disk", "8MiB", "--memory", &options.memory.0.to_string()])
            // A program that does not end is ended.
            .args(["--timeout", &(seconds + 5).to_string()])
            .arg("--expose")
            .arg(program.folder())
            .arg("--")
            .arg(program.path())
            .args([seed.to_string(), seconds.to_string()])
            .args(&options.only)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cloister cannot be started")?;
        let calls = Arc::new(Mutex::new(Calls::default()));
        let reader = child.stdout.take().map(|output| {
            let calls = Arc::clone(&calls);
            thread::spawn(move || read(output, &calls))
        });
        Ok(Self { child, calls, reader })
    }

    /// Whether it has ended, by itself or since it was killed.
    pub(super) fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Ends it.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        if !self.has_ended()? {
            kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
            self.child.wait()?;
        }
        Ok(())
    }

    /// The calls that it has told of.
    pub(super) fn calls(&mut self) -> Calls {
        // The last line may come with the end.
        if self.child.try_wait().is_ok_and(|status| status.is_some())
            && let Some(reader) = self.reader.take()
        {
            let _ = reader.join();
        }
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn read(output: impl Read, calls: &Mutex<Calls>) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { return };
        if let Some(told) = Calls::parse(&line) {
            *calls.lock().unwrap_or_else(PoisonError::into_inner) = told;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_and_told() {
        let mut calls = Calls::parse("counts: socket=3 close=14").unwrap();
        calls.add(&Calls::parse("counts: close=1 read=2").unwrap());
        assert_eq!(calls.to_string(), "close=15 socket=3 read=2 ");
        assert_eq!(calls.total(), 20);
        assert!(Calls::parse("nothing").is_none());
    }
}
