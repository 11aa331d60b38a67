//! isolate, with all its restrictions of system calls. Its own limit of memory by a control group (`--cg`) takes
//! cgroup v2 with a daemon of its own; the harness sets the same limit as its caller.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, ensure};

use super::{Cell, ControlGroup, Line, words};

/// How it ends when it is told to.
pub(super) const CODE_WHEN_TOLD: i32 = 1;

/// A box of its own for the program, which is taken away afterwards.
pub(super) fn line(binary: &Path, cell: &Cell<'_>) -> anyhow::Result<Line> {
    let made = Box::new(Sandbox::init(binary)?);
    let limits = &cell.limits;
    let mut line = vec![binary.into()];
    line.extend(words(&["--run", "--silent", &made.id()]));
    line.extend(words(&[
        &format!("--processes={}", limits.pids),
        &format!("--open-files={}", limits.open_files),
        &format!("--fsize={}", limits.disk.0 >> 10),
        &format!("--wall-time={}", cell.patience),
        &format!("--dir=/attacks={}", cell.attacks.display()),
    ]));
    line.extend(cell.environment("/box").iter().map(|variable| format!("--env={variable}").into()));
    line.push("--".into());
    line.extend(cell.announced());
    let group = Some(ControlGroup::new(Some(limits))?);
    Ok(Line { words: line, group, made: vec![made] })
}

/// What `--init` makes and `--cleanup` takes away.
struct Sandbox {
    binary: PathBuf,
    number: u32,
}

impl Sandbox {
    fn init(binary: &Path) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let made = Self { binary: binary.into(), number };
        let output = made.command("--init").output().context("isolate cannot be started")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "isolate --init failed: {error}");
        Ok(made)
    }

    fn id(&self) -> String {
        format!("--box-id={}", self.number)
    }

    fn command(&self, task: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg(task).arg(self.id());
        command
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if !self.command("--cleanup").status().is_ok_and(|status| status.success()) {
            eprintln!("isolate --cleanup {} failed", self.id());
        }
    }
}
