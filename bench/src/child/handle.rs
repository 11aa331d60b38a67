//! A child, as the one that orders sees it.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, anyhow, ensure};

use super::{Launched, Limit, Order};

/// Ended when dropped, with all that it has made.
pub(crate) struct Handle {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Handle {
    /// One that spawns.
    pub(crate) fn spawn() -> anyhow::Result<Self> {
        Self::start(&["spawn"])
    }

    /// One that spawns in new namespaces.
    pub(crate) fn namespaces() -> anyhow::Result<Self> {
        Self::start(&["namespaces"])
    }

    /// One that uses the library, with so many cells made ahead.
    pub(crate) fn library(ahead: usize) -> anyhow::Result<Self> {
        Self::start(&["library", &ahead.to_string()])
    }

    /// The same with the library of another build; `bench` is the benchmark program of that build.
    pub(crate) fn library_of(bench: &Path, ahead: usize) -> anyhow::Result<Self> {
        Self::start_program(bench, &["library", &ahead.to_string()])
    }

    fn start(means: &[&str]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program's path cannot be read")?;
        Self::start_program(&program, means)
    }

    fn start_program(program: &Path, means: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .arg("child")
            .args(means)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting a child for {} failed", means.join(" ")))?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("a child has no output")?);
        let mut handle = Self { child, orders, answers };
        handle.line().with_context(|| format!("a child for {}", means.join(" ")))?;
        Ok(handle)
    }

    /// Launches one after the other.
    pub(crate) fn launch(&mut self, order: &Order) -> anyhow::Result<Launched> {
        self.order(order)?;
        self.answer()
    }

    /// Has it begin; for those who order several at once.
    pub(crate) fn order(&mut self, order: &Order) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(order).context("an order cannot be written")?;
        line.push('\n');
        let orders = self.orders.as_mut().context("a child hears no more")?;
        orders.write_all(line.as_bytes()).context("an order cannot be sent")
    }

    /// What came of the last order.
    pub(crate) fn answer(&mut self) -> anyhow::Result<Launched> {
        let line = self.line()?;
        let launched: Result<Launched, String> =
            serde_json::from_str(&line).context("a child's answer cannot be read")?;
        launched.map_err(|error| anyhow!(error))
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).context("a child's answer cannot be read")?;
        ensure!(!line.is_empty(), "it ended without an answer");
        Ok(line)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // It ends when nobody can order any more, and takes its cgroups away first.
        self.orders = None;
        let _ = self.child.wait();
    }
}

impl Order {
    /// So many launches of this, one after the other.
    pub(crate) fn of(argv: &[&str], count: usize) -> Self {
        Self {
            argv: argv.iter().map(ToString::to_string).collect(),
            until: Limit::Launches(count),
            pause: std::time::Duration::ZERO,
            at_once: 1,
        }
    }
}
