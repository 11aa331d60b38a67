//! The limits of a cell's cgroup, read back by `cgroups-rs`: a reader that was written independently of
//! ours, on cgroup v1 and on v2.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use cgroups_rs::{
    Cgroup, MaxValue, cpu::CpuController, hierarchies, memory::MemController, pid::PidController,
};
use cloister_tests::{census, cloister};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const MEMORY: i64 = 96 << 20;

/// A command in a cell that waits for a line of input, which never comes.
struct Waiting(Child);

impl Waiting {
    /// Starts it, and comes back with the host's id of its process.
    fn start(options: &[&str]) -> (Self, u32) {
        let mark = uuid::Uuid::new_v4();
        let script = format!(": {mark}; echo ready; read line");
        let mut command = Command::new(cloister());
        command.arg("run").args(options).args(["--", "sh", "-c", &script]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut waiting = Self(child);
        let mut line = String::new();
        BufReader::new(waiting.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let found = census::processes(&mark.to_string());
        let shell = found.iter().find_map(|found| {
            let (process, line) = found.split_once(' ')?;
            line.starts_with("sh -c").then(|| process.parse().unwrap())
        });
        (waiting, shell.expect("the shell runs"))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).expect("a process id is positive");
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// The cgroup of a process, by controller (cgroups(7)); that of v2 has no controller's name.
fn paths(process: u32) -> HashMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{process}/cgroup")).expect("the process lives");
    let mut paths = HashMap::new();
    for line in text.lines() {
        let [_, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>()[..] else {
            panic!("{line:?} is no line of /proc/PID/cgroup");
        };
        for controller in controllers.split(',') {
            paths.insert(controller.to_owned(), path.trim_start_matches('/').to_owned());
        }
    }
    paths
}

/// The cgroup that holds a controller of the process.
fn cgroup(paths: &HashMap<String, String>, controller: &str) -> Cgroup {
    let path = paths.get(controller).unwrap_or(&paths[""]);
    Cgroup::load(hierarchies::auto(), path)
}

#[test]
fn an_independent_reader_finds_the_limits() {
    let options = ["--timeout", "60", "--memory", "96MiB", "--cpus", "0.5", "--pids", "33"];
    let (_waiting, process) = Waiting::start(&options);
    let paths = paths(process);

    let memory = cgroup(&paths, "memory");
    let memory: &MemController = memory.controller_of().expect("memory is a controller");
    assert_eq!(memory.memory_stat().limit_in_bytes, MEMORY);
    // On v1 the limit is of memory and swap together, on v2 of swap alone, of which there is none.
    let swap = memory.memswap().limit_in_bytes;
    if paths.contains_key("memory") {
        assert_eq!(swap, MEMORY);
        assert_eq!(memory.kmem_tcp_stat().limit_in_bytes, MEMORY / 4);
    } else {
        assert_eq!(swap, 0);
    }

    let cpu = cgroup(&paths, "cpu");
    let cpu: &CpuController = cpu.controller_of().expect("cpu is a controller");
    assert_eq!(cpu.cfs_period().unwrap(), 100_000);
    assert_eq!(cpu.cfs_quota().unwrap(), 50_000);

    // The cell's PID 1 is counted beside the job's own.
    let pids = cgroup(&paths, "pids");
    let pids: &PidController = pids.controller_of().expect("pids is a controller");
    assert_eq!(pids.get_pid_max().unwrap(), MaxValue::Value(34));
}
