//! Jobs that mean harm, and how each must end. All are bounded by their limits and a timeout.

use serde_json::{Value, json};

use super::program::Program;
use crate::{COMPLETED, emulated, killed, shell, verdict};

/// A hostile job.
pub(super) struct Hostile {
    pub(super) name: &'static str,
    pub(super) task: Value,
    end: End,
}

/// How it must end.
enum End {
    /// Well, having printed this.
    Well(&'static str),
    /// By itself: having been refused more, with the error's number as exit code.
    Exit(i64),
    /// By a signal from itself, which is nobody else's doing.
    Signal(i64),
    /// Killed by the platform, for this reason.
    Killed(&'static str),
    /// The same, with a number of the result that says that the limit held.
    Held(&'static str, &'static str, u64),
    /// By its timeout, with this much kept of its output.
    Cut(usize),
}

impl Hostile {
    /// What is wrong with its result, if anything is.
    pub(super) fn fault(&self, result: &Value) -> Option<String> {
        let told = verdict(result);
        let right = match self.end {
            End::Well(output) => told == COMPLETED && result["stdout"] == output,
            End::Exit(code) => told == ("failed", Some("exit_code"), Some(code), None),
            End::Signal(number) => {
                told == ("failed", Some("signal"), Some(128 + number), Some(number))
            }
            End::Killed(reason) => told == killed(reason),
            End::Held(reason, usage, most) => {
                // Absent where the host can't tell.
                let used = result["usage"][usage].as_u64();
                told == killed(reason) && used.is_none_or(|used| used == most)
            }
            End::Cut(length) => {
                told == killed("timeout")
                    && result["stdout"].as_str().is_some_and(|text| text.len() == length)
                    && result["stdout_truncated"] == true
            }
        };
        (!right).then(|| format!("{}: {}", self.name, shortened(result)))
    }
}

/// A result as it can be printed.
pub(super) fn shortened(result: &Value) -> String {
    let mut text = result.to_string();
    if text.len() > 1000 {
        text.truncate(text.floor_char_boundary(1000));
        text.push('…');
    }
    text
}

const PIDS: &str = "pids_peak";

/// Small ones, which meet their limit soon.
pub(super) fn small(program: &Program) -> Vec<Hostile> {
    // An emulated processor takes longer to meet a limit.
    let slowness = if emulated() { 10.0 } else { 1.0 };
    let limited = |name, words: &str, limits: Value, end| Hostile {
        name,
        task: program.task(words, &limits, 30.0),
        end,
    };
    let timed = |name, words: &str, limits: Value, timeout, end| Hostile {
        name,
        task: program.task(words, &limits, timeout * slowness),
        end,
    };
    let told = |name, command: &str, timeout, end| Hostile {
        name,
        task: shell(command, &json!({}), timeout),
        end,
    };
    let memory = json!({ "memory": "16MiB" });
    vec![
        timed("fork bomb", "fork", json!({ "pids": 32 }), 0.3, End::Held("timeout", PIDS, 32)),
        timed("thread bomb", "thread", json!({ "pids": 32 }), 0.3, End::Held("timeout", PIDS, 32)),
        limited("memory hog", "memory", memory.clone(), End::Killed("out_of_memory")),
        limited("full disk", "tmpfs", json!({ "disk": "2MiB" }), End::Exit(28)),
        limited("files in memory", "tmpfs", memory.clone(), End::Killed("out_of_memory")),
        limited("memfd hog", "memfd", memory.clone(), End::Killed("out_of_memory")),
        limited("page tables", "pagetables", memory.clone(), End::Killed("out_of_memory")),
        limited("socket buffers", "sockets", memory, End::Killed("out_of_memory")),
        limited("inode bomb", "inodes", json!({ "disk": "1MiB" }), End::Exit(28)),
        limited("descriptor bomb", "descriptors", json!({ "open_files": 64 }), End::Exit(24)),
        timed("spinners", "spin 4", json!({}), 0.2, End::Killed("timeout")),
        limited("CPU time", "spin 4", json!({ "cpu_time": 0.1 }), End::Killed("cpu_time")),
        timed("output flood", "flood", json!({ "output": "4KiB" }), 0.1, End::Cut(4096)),
        timed("signal flood", "signals", json!({}), 0.1, End::Killed("timeout")),
        limited("daemon", "daemon", json!({}), End::Well("")),
        limited("kill -1", "killall", json!({}), End::Well("3\n")),
        limited("links", "links", json!({}), End::Well("0\n")),
        told("SIGKILL to itself", "kill -KILL $$", 30.0, End::Signal(9)),
        told("SIGSTOP to itself", "kill -STOP $$", 0.1, End::Killed("timeout")),
        told("closed output", "exec >&- 2>&-; sleep 0.1; exit 5", 30.0, End::Exit(5)),
    ]
}

/// A bomb to be set off beside others.
pub(super) struct Bomb {
    pub(super) name: &'static str,
    words: &'static str,
    limits: Value,
    end: End,
}

impl Bomb {
    /// It, for so many seconds at most.
    pub(super) fn task(&self, program: &Program, cpus: f64, seconds: f64) -> Value {
        let mut limits = self.limits.clone();
        limits["cpus"] = cpus.into();
        program.task(self.words, &limits, seconds)
    }

    /// What is wrong with its result, if anything is. What ends a bomb otherwise may come later than
    /// its timeout.
    pub(super) fn fault(&self, result: &Value) -> Option<String> {
        let right = match self.end {
            _ if verdict(result) == killed("timeout") => true,
            End::Killed(reason) => verdict(result) == killed(reason),
            End::Exit(code) => verdict(result) == ("failed", Some("exit_code"), Some(code), None),
            _ => false,
        };
        (!right).then(|| format!("{}: {}", self.name, shortened(result)))
    }
}

/// With the limits that a request has by default, but for what makes them bombs.
pub(super) fn bombs() -> Vec<Bomb> {
    let bomb = |name, words, limits, end| Bomb { name, words, limits, end };
    let memory = || json!({ "memory": "256MiB" });
    vec![
        bomb("fork", "fork", json!({}), End::Killed("timeout")),
        bomb("threads", "thread", json!({}), End::Killed("timeout")),
        bomb("memory", "memory", memory(), End::Killed("out_of_memory")),
        bomb("tmpfs", "tmpfs", json!({ "disk": "128MiB" }), End::Exit(28)),
        bomb("memfd", "memfd", memory(), End::Killed("out_of_memory")),
        bomb("spin", "spin 64", json!({}), End::Killed("timeout")),
        bomb("output", "flood", json!({}), End::Killed("timeout")),
        bomb("descriptors", "descriptors", json!({}), End::Exit(24)),
        bomb("signals", "signals", json!({}), End::Killed("timeout")),
        bomb("inodes", "inodes", json!({}), End::Exit(28)),
        bomb("page tables", "pagetables", memory(), End::Killed("out_of_memory")),
        bomb("sockets", "sockets", memory(), End::Killed("out_of_memory")),
    ]
}
