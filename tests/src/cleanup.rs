//! Leaving nothing: a harness is built to abort when it panics, which drops nothing, and may be interrupted.

use std::{
    fs, panic, process,
    sync::Once,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{SigSet, Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{Pid, getpid},
};

use crate::Scratch;

/// Services end, and remove the cgroups of their cells, within this.
const PATIENCE: Duration = Duration::from_secs(20);

/// From now on SIGINT, SIGTERM, SIGHUP and panics end all that this process started and remove all
/// folders that it made. `ask` asks its children to end; what has not after a while is killed. To be
/// called before there are further threads, which inherit the blocked signals; commands that are
/// started do not.
pub fn clean_up_whatever_happens(program: &'static str, ask: fn(&[Pid])) {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block().expect("signals can be blocked");
    thread::spawn(move || {
        let signal = signals.wait().expect("signals can be waited for");
        eprintln!("{program}: {signal}: cleaning up");
        // Others lose their services now, and panic: not worth a word.
        panic::set_hook(Box::new(|_| {
            loop {
                thread::park();
            }
        }));
        clean_up(ask);
        process::exit(128 + signal as i32);
    });
    let say = panic::take_hook();
    panic::set_hook(Box::new(move |what| {
        say(what);
        clean_up(ask);
        process::exit(101);
    }));
}

fn clean_up(ask: fn(&[Pid])) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        ask(&children(getpid()));
        let until = Instant::now() + PATIENCE;
        // A thread that waits for one of them may be the one that reaps it.
        while !children(getpid()).is_empty() {
            let _ = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG));
            if Instant::now() > until {
                for pid in children(getpid()) {
                    let _ = kill(pid, Signal::SIGKILL);
                }
            }
            thread::sleep(Duration::from_millis(5));
        }
        for folder in fs::read_dir("/var/tmp").into_iter().flatten().flatten() {
            if folder.path().to_string_lossy().starts_with(&Scratch::prefix()) {
                let _ = fs::remove_dir_all(folder.path());
            }
        }
    });
}

/// The cells of a launcher: its children that are the first process of a namespace.
pub fn cells(launcher: Pid) -> Vec<Pid> {
    children(launcher).into_iter().filter(|pid| is_first(*pid)).collect()
}

/// Whether the innermost of its process ids is 1 (`NSpid`, proc_pid_status(5)).
fn is_first(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    ids.and_then(|ids| ids.split_ascii_whitespace().last()) == Some("1")
}

/// Children of all threads of a process.
pub fn children(pid: Pid) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")));
    let text: String = lists.map(Result::unwrap_or_default).collect();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}
