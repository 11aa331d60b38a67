//! Asks each runner how it is, about once a second, for as long as it is listed or has a job; and less
//! often while nobody has anything for it.

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cloister_api::{CANCELS, LEASES, LeaseRequest, Seconds};
use tokio::{
    sync::{Notify, watch as channel},
    time::{Instant, sleep, timeout_at},
};
use uuid::Uuid;

use super::{
    link::{CallError, Renewed},
    reminder::Reminder,
    sweep::sweep_on,
};
use crate::{
    engine::Engine,
    scheduler::{Event, RunnerName, Skew},
};

const EVERY: Duration = Duration::from_secs(1);
/// Where there is no job at all. When one comes all are asked within a second: a lease counts from its
/// runner's last answer.
const WHILE_QUIET: Duration = Duration::from_secs(5);
/// A runner that is down is asked more often, so that its jobs wait no longer than they must.
const WHILE_DOWN: Duration = Duration::from_millis(500);
/// After a runner said that it is full: its slots change often then.
const WHILE_FULL: Duration = Duration::from_millis(50);

/// What an attempt wants to know of its runner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Contact {
    /// Its life, by its last answer.
    pub(crate) boot_id: Option<Uuid>,
    /// Since when it does not answer: nothing that it was sent later has reached it, as far as is
    /// known.
    pub(crate) silent_since: Option<Instant>,
    /// Whether it knows of leases and terms.
    pub(crate) leases: bool,
    /// Whether it can cancel what runs and keep what has ended.
    pub(crate) cancels: bool,
    /// Its own clock by its last answer, in milliseconds, if it tells it.
    pub(crate) clock: Option<u64>,
}

/// A runner that is asked.
#[derive(Clone)]
pub(crate) struct Post {
    contact: channel::Receiver<Contact>,
    ask: Arc<Notify>,
    /// Lines of the log that say that attempts lost touch with it.
    lost_touch: Arc<Mutex<Reminder>>,
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

    /// An attempt lost touch with it. Whether that is to be said: all its attempts do so together, again
    /// and again.
    pub(crate) fn lost_touch(&self) -> bool {
        self.reminder().happened(Instant::now())
    }

    fn reminder(&self) -> MutexGuard<'_, Reminder> {
        self.lost_touch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when it answers again after a silence that lasts now or begins later.
    pub(crate) async fn answers_again(&self) {
        let mut contact = self.contact.clone();
        let silent = contact.wait_for(|contact| contact.silent_since.is_some()).await.is_ok();
        if !silent || contact.wait_for(|contact| contact.silent_since.is_none()).await.is_err() {
            pending::<()>().await;
        }
    }

