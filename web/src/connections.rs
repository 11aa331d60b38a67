//! Which connections are open, from where, and which of them wait for a request.
//!
//! A connection *waits* from its acceptance until the head of its first request has come, and between
//! two requests. Nobody has been promised anything on it then, so it may be closed to make room. One
//! whose request is being answered is never closed for that.
//!
//! Room is found in this order: a peer that has as many connections as one peer may have gives up the
//! one that waited longest; where there are as many as there may be, the one that waited longest of
//! all is closed; where none waits, the new connection is refused.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use tokio::task::AbortHandle;

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// In all.
    pub(crate) connections: usize,
    /// From one peer.
    pub(crate) per_peer: usize,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// All connections answer requests.
    Full,
    /// All connections of this peer answer requests, and it may have no more.
    Peer,
}

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) seat: Arc<Seat>,
    /// Whether another one was closed for it.
    pub(crate) evicted: bool,
}

/// The open connections. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Connections(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    bounds: Bounds,
    /// Counts connections and turns of waiting.
    counter: u64,
    open: HashMap<u64, Entry>,
    /// Those that wait, by the turn in which they began to.
    waiting: BTreeMap<u64, u64>,
    peers: HashMap<IpAddr, Peer>,
}

#[derive(Debug)]
struct Entry {
    peer: IpAddr,
    /// Since which turn it waits.
    waiting: Option<u64>,
    /// Ends its task.
    task: Option<AbortHandle>,
}

#[derive(Debug, Default)]
struct Peer {
    open: usize,
    waiting: BTreeSet<u64>,
}

