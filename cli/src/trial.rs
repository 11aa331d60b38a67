//! One cell that runs `true`: whether a host lets cells be made is found out by making one.

use std::sync::mpsc::channel;

use anyhow::Context;
use cloister_api::{Bounds, Limits, Program, Status, Task};
use cloister_sandbox::{Collector, Engine, Stdio};

/// Makes a cell, runs `true` in it and takes it away.
pub(crate) fn trial(engine: &Engine) -> anyhow::Result<()> {
    let (teller, told) = channel();
    let mut task = Task::new(Program::Command("true".into()));
    // A small container may have less than a job's defaults.
    task.limits = Limits::within(&engine.host().bounds(&Bounds::default()));
    let collector = Collector::new(move |outcome| {
        // It fails only where the receiver is gone: then nobody waits.
        let _ = teller.send(outcome);
    });
    engine.run(task, Stdio::Captured, Box::new(collector));
    let outcome = told.recv().context("the engine ended without a word")?;
    if outcome.status == Status::Completed {
        return Ok(());
    }
    let words = [outcome.message.unwrap_or_default(), outcome.stderr.unwrap_or_default()];
    anyhow::bail!("{}", words.join(" ").trim())
}
