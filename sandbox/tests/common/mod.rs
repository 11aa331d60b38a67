//! What tests with a launcher of their own share.

use std::{
    fs,
    sync::mpsc::{Receiver, channel},
};

use cloister_api::{Outcome, Task};
use cloister_sandbox::{Collector, Engine, Stdio, Ticket};

/// Starts a job; its outcome can be waited for.
pub(crate) fn run(engine: &Engine, task: Task) -> (Ticket, Receiver<Outcome>) {
    let (tell, hear) = channel();
    let collector = Collector::new(move |outcome| {
        // A test that has ended does not want to know.
        let _ = tell.send(outcome);
    });
    (engine.run(task, Stdio::Captured, Box::new(collector)), hear)
}

/// The launcher, where this process has started nothing else.
pub(crate) fn only_child() -> u32 {
    let own = std::process::id();
    children(own)[..].try_into().map(|[child]: [u32; 1]| child).expect("there is one child")
}

/// The children of a process of one thread, or of its first.
pub(crate) fn children(of: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    text.split_ascii_whitespace().map(|pid| pid.parse().unwrap()).collect()
}
