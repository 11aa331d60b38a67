//! Many clients at once, each a thread with a connection of its own; and how much of the machine they
//! take themselves.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use nix::time::{ClockId, clock_gettime};

use crate::{
    http::{Connection, answer, request},
    stats,
};

/// Enough for what clients do, however many they are.
const STACK: usize = 128 << 10;

/// How long to go on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// So long; what is under way then is finished, and counts.
    Passed(Duration),
    /// So many, of all clients together.
    Done(usize),
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Load {
    /// How long each call took.
    pub(crate) times: Vec<Duration>,
    /// From the first call's beginning to the last one's end.
    pub(crate) elapsed: Duration,
    /// CPU time of the clients' threads.
    pub(crate) cpu: Duration,
}

impl Load {
    /// Calls a second.
    pub(crate) fn rate(&self) -> f64 {
        stats::count(self.times.len()) / self.elapsed.as_secs_f64()
    }

    /// Of all cores' time, the part that the clients themselves took.
    pub(crate) fn share(&self) -> f64 {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        self.cpu.as_secs_f64() / self.elapsed.as_secs_f64() / stats::count(cores)
    }
}

/// Runs `clients` threads, each with what `client` makes for it, all from the same moment.
pub(crate) fn drive<C>(
    clients: usize,
    until: Until,
    client: impl Fn() -> anyhow::Result<C> + Sync,
) -> anyhow::Result<Load>
where
    C: FnMut() -> anyhow::Result<()>,
{
    let barrier = Barrier::new(clients);
    let taken = AtomicUsize::new(0);
    let work = || -> anyhow::Result<_> {
        let made = client();
        // Also of those that have failed, or the others would wait for ever.
        barrier.wait();
        let mut call = made?;
        let (began, busy) = (Instant::now(), thread_cpu()?);
        let mut times = Vec::new();
        loop {
            let over = match until {
                Until::Passed(time) => began.elapsed() >= time,
                Until::Done(count) => taken.fetch_add(1, Ordering::Relaxed) >= count,
            };
            if over {
                break;
            }
            let start = Instant::now();
            call()?;
            times.push(start.elapsed());
        }
        Ok((times, began, Instant::now(), thread_cpu()?.saturating_sub(busy)))
    };
    let parts = thread::scope(|scope| {
        let mut threads = Vec::new();
        for _ in 0..clients {
            let builder = thread::Builder::new().stack_size(STACK);
            // Those that wait at the barrier would wait for ever: there is no way on from here.
            threads.push(builder.spawn_scoped(scope, work).expect("a thread can be started"));
        }
        let ends = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a client panicked")).flatten());
        ends.collect::<anyhow::Result<Vec<_>>>()
    })?;
    let began = parts.iter().map(|part| part.1).min().context("there is no client")?;
    let ended = parts.iter().map(|part| part.2).max().context("there is no client")?;
    let cpu = parts.iter().map(|part| part.3).sum();
    let times = parts.into_iter().flat_map(|part| part.0).collect();
    Ok(Load { times, elapsed: ended - began, cpu })
}

/// Sends the same request again and again, which must be answered with this status.
pub(crate) fn repeat(
    clients: usize,
    until: Until,
    address: SocketAddr,
    request: &[u8],
    status: u16,
) -> anyhow::Result<Load> {
    drive(clients, until, || {
        let mut connection = Connection::open(address)?;
        Ok(move || connection.call(request)?.must_be(status))
    })
}

/// The clients alone: the same against a server that says the same to whatever comes. What they do
/// against a service is far below this, or they are what is measured.
pub(crate) fn clients_alone(clients: usize, time: Duration) -> anyhow::Result<Load> {
    let listener = TcpListener::bind("127.0.0.1:0").context("listening on loopback failed")?;
    let address = listener.local_addr().context("a listener's address cannot be read")?;
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..clients {
                let Ok((stream, _)) = listener.accept() else { return };
                thread::spawn(move || {
                    let Ok(mut connection) = Connection::of(stream) else { return };
                    let same = answer("200 OK", "application/json", br#"{"status":"completed"}"#);
                    while matches!(connection.receive(), Ok(Some(_))) {
                        if connection.send(&same).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        let body = r#"{"command":"true"}"#;
        repeat(clients, Until::Passed(time), address, &request("POST", "/jobs", address, body), 200)
    })
}

/// CPU time of this thread.
fn thread_cpu() -> anyhow::Result<Duration> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .context("the CPU time of a thread cannot be read")?;
    Ok(time.into())
}
