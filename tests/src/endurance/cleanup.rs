//! Ending what this process started, also when it is interrupted or panics: the program is built to
//! abort then, which drops nothing.

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
    unistd::Pid,
};

use crate::Scratch;

/// Cells are ended, and cgroups removed, within this.
const PATIENCE: Duration = Duration::from_secs(20);

/// From now on SIGINT, SIGTERM and panics end all services and remove all folders that this process
/// made. To be called before there are further threads, which inherit the blocked signals; commands
/// that are started do not.
pub fn clean_up_whatever_happens() {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block().expect("signals can be blocked");
    thread::spawn(move || {
        let signal = signals.wait().expect("signals can be waited for");
        eprintln!("endurance: {signal}: cleaning up");
        // Others lose their services now, and panic: not worth a word.
        panic::set_hook(Box::new(|_| wait_for_the_end()));
        clean_up();
        process::exit(128 + signal as i32);
    });
    let say = panic::take_hook();
    panic::set_hook(Box::new(move |what| {
        say(what);
        clean_up();
        process::exit(101);
    }));
}

fn wait_for_the_end() {
    loop {
        thread::park();
    }
}

fn clean_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for child in children() {
            // As an operator would: the second one says not to wait for jobs.
            let _ = kill(child, Signal::SIGTERM);
            let _ = kill(child, Signal::SIGTERM);
        }
        let until = Instant::now() + PATIENCE;
        // A thread that waits for one of them may be the one that reaps it.
        while !children().is_empty() {
            let _ = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG));
            if Instant::now() > until {
                for child in children() {
                    let _ = kill(child, Signal::SIGKILL);
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

/// Children of all threads of this process.
fn children() -> Vec<Pid> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")));
    let text: String = lists.map(Result::unwrap_or_default).collect();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}
