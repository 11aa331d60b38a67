//! Leaving nothing: when this program is interrupted or panics, and what a run left that was killed.

use std::{
    fs, panic,
    path::Path,
    process,
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

use super::{disk::thaw_all, process::children};
use crate::Scratch;

/// Services end, and remove the cgroups of their cells, within this.
const PATIENCE: Duration = Duration::from_secs(15);

/// From now on SIGINT, SIGTERM, SIGHUP and panics end all that this process started. To be called
/// before there are further threads, which inherit the blocked signals.
pub fn clean_up_whatever_happens() {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block().expect("signals can be blocked");
    thread::spawn(move || {
        let signal = signals.wait().expect("signals can be waited for");
        eprintln!("faults: {signal}: cleaning up");
        // Others lose their services now, and panic: not worth a word.
        panic::set_hook(Box::new(|_| {
            loop {
                thread::park();
            }
        }));
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

fn clean_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        thaw_all();
        let own = children(getpid());
        for pid in own.iter().flat_map(|pid| [vec![*pid], children(*pid)].concat()) {
            let _ = kill(pid, Signal::SIGCONT);
        }
        for signal in [Signal::SIGINT, Signal::SIGINT] {
            for pid in &own {
                let _ = kill(*pid, signal);
            }
        }
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
        for folder in folders() {
            if folder.to_string_lossy().starts_with(&Scratch::prefix()) {
                let _ = fs::remove_dir_all(folder);
            }
        }
    });
}

/// Ends what a run left whose program was killed: processes that have its folder on their command line
/// or work in it, and the folder. Network namespaces, mounts and loop devices go with the processes.
pub fn sweep() {
    for folder in folders() {
        let owner = fs::read_to_string(folder.join("owner")).unwrap_or_default();
        let Some((pid, born)) = owner.trim().split_once(' ') else {
            // Not ours, or made a moment ago.
            continue;
        };
        if birth(pid).is_some_and(|now| now == born) {
            continue;
        }
        eprintln!("faults: removing what a run left in {}", folder.display());
        let left = using(&folder);
        for pid in &left {
            // It may hang on a disk that was frozen.
            let _ = process::Command::new("nsenter")
                .args(["--mount", "--target", &pid.to_string(), "fsfreeze", "--unfreeze"])
                .arg(folder.join("disk"))
                .stderr(process::Stdio::null())
                .status();
        }
        for pid in &left {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        let until = Instant::now() + PATIENCE;
        while !using(&folder).is_empty() && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = fs::remove_dir_all(&folder);
    }
}

/// Who owns a folder: this process, told from others that had or will have its number.
pub(super) fn owner() -> String {
    let pid = process::id().to_string();
    let born = birth(&pid).unwrap_or_default();
    format!("{pid} {born}")
}

/// When a process was started, in clock ticks since boot (proc_pid_stat(5), field 22).
fn birth(pid: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19).map(String::from)
}

/// Processes that have a folder on their command line or work below it.
pub(super) fn using(folder: &Path) -> Vec<Pid> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        let pid = Pid::from_raw(pid);
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let named = String::from_utf8_lossy(&command).contains(&*folder.to_string_lossy());
        let within = fs::read_link(entry.path().join("cwd")).is_ok_and(|at| at.starts_with(folder));
        if pid != getpid() && (named || within) {
            found.push(pid);
        }
    }
    found
}

fn folders() -> Vec<std::path::PathBuf> {
    let all = fs::read_dir("/var/tmp").into_iter().flatten().flatten().map(|entry| entry.path());
    let own = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("cloister-test-") && name.ends_with("-faults")
    };
    all.filter(own).collect()
}
