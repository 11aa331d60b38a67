//! Passes packets on between interfaces, but for what harms them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fs::File,
    io::{Read, Write},
    net::Ipv4Addr,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Condvar, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::pipe,
};

use super::Harm;

/// The largest packet that IPv4 knows.
const LARGEST: usize = 65_536;

/// What is done to packets from one address to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effect {
    pub(super) from: Ipv4Addr,
    pub(super) to: Ipv4Addr,
    pub(super) harm: Harm,
}

/// All effects that hold now.
#[derive(Default)]
pub(super) struct Table {
    next: AtomicU64,
    effects: RwLock<Vec<(u64, Effect)>>,
}

impl Table {
    pub(super) fn add(&self, effects: impl Iterator<Item = Effect>) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut all = self.effects.write().unwrap_or_else(PoisonError::into_inner);
        all.extend(effects.map(|effect| (id, effect)));
        id
    }

    pub(super) fn remove(&self, id: u64) {
        let mut all = self.effects.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(other, _)| *other != id);
    }

    /// What a packet meets: of several delays the longest.
    fn harm(&self, from: Ipv4Addr, to: Ipv4Addr) -> Option<Harm> {
        let all = self.effects.read().unwrap_or_else(PoisonError::into_inner);
        let met = all.iter().filter(|(_, effect)| (effect.from, effect.to) == (from, to));
        met.fold(None, |worst, (_, effect)| match (worst, effect.harm) {
            (Some(Harm::Cut), _) | (_, Harm::Cut) => Some(Harm::Cut),
            (Some(Harm::Delay(a)), Harm::Delay(b)) => Some(Harm::Delay(a.max(b))),
            (None, harm) => Some(harm),
        })
    }
}

/// The threads that do it; they end with this.
pub(super) struct Switch {
    threads: Vec<JoinHandle<()>>,
    late: Arc<Late>,
    /// Closed to end the threads that read.
    stop: Option<OwnedFd>,
}

type Interfaces = Arc<BTreeMap<Ipv4Addr, File>>;

impl Switch {
    pub(super) fn new(interfaces: Vec<(Ipv4Addr, File)>, table: &Arc<Table>) -> Self {
        let interfaces: Interfaces = Arc::new(interfaces.into_iter().collect());
        let late = Arc::new(Late::default());
        let (stopped, stop) = pipe().expect("a pipe can be made");
        let stopped = Arc::new(stopped);
        let mut threads = Vec::new();
        for from in interfaces.keys().copied() {
            let (interfaces, table) = (Arc::clone(&interfaces), Arc::clone(table));
            let (late, stopped) = (Arc::clone(&late), Arc::clone(&stopped));
            threads
                .push(thread::spawn(move || forward(from, &interfaces, &table, &late, &stopped)));
        }
        let delivering = Arc::clone(&late);
        threads.push(thread::spawn(move || delivering.deliver(&interfaces)));
        Self { threads, late, stop: Some(stop) }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.stop = None;
        self.late.close();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn forward(from: Ipv4Addr, interfaces: &Interfaces, table: &Table, late: &Late, stopped: &OwnedFd) {
    let mut interface = &interfaces[&from];
    let mut buffer = vec![0; LARGEST];
    loop {
        let mut waiting = [
            PollFd::new(interface.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::empty()),
        ];
        let _ = poll(&mut waiting, PollTimeout::NONE);
        if waiting[1].any() == Some(true) {
            return;
        }
        while let Ok(length) = interface.read(&mut buffer) {
            let packet = &buffer[..length];
            let Some((source, to)) = addresses(packet) else {
                continue;
            };
            match table.harm(source, to) {
                Some(Harm::Cut) => {}
                Some(Harm::Delay(time)) => late.add(Instant::now() + time, to, packet.to_vec()),
                None => send(interfaces, to, packet),
            }
        }
    }
}

/// Source and destination of an IPv4 packet (RFC 791, section 3.1).
fn addresses(packet: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    if packet.len() < 20 || packet[0] >> 4 != 4 {
        return None;
    }
    let at = |start: usize| {
        let bytes: [u8; 4] = packet[start..start + 4].try_into().ok()?;
        Some(Ipv4Addr::from(bytes))
    };
    Some((at(12)?, at(16)?))
}

/// What can't be taken is lost, as on any network.
fn send(interfaces: &Interfaces, to: Ipv4Addr, packet: &[u8]) {
    if let Some(mut interface) = interfaces.get(&to) {
        let _ = interface.write(packet);
    }
}

/// Packets that come later.
#[derive(Default)]
struct Late {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    closed: AtomicBool,
}

/// A packet, when it is due, and where it goes; the number keeps those of one moment in order.
type Packet = Reverse<(Instant, u64, Ipv4Addr, Vec<u8>)>;

#[derive(Default)]
struct Waiting {
    count: u64,
    packets: BinaryHeap<Packet>,
}

impl Late {
    fn add(&self, due: Instant, to: Ipv4Addr, packet: Vec<u8>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.count += 1;
        let count = waiting.count;
        waiting.packets.push(Reverse((due, count, to, packet)));
        self.changed.notify_one();
    }

    fn close(&self) {
        // Under the lock, or the thread could miss it between looking and waiting.
        let _waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    fn deliver(&self, interfaces: &Interfaces) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.closed.load(Ordering::Relaxed) {
            let now = Instant::now();
            let next = waiting.packets.peek().map(|Reverse((due, ..))| *due);
            waiting = match next {
                None => self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(due) if due > now => {
                    let answer = self.changed.wait_timeout(waiting, due - now);
                    answer.unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => {
                    if let Some(Reverse((_, _, to, packet))) = waiting.packets.pop() {
                        send(interfaces, to, &packet);
                    }
                    waiting
                }
            };
        }
    }
}
