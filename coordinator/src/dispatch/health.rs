//! Asks each runner how it is, about once a second, for as long as it is listed or has a job.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::RngExt;
use tokio::{
    sync::{Notify, watch as channel},
    time::{Instant, sleep, timeout_at},
};
use uuid::Uuid;

use super::client::{CallError, RunnerClient};
use crate::{
    engine::Engine,
    scheduler::{Event, RunnerName},
};

const EVERY: Duration = Duration::from_secs(1);
/// A runner that is down is asked more often, so that its jobs wait no longer than they must.
const WHILE_DOWN: Duration = Duration::from_millis(500);
/// After a runner said that it is full: its slots change often then.
const WHILE_FULL: Duration = Duration::from_millis(50);

/// What an attempt wants to know of its runner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Contact {
    /// Its life, by its last answer.
    pub(crate) boot_id: Option<Uuid>,
    /// Since when it does not answer.
    pub(crate) silent_since: Option<Instant>,
}

/// A runner that is asked.
#[derive(Clone)]
pub(crate) struct Post {
    contact: channel::Receiver<Contact>,
    ask: Arc<Notify>,
}

impl Post {
    /// How it is now.
    pub(crate) fn contact(&self) -> Contact {
        *self.contact.borrow()
    }

    /// Asks it again soon, rather than in its turn.
    pub(crate) fn ask_soon(&self) {
        self.ask.notify_one();
    }

    /// Returns when it has been silent for so long, or has another life than it had at the call.
    pub(crate) async fn lost(&mut self, grace: Duration) {
        let boot = self.contact().boot_id;
        loop {
            let now = *self.contact.borrow_and_update();
            if boot.is_some() && now.boot_id != boot {
                return;
            }
            let changed = self.contact.changed();
            let result = match now.silent_since {
                None => changed.await,
                Some(since) => match timeout_at(since + grace, changed).await {
                    Err(_) => return,
                    Ok(changed) => changed,
                },
            };
            if result.is_err() {
                return;
            }
        }
    }
}

/// The runners that are being asked.
#[derive(Default)]
pub(crate) struct Fleet {
    posts: Mutex<HashMap<RunnerName, Post>>,
}

/// The post of a runner, which is being asked from now on at the latest.
pub(crate) fn watch(engine: &Arc<Engine>, runner: &RunnerName) -> Post {
    let mut posts = engine.fleet.posts.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(post) = posts.get(runner) {
        return post.clone();
    }
    let (sender, contact) = channel::channel(Contact { boot_id: None, silent_since: None });
    let ask = Arc::new(Notify::new());
    let post = Post { contact, ask };
    posts.insert(runner.clone(), post.clone());
    let task = ask_on(Arc::clone(engine), runner.clone(), sender, post.ask.clone());
    engine.spawn(task);
    post
}

/// Asks until the scheduler has no interest in the runner any more.
async fn ask_on(
    engine: Arc<Engine>,
    runner: RunnerName,
    contact: channel::Sender<Contact>,
    soon: Arc<Notify>,
) {
    let mut was_up = None;
    while interested(&engine, &runner) {
        let up = ask_once(&engine, &runner, &contact).await;
        match up {
            Ok(()) if was_up != Some(true) => tracing::info!(%runner, "runner answers"),
            Err(error) if was_up != Some(false) => {
                tracing::warn!(%runner, %error, "runner is down");
            }
            _ => {}
        }
        was_up = Some(contact.borrow().silent_since.is_none());
        let pause = if was_up == Some(true) { EVERY } else { WHILE_DOWN };
        // Runners that were found together are not asked together for ever.
        let pause = pause.mul_f64(rand::rng().random_range(0.9..1.1));
        tokio::select! {
            () = sleep(pause) => {}
            () = soon.notified() => sleep(WHILE_FULL).await,
        }
    }
}

/// Whether to go on; under the lock by which a new interest would find this post.
fn interested(engine: &Arc<Engine>, runner: &RunnerName) -> bool {
    let mut posts = engine.fleet.posts.lock().unwrap_or_else(PoisonError::into_inner);
    let known = engine.knows(runner);
    if !known {
        posts.remove(runner);
    }
    known
}

async fn ask_once(
    engine: &Arc<Engine>,
    runner: &RunnerName,
    contact: &channel::Sender<Contact>,
) -> Result<(), CallError> {
    let client: &RunnerClient = &engine.client;
    let now = Instant::now();
    let (answer, runner) = (client.health(runner).await, runner.clone());
    match answer {
        Ok(health) => {
            tell(contact, |now| {
                now.boot_id = Some(health.boot_id);
                now.silent_since = None;
            });
            let health = Box::new(health);
            engine.apply(Event::Up { runner, health });
            Ok(())
        }
        Err(error) => {
            tell(contact, |contact| {
                contact.silent_since.get_or_insert(now);
            });
            let why = error.to_string();
            engine.apply(Event::Down { runner, why });
            Err(error)
        }
    }
}

/// Changes what is known, and wakes those who wait only if it is something new.
fn tell(contact: &channel::Sender<Contact>, change: impl FnOnce(&mut Contact)) {
    contact.send_if_modified(|now| {
        let before = *now;
        change(now);
        *now != before
    });
}
