//! Leaving nothing: how services are asked to end when this program is interrupted, and what a run left
//! that was killed.

use std::{
    fs,
    path::Path,
    process, thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getpid},
};

use super::disk::thaw_all;
use crate::cleanup::children;

/// What was killed is gone within this.
const PATIENCE: Duration = Duration::from_secs(15);

/// Asks all services to end, and at once: the second signal says not to wait for jobs. Whatever stands
/// still hears of it only when it goes on.
pub fn ask(services: &[Pid]) {
    thaw_all();
    for pid in services.iter().flat_map(|pid| [vec![*pid], children(*pid)].concat()) {
        let _ = kill(pid, Signal::SIGCONT);
    }
    for signal in [Signal::SIGINT, Signal::SIGINT] {
        for pid in services {
            let _ = kill(*pid, signal);
        }
    }
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
