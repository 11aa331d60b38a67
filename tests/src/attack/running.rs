//! A confined program that runs, and what it prints.

use std::{
    any::Any,
    collections::VecDeque,
    fs,
    io::{BufRead, BufReader, PipeReader, Read, pipe},
    os::unix::process::ExitStatusExt,
    process::{Child, ExitStatus},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::sandbox::Launch;

/// What is kept of an output: the last lines, each up to so many bytes.
const LINES: usize = 200;
const LINE: u64 = 4096;

/// How long what the sandbox leaves behind may take to vanish by itself.
const GRACE: Duration = Duration::from_secs(2);

const SIGTERM: i32 = Signal::SIGTERM as i32;

/// Something that runs; ended when dropped.
pub(super) struct Running {
    child: Child,
    mark: String,
    ready: Receiver<()>,
    output: Receiver<Vec<String>>,
    code_when_told: i32,
    // The last field: it goes when all processes have ended.
    _made: Vec<Box<dyn Any + Send>>,
}

/// What came of it.
pub(super) struct Ended {
    /// The last lines of standard output and standard error, as they came.
    pub output: Vec<String>,
    /// Command lines of processes of the program that outlived the sandbox; they were killed.
    pub outlived: Vec<String>,
    /// Of the sandbox, which passes on the program's own.
    pub status: ExitStatus,
}

impl Running {
    /// Starts it. `mark` is in the environment of each process of the program, and of no other's.
    pub(super) fn start(launch: Launch, mark: String) -> anyhow::Result<Self> {
        let Launch { mut command, made, code_when_told } = launch;
        let (reader, writer) = pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn().context("the sandbox cannot be started")?;
        // It holds the pipe's other end, whose closing is awaited.
        drop(command);
        let (tell_ready, ready) = channel();
        let (tell_output, output) = channel();
        thread::spawn(move || {
            // Nobody listens when an attempt was given up.
            let lines = read(reader, || _ = tell_ready.send(()));
            let _ = tell_output.send(lines);
        });
        Ok(Self { child, mark, ready, output, code_when_told, _made: made })
    }

    /// Waits until it prints `ready`.
    pub(super) fn wait_until_ready(&self, patience: Duration) -> anyhow::Result<()> {
        let ready = self.ready.recv_timeout(patience);
        ready.context("the neighbour ended, or took too long, before it was ready")
    }

    /// Waits for the sandbox to end, by itself or since its time is up.
    pub(super) fn wait(mut self) -> anyhow::Result<Ended> {
        let status = self.child.wait()?;
        self.collect(status)
    }

    /// Asks the sandbox to end, as its user would; also tells whether it had gone on until then.
    pub(super) fn stop(mut self) -> anyhow::Result<(Ended, bool)> {
        let lived = self.child.try_wait()?.is_none();
        self.terminate();
        // One that was ended a moment ago, from within, may not have noticed yet.
        let status = self.child.wait()?;
        let asked = status.signal() == Some(SIGTERM) || status.code() == Some(self.code_when_told);
        Ok((self.collect(status)?, lived && asked))
    }

    fn collect(&mut self, status: ExitStatus) -> anyhow::Result<Ended> {
        let mut outlived = marked(&self.mark)?;
        let until = Instant::now() + GRACE;
        while !outlived.is_empty() && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
            outlived = marked(&self.mark)?;
        }
        kill_all(&self.mark)?;
        // With the last of them the pipe is closed.
        let output = self.output.recv_timeout(GRACE);
        let output = output.context("somebody unknown still holds the output of the sandbox")?;
        let outlived = outlived.into_iter().map(|(_, line)| line).collect();
        Ok(Ended { output, outlived, status })
    }

    fn terminate(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let pid = i32::try_from(self.child.id()).expect("a process id is positive");
            // timeout(1) passes it on, and waits. It is not reaped yet, so that the id is its own.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.terminate();
        let _ = kill_all(&self.mark);
    }
}

/// The last lines, to the end; `ready` is called as soon as one says so.
fn read(pipe: PipeReader, ready: impl Fn()) -> Vec<String> {
    let mut lines = VecDeque::new();
    let mut pipe = BufReader::new(pipe);
    loop {
        let mut line = Vec::new();
        match pipe.by_ref().take(LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return lines.into(),
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if line == "ready" {
            ready();
        }
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Processes whose environment or command line has `mark`, with their command lines.
fn marked(mark: &str) -> anyhow::Result<Vec<(Pid, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else {
            continue;
        };
        // Any of them may end at any time.
        let text = |file| {
            let bytes = fs::read(path.join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let line = text("cmdline");
        if line.contains(mark) || text("environ").contains(mark) {
            found.push((Pid::from_raw(pid), line));
        }
    }
    Ok(found)
}

/// Kills them, and those that they start meanwhile.
fn kill_all(mark: &str) -> anyhow::Result<()> {
    let until = Instant::now() + GRACE;
    loop {
        let found = marked(mark)?;
        if found.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < until, "processes of an attack can't be killed: {found:?}");
        for (pid, _) in found {
            let _ = kill(pid, Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(10));
    }
}
