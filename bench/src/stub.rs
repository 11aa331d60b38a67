//! A runner that runs nothing: it speaks the protocol, so that what is measured is the queue.

use std::{
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Instant,
};

use anyhow::Context;
use cloister_api::{
    ByteSize, Event, Outcome, Output, RunnerHealth, RunnerState, Slots, Status, Timestamp,
};
use serde_json::json;
use uuid::Uuid;

use crate::http::{Connection, answer};

const JSON: &str = "application/json";

/// It, on a port of loopback.
pub(crate) struct Stub {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    slots: usize,
    used: AtomicUsize,
    boot: Uuid,
    gate: Option<Mutex<Gate>>,
    /// Closed at the end, so that no thread is left that reads from them.
    streams: Mutex<Vec<TcpStream>>,
}

/// Where each job waits for leave to end.
struct Gate {
    arrived: Sender<Instant>,
    leave: Receiver<()>,
}

/// Lets jobs end, one by one.
pub(crate) struct Keeper {
    arrived: Receiver<Instant>,
    leave: Sender<()>,
}

impl Keeper {
    /// Waits for the next job, and says when it came.
    pub(crate) fn next(&self) -> anyhow::Result<Instant> {
        self.arrived.recv().context("the stub has ended")
    }

    /// Lets the job end that came last.
    pub(crate) fn let_go(&self) -> anyhow::Result<()> {
        self.leave.send(()).context("the stub has ended")
    }
}

impl Stub {
    /// One whose jobs end at once.
    pub(crate) fn at_once(slots: usize) -> anyhow::Result<Self> {
        Self::start(slots, None)
    }

    /// One that has a single job at a time, which ends when it may.
    pub(crate) fn held() -> anyhow::Result<(Self, Keeper)> {
        let (tell, arrived) = channel();
        let (leave, wait) = channel();
        let stub = Self::start(1, Some(Mutex::new(Gate { arrived: tell, leave: wait })))?;
        Ok((stub, Keeper { arrived, leave }))
    }

    fn start(slots: usize, gate: Option<Mutex<Gate>>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listening on loopback failed")?;
        let address = listener.local_addr().context("a listener's address cannot be read")?;
        let shared = Arc::new(Shared {
            slots,
            used: AtomicUsize::new(0),
            boot: Uuid::new_v4(),
            gate,
            streams: Mutex::default(),
        });
        let serving = Arc::downgrade(&shared);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let Some(shared) = serving.upgrade() else { return };
                if let Ok(copy) = stream.try_clone() {
                    shared.streams.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
                }
                thread::spawn(move || {
                    if let Err(error) = shared.serve(stream) {
                        eprintln!("bench: the runner's stub: {error:#}");
                    }
                });
            }
        });
        Ok(Self { address, shared })
    }

    /// As a coordinator names it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        let streams = self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in &*streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> anyhow::Result<()> {
        let mut connection = Connection::of(stream)?;
        // Who has broken off is the coordinator at its end.
        while let Ok(Some(message)) = connection.receive() {
            let mut words = message.line.split(' ');
            let (method, path) =
                (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let said = match (method, path.split('?').next().unwrap_or_default()) {
                ("GET", "/health") => answer("200 OK", JSON, &serde_json::to_vec(&self.health())?),
                ("POST", "/execute") => self.execute()?,
                ("DELETE", _) => answer("200 OK", JSON, b"{}"),
                ("GET", "/executions") => answer("200 OK", JSON, br#"{"executions":[]}"#),
                _ => {
                    let problem = json!({ "status": 404, "detail": "not here" });
                    answer("404 Not Found", JSON, problem.to_string().as_bytes())
                }
            };
            if connection.send(&said).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn execute(&self) -> anyhow::Result<Vec<u8>> {
        self.used.fetch_add(1, Ordering::Relaxed);
        let came = Timestamp::now();
        if let Some(gate) = &self.gate {
            let gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
            // Once nobody lets jobs go any more, the measurement is over.
            let _ = gate.arrived.send(Instant::now());
            let _ = gate.leave.recv();
        }
        self.used.fetch_sub(1, Ordering::Relaxed);
        let outcome = Outcome {
            message: None,
            exit_code: Some(0),
            started_at: Some(came),
            runtime_ms: Some(0.1),
            ..Outcome::never_ran(Status::Completed, None, "")
        };
        let outcome = Box::new(outcome.with_output(Output::default(), Output::default()));
        let mut lines = Vec::new();
        for event in
            [Event::Started { seq: 0, started_at: came }, Event::Result { seq: 1, outcome }]
        {
            lines.extend(serde_json::to_vec(&event).context("an event cannot be written")?);
            lines.push(b'\n');
        }
        Ok(answer("200 OK", "application/x-ndjson", &lines))
    }

    fn health(&self) -> RunnerHealth {
        RunnerHealth {
            status: RunnerState::Ok,
            boot_id: self.boot,
            version: env!("CARGO_PKG_VERSION").into(),
            features: Vec::new(),
            time: None,
            clock_ms: None,
            slots: Slots { total: self.slots, used: self.used.load(Ordering::Relaxed) },
            load: None,
            cpus: 4.0,
            memory: ByteSize::mib(4096),
            pids: 30_000,
            open_files: 4096,
            network_host: false,
            problems: Vec::new(),
            enforcement: Vec::new(),
        }
    }
}
