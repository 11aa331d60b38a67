//! Clients that submit jobs, each with a key, again and again until it is acknowledged.

use std::{
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use super::{history::What, http::Http, jobs::Kind, rng::Rng, world::World};

/// Clients at once.
const CLIENTS: usize = 24;
/// How long a client waits for an answer, before it asks again.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is submitted, and how fast.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// Which jobs.
    pub(super) jobs: Range<usize>,
    /// From one job to the next.
    pub(super) every: Duration,
    /// How long a client tries; after that it has failed.
    pub(super) budget: Duration,
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Submitted {
    /// Jobs whose clients gave up.
    pub(super) given_up: Vec<usize>,
    /// Jobs that were refused for good, and how.
    pub(super) refused: Vec<(usize, String)>,
    /// The longest that a client took to be acknowledged.
    pub(super) slowest: Duration,
}

/// Submits all of it; returns when each job was acknowledged or given up, and those that are to be
/// cancelled are.
pub(super) fn submit(world: &World, seed: u64, load: &Load) -> Submitted {
    let next = AtomicUsize::new(load.jobs.start);
    let began = Instant::now();
    let clients = thread::scope(|scope| {
        let start = |client: usize| {
            let next = &next;
            scope.spawn(move || {
                world.clients().enter();
                let rng = Rng::new(seed, &format!("client {client} of {:?}", load.jobs));
                let http = world.client(PATIENCE);
                let mut client = Client { world, load, http, rng, done: Submitted::default() };
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= load.jobs.end {
                        return client.done;
                    }
                    let nth = u32::try_from(index - load.jobs.start).unwrap_or(u32::MAX);
                    let due = began + load.every * nth;
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    client.one(index);
                }
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(start).collect();
        let done = clients.into_iter().map(ScopedJoinHandle::join);
        done.map(|done| done.expect("a panic would have ended this as well")).collect::<Vec<_>>()
    });
    clients.into_iter().fold(Submitted::default(), |mut all, one| {
        all.given_up.extend(one.given_up);
        all.refused.extend(one.refused);
        all.slowest = all.slowest.max(one.slowest);
        all
    })
}

struct Client<'a> {
    world: &'a World,
    load: &'a Load,
    http: Http,
    rng: Rng,
    done: Submitted,
}

/// What an answer to a submission means.
enum Outcome {
    Accepted(u16, String),
    /// Try again.
    NotNow(String),
    /// Never.
    Refused(String),
}

impl Client<'_> {
    fn one(&mut self, index: usize) {
        let began = Instant::now();
        let until = began + self.load.budget;
        let (key, body) = (self.world.jobs.key(index), self.world.jobs.request(index));
        let coordinators = self.world.coordinators();
        let mut pause = 50;
        let id = loop {
            let to = coordinators[self.rng.below(coordinators.len())];
            let (by, before) = (to.name.clone(), to.life());
            match outcome(self.http.submit(&to.base, &key, &body)) {
                Outcome::Accepted(status, id) => {
                    let life = before.filter(|_| to.life() == before);
                    let accepted = What::Accepted { by, life, status, id: id.clone() };
                    let mut record = self.world.history.job(index);
                    record.events.push((self.world.history.now(), accepted));
                    record.id = Some(id.clone());
                    break id;
                }
                Outcome::NotNow(why) => {
                    self.world.history.refused(&why);
                    self.world.tell(index, What::Tried { by, why });
                }
                Outcome::Refused(why) => {
                    self.world.tell(index, What::Tried { by, why: why.clone() });
                    self.done.refused.push((index, why));
                    return;
                }
            }
            if Instant::now() > until {
                self.done.given_up.push(index);
                return;
            }
            thread::sleep(self.rng.millis(pause / 2, pause));
            pause = (pause * 2).min(500);
        };
        self.done.slowest = self.done.slowest.max(began.elapsed());
        if let Kind::Cancel(after) = self.world.jobs.kind(index) {
            thread::sleep(after);
            self.cancel(index, &id);
        }
    }

    fn cancel(&mut self, index: usize, id: &str) {
        let until = Instant::now() + self.load.budget;
        let coordinators = self.world.coordinators();
        while Instant::now() < until {
            let to = coordinators[self.rng.below(coordinators.len())];
            if let Ok(answer) = self.http.delete(&format!("{}/jobs/{id}", to.base))
                && let status @ (200 | 202) = answer.status
            {
                self.world.tell(index, What::Cancelled { by: to.name.clone(), status });
                return;
            }
            thread::sleep(self.rng.millis(50, 300));
        }
    }
}

/// Whatever is not certain has to be asked again.
fn outcome(answer: Result<super::http::Answer, String>) -> Outcome {
    let answer = match answer {
        Ok(answer) => answer,
        Err(why) => return Outcome::NotNow(why),
    };
    match answer.status {
        200 | 201 => match answer.json() {
            Ok(job) => match job["job_id"].as_str() {
                Some(id) => Outcome::Accepted(answer.status, id.into()),
                None => Outcome::Refused(format!("{} without a job_id", answer.status)),
            },
            // Cut off in the middle of its body.
            Err(why) => Outcome::NotNow(why),
        },
        408 | 429 | 503 => Outcome::NotNow(answer.status.to_string()),
        status => Outcome::Refused(format!("{status}: {}", answer.text())),
    }
}
