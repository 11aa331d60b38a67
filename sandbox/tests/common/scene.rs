//! A launcher with its engine, for tests that look at its cells from outside.

use std::{
    fs,
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use cloister_api::{Outcome, Program, Task};
use cloister_sandbox::{Config, Engine, Launcher, Ticket};

use super::common::{children, only_child, run};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Test = fn(&Scene);

pub(crate) struct Scene {
    pub(crate) engine: Engine,
    pub(crate) launcher: u32,
}

impl Scene {
    /// Forks the launcher: to be called while this process has one thread.
    pub(crate) fn set_up(config: &Config) -> Self {
        let launcher = Launcher::fork(config);
        let launcher = launcher.expect("cells can be made here: this test runs as root");
        let pid = only_child();
        let engine = Engine::start(launcher, || panic!("the launcher has ended")).unwrap();
        Self { engine, launcher: pid }
    }

    /// Runs the tests one after the other and prints as libtest does.
    pub(crate) fn run_all(&self, tests: &[(&str, Test)]) {
        println!("\nrunning {} tests", tests.len());
        for (name, test) in tests {
            test(self);
            println!("test {name} ... ok");
        }
        self.engine.stop();
        println!(
            "\ntest result: ok. {} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            tests.len()
        );
    }

    pub(crate) fn start(&self, task: Task) -> (Ticket, Receiver<Outcome>) {
        run(&self.engine, task)
    }

    pub(crate) fn ended(&self, task: Task) -> Outcome {
        end(&self.start(task).1)
    }

    /// The launcher's children that are the first process of a namespace (`NSpid`, proc_pid_status(5)).
    pub(crate) fn cells(&self) -> Vec<u32> {
        let is_first = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            ids.and_then(|ids| ids.split_ascii_whitespace().last()) == Some("1")
        };
        children(self.launcher).into_iter().filter(is_first).collect()
    }

    /// Each cell with a job, and the processes that its PID 1 has started or taken in.
    pub(crate) fn with_jobs(&self) -> Vec<(u32, Vec<u32>)> {
        let each = self.cells().into_iter().map(|cell| (cell, children(cell)));
        each.filter(|(_, jobs)| !jobs.is_empty()).collect()
    }

    pub(crate) fn until(&self, what: &str, good: impl Fn() -> bool) {
        let until = Instant::now() + 2 * PATIENCE;
        while !good() {
            assert!(Instant::now() < until, "waited in vain until {what}: {:?}", self.cells());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

pub(crate) fn shell(line: &str) -> Task {
    Task::new(Program::Command(line.into()))
}

pub(crate) fn python(program: &str) -> Task {
    Task::new(Program::Argv(["python3", "-c", program].map(String::from).into()))
}

pub(crate) fn end(hear: &Receiver<Outcome>) -> Outcome {
    hear.recv_timeout(PATIENCE).expect("the job ends")
}
