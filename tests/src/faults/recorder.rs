//! The witness: jobs tell it of their starts and ends, over a way that no fault touches.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    history::{History, What},
    jobs::Jobs,
    net::Node,
};

const PORT: u16 = 7000;

/// See the module.
pub(super) struct Recorder {
    address: SocketAddr,
    closing: Arc<AtomicBool>,
    open: Arc<AtomicUsize>,
    /// Lines that nobody of this run sends.
    strange: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Where the recorder at this node listens.
    pub(super) fn address(node: &Node) -> SocketAddr {
        SocketAddr::from((node.address(), PORT))
    }

    /// Listens there. `runner` tells whose address a connection comes from.
    pub(super) fn new(
        node: &Node,
        history: &Arc<History>,
        jobs: &Jobs,
        runner: impl Fn(SocketAddr) -> String + Send + 'static,
    ) -> Self {
        let address = Self::address(node);
        let listener = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                node.enter();
                TcpListener::bind(address)
            });
            thread.join().expect("binding does not panic").expect("the recorder can listen")
        });
        let closing = Arc::new(AtomicBool::new(false));
        let (open, strange) = (Arc::default(), Arc::default());
        let listening =
            Listening { history: Arc::clone(history), jobs: jobs.clone(), open, strange };
        let (open, strange) = (Arc::clone(&listening.open), Arc::clone(&listening.strange));
        let closed = Arc::clone(&closing);
        let listening = Arc::new(listening);
        let thread = thread::spawn(move || {
            for socket in listener.incoming() {
                if closed.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(socket) = socket else {
                    continue;
                };
                let name = socket.peer_addr().map(&runner).unwrap_or_default();
                let listening = Arc::clone(&listening);
                listening.open.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || {
                    listening.hear(socket, &name);
                    listening.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, closing, open, strange, thread: Some(thread) }
    }

    /// Waits until no execution is connected, for so long at most. Whether it came to that.
    pub(super) fn quiet(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while self.open.load(Ordering::Relaxed) > 0 {
            if Instant::now() > until {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// How many lines came that nobody of this run sends.
    pub(super) fn strange(&self) -> usize {
        self.strange.load(Ordering::Relaxed)
    }

    /// Ends it, from a node that reaches it.
    pub(super) fn close(&mut self, from: &Node) {
        self.closing.store(true, Ordering::Relaxed);
        let address = self.address;
        thread::scope(|scope| {
            scope.spawn(|| {
                from.enter();
                // The connection is what wakes it.
                let _ = TcpStream::connect_timeout(&address, Duration::from_secs(5));
            });
        });
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Listening {
    history: Arc<History>,
    jobs: Jobs,
    open: Arc<AtomicUsize>,
    strange: Arc<AtomicUsize>,
}

impl Listening {
    fn hear(&self, socket: TcpStream, runner: &str) {
        let Ok(mut answering) = socket.try_clone() else {
            return;
        };
        let mut who = None;
        for line in BufReader::new(socket).lines() {
            let Ok(line) = line else {
                break;
            };
            let words: Vec<&str> = line.split(' ').collect();
            let index = words.get(1).and_then(|key| self.jobs.index(key));
            match (words.as_slice(), index) {
                (["start", _, nonce], Some(index)) if index < self.history.len() => {
                    who = Some((index, (*nonce).to_owned()));
                    let (nonce, runner) = ((*nonce).to_owned(), runner.to_owned());
                    self.history.add(index, What::Began { nonce, runner });
                }
                (["end", _, nonce, code], Some(index)) if index < self.history.len() => {
                    let (nonce, code) = ((*nonce).to_owned(), code.parse().unwrap_or(-1));
                    self.history.add(index, What::Ended { nonce, code });
                }
                _ => {
                    self.strange.fetch_add(1, Ordering::Relaxed);
                    break;
                }
            }
            if answering.write_all(b"ok\n").is_err() {
                break;
            }
        }
        if let Some((index, nonce)) = who {
            self.history.add(index, What::Gone { nonce });
        }
    }
}
