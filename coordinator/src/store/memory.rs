//! A store in memory, for simulations: it does all that the others do and keeps nothing. Its time is
//! tokio's, which a simulation controls.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cloister_api::{Job, Status, Timestamp};
use futures_util::future::BoxFuture;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use uuid::Uuid;

use super::{
    Answer, Backlog, Candidate, Claim, Digest, Epoch, Figures, Keep, Key, Leadership, Message,
    Order, Orders, Page, Piece, Query, Store, StoreClock, StoreError, Stream, Submitted,
    Unfinished, Unreadable, record::apart,
};

/// For how long a candidate counts as one after it asked.
const LATELY: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Row {
    job: Job,
    claim: Option<Claim>,
    cancel: bool,
    not_before: Option<Timestamp>,
}

enum Item {
    Submitted(Uuid),
    Cancel(Uuid),
}

struct State {
    cluster: Uuid,
    epoch: Epoch,
    leader: Option<(Candidate, Instant)>,
    seen: HashMap<Uuid, Instant>,
    jobs: BTreeMap<Uuid, Row>,
    printed: HashMap<(Uuid, u32, Stream, u32), Vec<u8>>,
    /// Whose record cannot be read.
    damaged: BTreeSet<Uuid>,
    keys: HashMap<(String, String), (Uuid, Digest)>,
    inbox: VecDeque<Item>,
    drained: BTreeSet<String>,
    paused: Option<String>,
    clock: StoreClock,
}

/// See the module.
pub(crate) struct Memory {
    state: Mutex<State>,
    news: Notify,
    /// Whether it compares epochs.
    fenced: bool,
}

impl Memory {
    pub(crate) fn new(cluster: Uuid, fenced: bool) -> Self {
        let state = State {
            cluster,
            epoch: Epoch(0),
            leader: None,
            seen: HashMap::new(),
            jobs: BTreeMap::new(),
            printed: HashMap::new(),
            damaged: BTreeSet::new(),
            keys: HashMap::new(),
            inbox: VecDeque::new(),
            drained: BTreeSet::new(),
            paused: None,
            clock: StoreClock::default(),
        };
        Self { state: Mutex::new(state), news: Notify::new(), fenced }
    }

    /// Makes a record unreadable, or readable again.
    pub(crate) fn damage(&self, job: Uuid, damaged: bool) {
        let known = &mut self.lock().damaged;
        if damaged {
            known.insert(job)
        } else {
            known.remove(&job)
        };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something as the leader of a term.
    fn lead_on<T: Send + 'static>(
        &self,
        epoch: Epoch,
        doing: impl FnOnce(&mut State) -> T,
    ) -> Answer<'_, T> {
        let mut state = self.lock();
        let newest = state.epoch;
        let done = if epoch == newest || !self.fenced {
            Ok(doing(&mut state))
        } else {
            Err(StoreError::Stale { doing: "writing", epoch: epoch.0, newest: newest.0 })
        };
        Box::pin(async { done })
    }

    fn whoever<T: Send + 'static>(&self, doing: impl FnOnce(&mut State) -> T) -> Answer<'_, T> {
        let done = doing(&mut self.lock());
        Box::pin(async { Ok(done) })
    }
}

/// Bytes that a job would take in a database.
fn size(job: &Job) -> u64 {
    super::size_of(&mut job.clone()).unwrap_or_default()
}

impl State {
    fn unfinished(&self, id: Uuid) -> Option<Unfinished> {
        let row = self.jobs.get(&id).filter(|row| !row.job.status.ended())?.clone();
        let (claim, cancel, not_before) = (row.claim, row.cancel, row.not_before);
        Some(Unfinished { size: size(&row.job), job: row.job, claim, cancel, not_before })
    }

    fn readable<T>(&self, id: Uuid, what: T) -> Result<T, Unreadable> {
        let damaged = self.damaged.contains(&id);
        if damaged { Err(Unreadable { job: id, why: "damaged".into() }) } else { Ok(what) }
    }

    fn open(&mut self, id: Uuid) -> Option<&mut Row> {
        self.jobs.get_mut(&id).filter(|row| !row.job.status.ended())
    }

    fn leads(&self, epoch: Option<Epoch>) -> bool {
        epoch == Some(self.epoch)
    }
}