impl Connections {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Mutex::new(Table {
            bounds,
            counter: 0,
            open: HashMap::new(),
            waiting: BTreeMap::new(),
            peers: HashMap::new(),
        })))
    }

    /// Finds room for one more connection, if need be by closing another one that waits.
    pub(crate) fn admit(&self, from: IpAddr) -> Result<Admitted, Refused> {
        let peer = peer_of(from);
        let mut table = self.lock();
        let own = table.peers.get(&peer);
        let evicted = if own.is_some_and(|own| own.open >= table.bounds.per_peer) {
            let oldest = own.and_then(|own| own.waiting.first().copied());
            table.evict(oldest.ok_or(Refused::Peer)?);
            true
        } else if table.open.len() >= table.bounds.connections {
            let oldest = table.waiting.first_key_value().map(|(turn, _)| *turn);
            table.evict(oldest.ok_or(Refused::Full)?);
            true
        } else {
            false
        };
        let id = table.count();
        table.open.insert(id, Entry { peer, waiting: None, task: None });
        table.peers.entry(peer).or_default().open += 1;
        table.wait(id);
        let seat = Seat { id, state: AtomicU8::new(WAITING), connections: self.clone() };
        Ok(Admitted { seat: Arc::new(seat), evicted })
    }

    /// Tells which task serves a connection; it is ended with the connection.
    pub(crate) fn attach(&self, seat: u64, task: AbortHandle) {
        if let Some(entry) = self.lock().open.get_mut(&seat) {
            entry.task = Some(task);
        }
    }

    /// Closes the connection that has waited longest; false where none waits.
    pub(crate) fn evict(&self) -> bool {
        let mut table = self.lock();
        let oldest = table.waiting.first_key_value().map(|(turn, _)| *turn);
        oldest.is_some_and(|turn| {
            table.evict(turn);
            true
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn wait(&mut self, id: u64) {
        let turn = self.count();
        if let Some(entry) = self.open.get_mut(&id) {
            entry.waiting = Some(turn);
            self.waiting.insert(turn, id);
            self.peers.entry(entry.peer).or_default().waiting.insert(turn);
        }
    }

    /// Answers whether the connection is still open.
    fn begin(&mut self, id: u64) -> bool {
        let Some(entry) = self.open.get_mut(&id) else {
            return false;
        };
        if let Some(turn) = entry.waiting.take() {
            self.waiting.remove(&turn);
            if let Some(peer) = self.peers.get_mut(&entry.peer) {
                peer.waiting.remove(&turn);
            }
        }
        true
    }

    fn evict(&mut self, turn: u64) {
        if let Some(id) = self.waiting.get(&turn).copied()
            && let Some(entry) = self.remove(id)
            && let Some(task) = entry.task
        {
            task.abort();
        }
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        self.begin(id);
        let entry = self.open.remove(&id)?;
        if let Some(peer) = self.peers.get_mut(&entry.peer) {
            peer.open -= 1;
            if peer.open == 0 {
                self.peers.remove(&entry.peer);
            }
        }
        Some(entry)
    }
}

/// Who counts as one: an IPv4 address; of IPv6 a network of 64 bits, since whoever has one address of
/// it has all.
fn peer_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// It waits for (the rest of) a head.
const WAITING: u8 = 0;
/// A request is being answered.
const BUSY: u8 = 1;
/// The answer is complete, and may not have been sent yet.
const ANSWERED: u8 = 2;

/// The place of one connection, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) id: u64,
    state: AtomicU8,
    connections: Connections,
}

impl Seat {
    /// A request has come. False where the connection was just closed to make room: then the request
    /// must not be acted on.
    pub(crate) fn begin(&self) -> bool {
        self.state.store(BUSY, Ordering::Relaxed);
        self.connections.lock().begin(self.id)
    }

    /// Its answer is complete.
    pub(crate) fn answered(&self) {
        self.state.store(ANSWERED, Ordering::Relaxed);
    }

    /// All that there was to send is with the kernel. True where a complete answer was among it, and
    /// the connection waits from now on.
    pub(crate) fn flushed(&self) -> bool {
        let waits = self
            .state
            .compare_exchange(ANSWERED, WAITING, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if waits {
            self.connections.lock().wait(self.id);
        }
        waits
    }

    /// Whether it waits for (the rest of) a head.
    pub(crate) fn waits(&self) -> bool {
        self.state.load(Ordering::Relaxed) == WAITING
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.lock().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(connections: usize, per_peer: usize) -> Connections {
        Connections::new(Bounds { connections, per_peer })
    }

    fn from(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn is_open(seat: &Seat) -> bool {
        seat.connections.lock().open.contains_key(&seat.id)
    }

    #[test]
    fn the_connection_that_waited_longest_makes_room() {
        let all = connections(3, 3);
        let [busy, first, second] = [1, 2, 3].map(|peer| all.admit(from(peer)).unwrap().seat);
        assert!(busy.begin());
        let third = all.admit(from(4)).unwrap();
        assert!(third.evicted && is_open(&busy) && !is_open(&first) && is_open(&second));
        assert!(!first.begin(), "what came on it is not acted on");
        // The first one waits anew, behind the others.
        busy.answered();
        assert!(!busy.waits());
        assert!(busy.flushed() && busy.waits());
        let fourth = all.admit(from(5)).unwrap().seat;
        assert!(is_open(&busy) && !is_open(&second) && is_open(&fourth));
    }

    #[test]
    fn a_connection_that_answers_is_never_closed_for_another() {
        let all = connections(2, 2);
        let seats = [1, 2].map(|peer| all.admit(from(peer)).unwrap().seat);
        assert!(seats.iter().all(|seat| seat.begin()));
        assert_eq!(all.admit(from(3)).unwrap_err(), Refused::Full);
        assert!(!all.evict());
        // An answer that was not sent yet counts.
        seats[0].answered();
        assert_eq!(all.admit(from(3)).unwrap_err(), Refused::Full);
        seats[0].flushed();
        assert!(all.admit(from(3)).unwrap().evicted);
    }

    #[test]
    fn a_peer_has_room_of_its_own_only() {
        let all = connections(4, 2);
        let first = all.admit(from(1)).unwrap().seat;
        let second = all.admit(from(1)).unwrap().seat;
        let other = all.admit(from(2)).unwrap().seat;
        let third = all.admit(from(1)).unwrap();
        assert!(third.evicted && !is_open(&first) && is_open(&second) && is_open(&other));
        assert!(second.begin() && third.seat.begin());
        assert_eq!(all.admit(from(1)).unwrap_err(), Refused::Peer);
        drop(second);
        assert!(!all.admit(from(1)).unwrap().evicted);
    }

    #[test]
    fn a_network_of_64_bits_is_one_peer() {
        let peer = |text: &str| peer_of(text.parse().unwrap());
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:0:1"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    }

    #[test]
    fn nothing_is_kept_of_what_was_closed() {
        let all = connections(2, 2);
        for _ in 0..10 {
            let seat = all.admit(from(1)).unwrap().seat;
            assert!(seat.begin());
            seat.answered();
            seat.flushed();
        }
        let table = all.lock();
        assert!(table.open.is_empty() && table.waiting.is_empty() && table.peers.is_empty());
    }
}
