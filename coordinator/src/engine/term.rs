//! A term: the time for which this process leads. It begins with reading what the store has, and ends
//! when another coordinator leads, with everything that it had begun.

use std::{
    collections::{HashMap, HashSet},
    future::{Future, pending},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio::{task::JoinSet, time::Instant};
use uuid::Uuid;

use super::{Engine, POLL, State, claims::Claims, quiet::STILL};
use crate::{
    dispatch::{self, attempt},
    scheduler::{Action, Event, Facts, RunnerName},
    store::{Candidate, Epoch, Leadership, Message, StoreError, Unfinished},
};

/// Jobs read at once.
const PAGE: usize = 1000;

/// Which term, as everything that is done in it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// Whose: of the coordinators that share a store.
    pub(crate) cluster: Uuid,
    pub(crate) epoch: Epoch,
}

/// What the state holds of the present term.
pub(super) struct Held {
    pub(super) term: Term,
    /// Until then nobody else can lead; later somebody may.
    pub(super) valid_until: Instant,
    /// Everything that is being done in it. Dropping it ends that.
    pub(super) tasks: JoinSet<()>,
    /// While the store is being read: jobs that ended meanwhile, of which what was read is over.
    pub(super) ended: Option<HashSet<Uuid>>,
    /// Every execution that a runner may have, as far as a leader knows: that is all there are.
    pub(super) claims: Claims,
}

impl State {
    /// The present term.
    pub(super) fn term(&self) -> Option<Term> {
        self.held.as_ref().map(|held| held.term)
    }

    /// Whether this is the present term.
    pub(super) fn is_in(&self, term: Term) -> bool {
        self.term() == Some(term)
    }
}

impl Engine {
    /// This process leads until then, as the store has just said.
    pub(super) fn led(self: &Arc<Self>, found: &Leadership, valid_until: Instant) {
        let term = Term { cluster: found.cluster, epoch: found.epoch };
        let mut state = self.state();
        match &mut state.held {
            Some(held) if held.term == term => held.valid_until = valid_until,
            _ => {
                self.depose(&mut state);
                let (tasks, claims) = (JoinSet::new(), HashMap::new());
                state.held = Some(Held { term, valid_until, tasks, ended: None, claims });
                drop(state);
                tracing::info!(epoch = term.epoch.0, "this coordinator leads");
                self.terms.fetch_add(1, Relaxed);
                self.spawn_in(term, Arc::clone(self).begin(term));
            }
        }
        self.validity.send_replace(());
    }

    /// Another coordinator leads, or nobody: the term is over, if there was one.
    pub(super) fn not_led(self: &Arc<Self>, leader: Option<&Candidate>) {
        let mut state = self.state();
        if let Some(term) = state.term() {
            let leader = leader.map(|leader| leader.name.as_str());
            tracing::warn!(epoch = term.epoch.0, leader, "this coordinator does not lead any more");
            self.depose(&mut state);
        }
    }

    /// Forgets all that the present term had; the store and the runners have it.
    fn depose(&self, state: &mut State) {
        if state.held.take().is_some() {
            state.stops.clear();
            // Answers nothing: without a term there is nothing to do.
            state.scheduler.apply(Event::Depose, self.world.now());
            self.count_busy(state);
        }
    }

    /// The store or a runner has heard of a later term: asks who leads, rather than wait for its turn.
    pub(crate) fn doubt(&self, term: Term) {
        if self.state().is_in(term) {
            self.elect.notify_one();
        }
    }

    /// Runs a task that ends with the term at the latest.
    pub(crate) fn spawn_in(&self, term: Term, task: impl Future<Output = ()> + Send + 'static) {
        let mut state = self.state();
        Self::spawn_within(&mut state, term, task);
    }

    pub(super) fn spawn_within(
        state: &mut State,
        term: Term,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        if let Some(held) = &mut state.held
            && held.term == term
        {
            while held.tasks.try_join_next().is_some() {}
            held.tasks.spawn(task);
        }
    }

    /// Tells the scheduler what happened in a term; nothing once that is over.
    pub(crate) fn apply_in(self: &Arc<Self>, term: Term, event: Event) -> Option<Action> {
        let mut state = self.state();
        if state.is_in(term) { self.apply_within(&mut state, event) } else { None }
    }

    /// The present term, as long as nobody else can lead: only then may a runner be told anything.
    pub(crate) fn mandate(&self) -> Option<Term> {
        let state = self.state();
        let held = state.held.as_ref()?;
        (Instant::now() < held.valid_until).then_some(held.term)
    }

    /// Returns as soon as a runner may be told something in this term; never once it is over.
    pub(crate) async fn mandated(&self, term: Term) {
        let mut changes = self.validity.subscribe();
        loop {
            changes.mark_unchanged();
            match self.mandate() {
                Some(now) if now == term => return,
                _ if self.state().is_in(term) => drop(changes.changed().await),
                _ => pending().await,
            }
        }
    }