impl Store for Memory {
    fn lead(&self, me: Candidate, ttl: Duration) -> Answer<'_, Leadership> {
        self.whoever(move |state| {
            let now = Instant::now();
            state.seen.insert(me.id, now);
            let free = state.leader.as_ref().is_none_or(|(_, until)| *until <= now);
            let mine = state.leader.as_ref().is_some_and(|(leader, _)| *leader == me);
            if mine {
                state.leader = Some((me.clone(), now + ttl));
            } else if free {
                state.epoch.0 += 1;
                state.leader = Some((me.clone(), now + ttl));
            }
            let lately = |seen: &Instant| now.duration_since(*seen) < LATELY;
            let others = state.seen.iter().filter(|(id, seen)| **id != me.id && lately(seen));
            Leadership {
                cluster: state.cluster,
                epoch: state.epoch,
                others: others.count(),
                leader: state.leader.as_ref().map_or(me.clone(), |(leader, _)| leader.clone()),
            }
        })
    }

    fn resign(&self, epoch: Epoch) -> Answer<'_, ()> {
        self.lead_on(epoch, |state| state.leader = None)
    }

    fn submit(&self, job: Job, key: Option<Key>, epoch: Option<Epoch>) -> Answer<'_, Submitted> {
        self.whoever(move |state| {
            if let Some(key) = key {
                let name = (key.tenant, key.name);
                match state.keys.get(&name) {
                    Some((id, digest)) if *digest == key.digest => return Submitted::Same(*id),
                    Some(_) => return Submitted::Other,
                    None => state.keys.insert(name, (job.job_id, key.digest)),
                };
            }
            let (id, taken) = (job.job_id, state.leads(epoch));
            state.jobs.insert(id, Row { job, claim: None, cancel: false, not_before: None });
            if !taken {
                state.inbox.push_back(Item::Submitted(id));
                self.news.notify_one();
            }
            Submitted::New { taken }
        })
    }

    fn submit_all(
        &self,
        jobs: Vec<Job>,
        key: Option<Key>,
        epoch: Option<Epoch>,
    ) -> Answer<'_, Submitted<Vec<Uuid>>> {
        self.whoever(move |state| {
            if let Some(key) = key {
                let names = key.names(jobs.len()).into_iter();
                let names: Vec<_> = names.map(|name| (key.tenant.clone(), name)).collect();
                let known: Vec<_> = names.iter().filter_map(|name| state.keys.get(name)).collect();
                if known.iter().any(|(_, digest)| *digest != key.digest) {
                    return Submitted::Other;
                }
                if !known.is_empty() {
                    return Submitted::Same(known.into_iter().map(|(id, _)| *id).collect());
                }
                let made = jobs.iter().map(|job| (job.job_id, key.digest));
                state.keys.extend(names.into_iter().zip(made));
            }
            let taken = state.leads(epoch);
            for job in jobs {
                let id = job.job_id;
                state.jobs.insert(id, Row { job, claim: None, cancel: false, not_before: None });
                if !taken {
                    state.inbox.push_back(Item::Submitted(id));
                    self.news.notify_one();
                }
            }
            Submitted::New { taken }
        })
    }

    fn request_cancel(&self, job: Uuid, epoch: Option<Epoch>) -> Answer<'_, bool> {
        self.whoever(|state| {
            let leads = state.leads(epoch);
            if let Some(row) = state.open(job) {
                row.cancel = true;
                if !leads {
                    state.inbox.push_back(Item::Cancel(job));
                    self.news.notify_one();
                }
            }
            leads
        })
    }

    fn inbox(&self, epoch: Epoch, limit: usize) -> Answer<'_, Vec<Message>> {
        self.lead_on(epoch, |state| {
            let count = limit.min(state.inbox.len());
            let items: Vec<Item> = state.inbox.drain(..count).collect();
            let message = |item| match item {
                Item::Submitted(id) => {
                    let found = state.unfinished(id)?;
                    Some(match state.readable(id, found) {
                        Ok(found) => Message::Submitted(Box::new(found)),
                        Err(unreadable) => Message::Unreadable(unreadable),
                    })
                }
                Item::Cancel(id) => Some(Message::Cancel(id)),
            };
            items.into_iter().filter_map(message).collect()
        })
    }

    fn news(&self, at_most: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move { drop(timeout(at_most, self.news.notified()).await) })
    }

    fn claim(&self, epoch: Epoch, job: Uuid, claim: Claim) -> Answer<'_, Option<Job>> {
        self.lead_on(epoch, |state| {
            let row = state.open(job)?;
            if row.job.status != Status::Pending || row.job.attempt != claim.attempt {
                return None;
            }
            (row.claim, row.not_before) = (Some(claim), None);
            Some(row.job.clone())
        })
    }

    fn unclaim(&self, epoch: Epoch, job: Uuid) -> Answer<'_, ()> {
        self.lead_on(epoch, |state| {
            if let Some(row) = state.open(job).filter(|row| row.job.status == Status::Pending) {
                row.claim = None;
            }
        })
    }

    fn started(&self, epoch: Epoch, job: Uuid, attempt: u32, at: Timestamp) -> Answer<'_, ()> {
        self.lead_on(epoch, |state| {
            if let Some(row) = state.open(job).filter(|row| row.job.attempt == attempt) {
                row.job.status = Status::Running;
                row.job.started_at = Some(at);
                row.job.runner = row.claim.as_ref().map(|claim| claim.runner.clone());
            }
        })
    }

    fn put_output(&self, epoch: Epoch, piece: Piece) -> Answer<'_, ()> {
        self.lead_on(epoch, |state| {
            if state.open(piece.job).is_some() {
                let key = |row| (piece.job, piece.attempt, piece.stream, row);
                let rows = piece.rows().map(|(row, bytes)| (key(row), bytes.to_vec()));
                state.printed.extend(rows);
            }
        })
    }

    fn finish(&self, epoch: Epoch, job: Job, _stored_at: Timestamp) -> Answer<'_, ()> {
        self.lead_on(epoch, |state| {
            if let Some(row) = state.open(job.job_id) {
                (row.job, row.claim) = (job, None);
            }
        })
    }

    fn retry(&self, epoch: Epoch, job: Job, not_before: Timestamp) -> Answer<'_, Option<u64>> {
        self.lead_on(epoch, |state| {
            let row = state.open(job.job_id).filter(|row| row.job.attempt < job.attempt)?;
            (row.job, row.claim, row.not_before) = (job, None, Some(not_before));
            Some(size(&row.job))
        })
    }

    fn unfinished(&self, after: Option<Uuid>, limit: usize) -> Answer<'_, Backlog> {
        self.whoever(|state| {
            let ids = state.jobs.keys().filter(|id| after.is_none_or(|after| **id > after));
            let found = ids.filter_map(|id| state.unfinished(*id)).take(limit);
            let found: Vec<_> = found.collect();
            let last = found.last().map(|found| found.job.job_id);
            let read = found.into_iter().map(|found| state.readable(found.job.job_id, found));
            let (jobs, unreadable) = apart(read);
            Backlog { jobs, unreadable, last }
        })
    }

    fn output(
        &self,
        job: Uuid,
        attempt: u32,
        stream: Stream,
        row: u32,
    ) -> Answer<'_, Option<Vec<u8>>> {
        self.whoever(|state| state.printed.get(&(job, attempt, stream, row)).cloned())
    }

    fn get(&self, job: Uuid) -> Answer<'_, Option<Job>> {
        let found = {
            let state = self.lock();
            let found = state.jobs.get(&job).map(|row| state.readable(job, row.job.clone()));
            found.transpose()
        };
        let store = "memory".into();
        let found = found.map_err(|bad| StoreError::Record { store, job: bad.job, why: bad.why });
        Box::pin(async { found })
    }

    fn find_key(&self, tenant: String, key: String) -> Answer<'_, Option<(Uuid, Digest)>> {
        self.whoever(|state| state.keys.get(&(tenant, key)).copied())
    }

    fn list(&self, query: Query) -> Answer<'_, Page> {
        self.whoever(|state| {
            let fits = |job: &&Job| {
                query.status.is_none_or(|status| job.status == status)
                    && query.before.is_none_or(|before| job.job_id < before)
            };
            let jobs = state.jobs.values().rev().map(|row| &row.job).filter(fits);
            let mut jobs: Vec<Job> = jobs.take(query.limit + 1).cloned().collect();
            let more = jobs.len() > query.limit;
            jobs.truncate(query.limit);
            let last = jobs.last().map(|job| job.job_id);
            let read = jobs.into_iter().map(|job| state.readable(job.job_id, job));
            let (jobs, unreadable) = apart(read);
            Page { jobs, unreadable, last, more }
        })
    }

    fn ended(&self, jobs: Vec<Uuid>) -> Answer<'_, Vec<Uuid>> {
        self.whoever(|state| jobs.into_iter().filter(|id| state.open(*id).is_none()).collect())
    }

    fn clock(&self) -> Answer<'_, StoreClock> {
        self.whoever(|state| state.clock)
    }

    fn set_clock(&self, epoch: Epoch, clock: StoreClock) -> Answer<'_, ()> {
        self.lead_on(epoch, |state| state.clock = clock)
    }

    fn expire(&self, epoch: Epoch, _keep: Keep, _now: Timestamp) -> Answer<'_, usize> {
        // A simulation looks at every job in the end.
        self.lead_on(epoch, |_| 0)
    }

    fn figures(&self) -> Answer<'_, Figures> {
        self.whoever(|state| {
            let open = state.jobs.values().filter(|row| !row.job.status.ended());
            let out = open.clone().filter(|row| row.claim.is_some()).count();
            let waiting = open.filter(|row| row.claim.is_none());
            let pending_size = waiting.clone().map(|row| size(&row.job)).sum();
            Figures { pending: waiting.count(), pending_size, out, size: 0 }
        })
    }

    fn order(&self, order: Order) -> Answer<'_, ()> {
        self.whoever(|state| match order {
            Order::DrainRunner { runner, drained: true } => drop(state.drained.insert(runner)),
            Order::DrainRunner { runner, drained: false } => drop(state.drained.remove(&runner)),
            Order::Pause(why) => state.paused = why,
            Order::TrustClock => state.clock.ahead = 0,
        })
    }

    fn orders(&self) -> Answer<'_, Orders> {
        self.whoever(|state| Orders {
            drained: state.drained.iter().cloned().collect(),
            paused: state.paused.clone(),
        })
    }

    fn probe(&self) -> Answer<'_, ()> {
        self.whoever(|_| ())
    }

    fn is_shared(&self) -> bool {
        true
    }
}