    /// Returns when it has been silent for so long, but not before `earliest`; or has another life
    /// than it had at the call.
    pub(crate) async fn lost(&mut self, silence: Duration, earliest: Instant) {
        let boot = self.contact().boot_id;
        loop {
            let now = *self.contact.borrow_and_update();
            if boot.is_some() && now.boot_id != boot {
                return;
            }
            let changed = self.contact.changed();
            let result = match now.silent_since {
                None => changed.await,
                Some(since) => match timeout_at((since + silence).max(earliest), changed).await {
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
    let (sender, contact) = channel::channel(Contact {
        boot_id: None,
        silent_since: None,
        leases: false,
        cancels: false,
        clock: None,
    });
    let (ask, swept) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let post = Post { contact, ask, lost_touch: Arc::default() };
    posts.insert(runner.clone(), post.clone());
    // Beside each other: a runner that is slow to tell what it has keeps no lease from being renewed.
    let asking =
        ask_on(Arc::clone(engine), runner.clone(), sender, post.clone(), Arc::clone(&swept));
    let sweeping = sweep_on(Arc::clone(engine), runner.clone(), swept);
    engine.spawn(async move {
        tokio::select! { () = asking => {}, () = sweeping => {} }
    });
    post
}

/// Asks until the scheduler has no interest in the runner any more.
async fn ask_on(
    engine: Arc<Engine>,
    runner: RunnerName,
    contact: channel::Sender<Contact>,
    post: Post,
    answered: Arc<Notify>,
) {
    let (mut was_up, mut off) = (None, None);
    let mut stirs = engine.stirs();
    while interested(&engine, &runner) {
        stirs.mark_unchanged();
        let up = ask_once(&engine, &runner, &contact).await;
        match up {
            Ok(()) if was_up != Some(true) => {
                tracing::info!(%runner, "runner answers");
                post.reminder().over();
            }
            Err(error) if was_up != Some(false) => {
                tracing::warn!(%runner, %error, "runner is down");
            }
            _ => {}
        }
        was_up = Some(contact.borrow().silent_since.is_none());
        let refused = engine.read(|scheduler| scheduler.refused_clock(&runner));
        match (&off, &refused) {
            (None, Some(why)) => {
                tracing::warn!(%runner, why, "a runner's clock is off: it gets nothing");
            }
            (Some(_), None) if was_up == Some(true) => {
                tracing::info!(%runner, "a runner's clock is right again");
            }
            _ => {}
        }
        off = refused;
        if was_up == Some(true) && contact.borrow().leases {
            answered.notify_one();
        }
        let quiet = was_up == Some(true) && engine.is_quiet();
        let pause = match was_up {
            Some(true) if quiet => WHILE_QUIET.min(engine.lease / 6).max(EVERY),
            Some(true) => EVERY,
            _ => WHILE_DOWN,
        };
        // Runners that were found together are not asked together for ever.
        let pause = pause.mul_f64(0.9 + 0.2 * engine.world.fraction());
        let stirred = async {
            // The sender is the engine's own, and lives as long.
            let _ = stirs.changed().await;
            sleep(EVERY.mul_f64(engine.world.fraction())).await;
        };
        tokio::select! {
            biased;
            () = sleep(pause) => {}
            () = stirred, if quiet => {}
            () = post.ask.notified() => sleep(WHILE_FULL).await,
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
    let now = Instant::now();
    match engine.runners.health(runner).await {
        Ok(health) => {
            let has = |feature| health.features.iter().any(|one| one == feature);
            let (leases, cancels) = (has(LEASES), has(CANCELS));
            tell(contact, |now| {
                now.boot_id = Some(health.boot_id);
                now.silent_since = None;
                (now.leases, now.cancels) = (leases, cancels);
                now.clock = health.clock_ms;
            });
            let as_of = health.clock_ms;
            let skew = health.time.map(|time| Skew::measured(time, engine.now(), now.elapsed()));
            engine.apply(Event::Clock { runner: runner.clone(), skew });
            let health = Box::new(health);
            engine.apply(Event::Up { runner: runner.clone(), health });
            if leases {
                renew(engine, runner, as_of).await;
            }
            Ok(())
        }
        Err(error) => {
            tell(contact, |contact| {
                contact.silent_since.get_or_insert(now);
            });
            let why = error.to_string();
            engine.apply(Event::Down { runner: runner.clone(), why });
            Err(error)
        }
    }
}

/// Renews the leases of what a runner has: only after it has just answered, so that what was sent to
/// a silent one is older than its silence; and only while nobody else can lead.
async fn renew(engine: &Arc<Engine>, runner: &RunnerName, as_of: Option<u64>) {
    let Some(term) = engine.mandate() else { return };
    let executions = engine.to_renew(term, runner);
    if executions.is_empty() {
        return;
    }
    let request = LeaseRequest {
        cluster: term.cluster,
        epoch: term.epoch.0,
        lease: Seconds(engine.lease),
        as_of,
        executions,
    };
    match engine.runners.renew(runner, &request).await {
        Ok(Renewed::Yes(known)) => engine.unknown_at(term, runner, &known.unknown),
        Ok(Renewed::Stale(why)) => {
            tracing::warn!(%runner, why, "a runner refuses this term");
            engine.doubt(term);
        }
        // Its health tells, or the next time.
        Err(error) => tracing::debug!(%runner, %error, "leases were not renewed"),
    }
}

/// Changes what is known, and wakes those who wait only if it is something new: that a clock goes on
/// is not.
fn tell(contact: &channel::Sender<Contact>, change: impl FnOnce(&mut Contact)) {
    contact.send_if_modified(|now| {
        let before = *now;
        change(now);
        *now != Contact { clock: now.clock, ..before }
    });
}