    /// Takes up what the store has, then leads, then listens for what others take in.
    async fn begin(self: Arc<Self>, term: Term) {
        self.take_up_all(term).await;
        self.apply_in(term, Event::Lead);
        self.validity.send_replace(());
        let poll = if self.store.is_shared() { POLL } else { STILL };
        loop {
            self.empty_inbox(term).await;
            tokio::select! {
                biased;
                () = self.store.news(poll) => {}
                // What the store may have taken while it failed is not known here yet.
                () = self.rescan.notified() => self.take_up_all(term).await,
            }
        }
    }

    async fn empty_inbox(self: &Arc<Self>, term: Term) {
        self.note_ends(term, true);
        self.take_out(term).await;
        self.note_ends(term, false);
    }

    async fn take_out(self: &Arc<Self>, term: Term) {
        loop {
            let messages = match self.store.inbox(term.epoch, PAGE).await {
                Ok(messages) => messages,
                Err(StoreError::Stale { .. }) => return self.doubt(term),
                Err(error) => {
                    // They may be taken out all the same.
                    self.store_failed(&error);
                    return self.rescan.notify_one();
                }
            };
            let all = messages.len() < PAGE;
            for message in messages {
                match message {
                    Message::Submitted(found) => self.take_up(term, *found),
                    Message::Unreadable(found) => self.unreadable(&found),
                    Message::Cancel(job) => {
                        self.apply_in(term, Event::Cancel { job });
                    }
                }
            }
            if all {
                return;
            }
        }
    }

    /// Takes up every job that has not ended: those that waited are queued; for those that a runner
    /// was given, the runner is asked. What is known already stays as it is.
    async fn take_up_all(self: &Arc<Self>, term: Term) {
        self.note_ends(term, true);
        let mut after = None;
        let (mut waiting, mut out, mut known) = (0_usize, 0_usize, 0_usize);
        loop {
            let page = self.persist(term, || self.store.unfinished(after, PAGE)).await;
            // A record whose very key is damaged may be told under one that comes before it.
            let Some(last) = page.last.filter(|last| after.is_none_or(|after| *last > after))
            else {
                break;
            };
            after = Some(last);
            for unreadable in &page.unreadable {
                self.unreadable(unreadable);
            }
            for found in page.jobs {
                let is_known = self.read(|scheduler| scheduler.live(found.job.job_id).is_some());
                let count = match (is_known, &found.claim) {
                    (true, _) => &mut known,
                    (false, Some(_)) => &mut out,
                    (false, None) => &mut waiting,
                };
                *count += 1;
                self.take_up(term, found);
            }
        }
        self.note_ends(term, false);
        if waiting + out > 0 {
            tracing::info!(
                epoch = term.epoch.0,
                waiting,
                out,
                "took up jobs that had not ended: those that waited are queued, and runners are \
                 asked for those that were out"
            );
        }
    }

    /// Begins to keep in mind which jobs end, or stops.
    fn note_ends(&self, term: Term, note: bool) {
        if let Some(held) = self.state().held.as_mut().filter(|held| held.term == term) {
            held.ended = note.then(HashSet::new);
        }
    }

    fn take_up(self: &Arc<Self>, term: Term, found: Unfinished) {
        let id = found.job.job_id;
        let facts = Facts::of(&found.job, found.size, found.not_before);
        let mut state = self.state();
        let present = state.held.as_ref().filter(|held| held.term == term);
        let over = |held: &Held| held.ended.as_ref().is_some_and(|ended| ended.contains(&id));
        if present.is_none_or(over) {
            return;
        }
        if state.scheduler.live(id).is_some() {
            if found.cancel {
                self.apply_within(&mut state, Event::Cancel { job: id });
            }
            return;
        }
        let Some(claim) = found.claim else {
            self.apply_within(&mut state, Event::Submitted(facts));
            if found.cancel {
                self.apply_within(&mut state, Event::Cancel { job: id });
            }
            return;
        };
        let runner = RunnerName::from(claim.runner.as_str());
        let (stop, stopped) = super::channel::channel(found.cancel);
        state.stops.insert(id, stop);
        let started_at = found.job.started_at;
        let resumed =
            Event::Resumed { facts, runner: runner.clone(), started_at, cancel: found.cancel };
        self.apply_within(&mut state, resumed);
        drop(state);
        dispatch::watch(self, &runner);
        // From now on, and not only from when the attempt is looked into: what nobody holds is ended.
        let hold = self.hold(term, &runner, claim.execution_id);
        self.spawn_in(term, attempt::resumed(Arc::clone(self), term, id, claim, hold, stopped));
    }

    /// Whether this process schedules what it takes in, and in which term.
    pub(super) fn leading(state: &State) -> Option<Term> {
        state.term().filter(|_| state.scheduler.leads())
    }
}
