//! An observer that takes output at its own pace: the job waits, nothing is lost, and nobody else notices.
//!
//! Without libtest's harness, since the launcher is forked while the process has one thread.

mod common;
#[path = "common/scene.rs"]
mod scene;

use std::{
    fs,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
};

use cloister_api::{Outcome, Reason, Seconds, Status, Task};
use cloister_sandbox::{Collector, Config, Observer, Resume, Room, Stdio, Stream};
use scene::{Scene, end, python, shell};

fn main() {
    Scene::set_up(&Config::default()).run_all(&[
        ("a_job_waits_for_its_observer_and_nothing_is_lost", waits),
        ("a_job_that_waits_is_ended_like_any_other", ended),
        ("what_is_not_wanted_is_dropped", dropped),
    ]);
}

/// What the observer has to say, and whom it has told to wait.
#[derive(Default)]
struct Mood {
    room: Option<Room>,
    waiting: Vec<Resume>,
}

/// Takes what its mood allows. At the job's end it takes all that is left.
struct Moody<F> {
    mood: Arc<Mutex<Mood>>,
    collector: Collector<F>,
}

impl<F: FnOnce(Outcome) + Send> Observer for Moody<F> {
    fn room(&mut self, _: Stream, resume: Option<&Resume>) -> Room {
        let mut mood = self.mood.lock().unwrap();
        let room = mood.room.unwrap_or(Room::Now(usize::MAX));
        match resume {
            Some(resume) if room == Room::Later => mood.waiting.push(resume.clone()),
            None if room == Room::Later => return Room::Now(1000),
            _ => {}
        }
        room
    }

    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        self.collector.output(stream, bytes);
    }

    fn ended(self: Box<Self>, outcome: Outcome) {
        Box::new(self.collector).ended(outcome);
    }
}

fn start(scene: &Scene, task: Task, room: Room) -> (Arc<Mutex<Mood>>, Receiver<Outcome>) {
    let mood = Arc::new(Mutex::new(Mood { room: Some(room), ..Mood::default() }));
    let (tell, hear) = channel();
    let collector = Collector::new(move |outcome| drop(tell.send(outcome)));
    let moody = Moody { mood: Arc::clone(&mood), collector };
    scene.engine.run(task, Stdio::Captured, Box::new(moody));
    (mood, hear)
}

/// CPU time that the engine's thread has used, in ticks.
fn engine_ticks() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let name = |path: &std::path::Path| fs::read_to_string(path.join("comm")).unwrap_or_default();
    let engine = tasks.into_iter().find(|task| name(task) == "cells\n").unwrap();
    let stat = fs::read_to_string(engine.join("stat")).unwrap();
    stat.rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .skip(11)
        .take(2)
        .map(|n| n.parse::<u64>().unwrap())
        .sum()
}

const TEXT: usize = 300_000;

fn waits(scene: &Scene) {
    let line = format!("(yes | head -c {TEXT} >&2) & yes no | head -c {TEXT}; wait; echo done");
    let (mood, hear) = start(scene, shell(&line), Room::Later);
    let count = || mood.lock().unwrap().waiting.len();
    scene.until("both streams wait", || count() >= 2);
    let before = engine_ticks();
    // The engine goes on with others, and does not turn round and round.
    for _ in 0..3 {
        assert_eq!(scene.ended(shell("sleep 0.1")).status, Status::Completed);
    }
    assert!(engine_ticks() - before < 15, "the engine is busy with streams that wait");
    assert_eq!((count(), scene.with_jobs().len()), (2, 1), "the job waits");
    assert!(hear.try_recv().is_err());
    let waiting = {
        let mut mood = mood.lock().unwrap();
        mood.room = Some(Room::Now(777));
        std::mem::take(&mut mood.waiting)
    };
    for resume in &waiting {
        resume.resume();
    }
    let outcome = end(&hear);
    let [stdout, stderr] = [outcome.stdout, outcome.stderr].map(Option::unwrap);
    assert_eq!((outcome.status, outcome.stdout_truncated), (Status::Completed, Some(false)));
    assert!(stdout == "no\n".repeat(TEXT / 3) + "done\n", "{} bytes", stdout.len());
    assert!(stderr == "y\n".repeat(TEXT / 2), "{} bytes", stderr.len());
    // Of a job that is over nothing is read.
    waiting[0].resume();
}

fn ended(scene: &Scene) {
    let mut task = shell("printf first; yes | head -c 1000000");
    task.timeout = Seconds::new(1);
    let (mood, hear) = start(scene, task, Room::Later);
    let outcome = end(&hear);
    assert_eq!(outcome.reason, Some(Reason::Timeout));
    assert!(!mood.lock().unwrap().waiting.is_empty(), "it waited");
    let text = outcome.stdout.unwrap();
    assert!(text.starts_with("firsty\ny\n"), "what its pipe held is not lost");
}

fn dropped(scene: &Scene) {
    let (mood, hear) = start(scene, python("print('y' * 1000000)"), Room::Never);
    let outcome = end(&hear);
    assert_eq!((outcome.status, outcome.stdout.as_deref()), (Status::Completed, Some("")));
    assert_eq!((outcome.stdout_truncated, outcome.stderr_truncated), (Some(true), Some(false)));
    assert!(mood.lock().unwrap().waiting.is_empty());
}
