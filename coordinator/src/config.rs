//! What an operator decides.

use std::{net::IpAddr, time::Duration};

use cloister_api::{Bounds, ByteSize};
use cloister_web::{ClientTls, ServerTls, Tokens};

/// How a coordinator works. Every field has a default that is right for one machine.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where jobs are kept: `sqlite:PATH`.
    pub store: String,
    /// The damage of the store's log with which it is used all the same, as it was told when it was
    /// refused for it.
    pub accept_damage: Option<String>,
    /// The runners, such as `http://runner:8080`. A name that resolves to several addresses is
    /// several runners, and is resolved again every few seconds.
    pub runner_urls: Vec<String>,
    /// What is shown to the runners: the first of these.
    pub runner_tokens: Tokens,
    /// Who is trusted to tell which server is a runner at an `https://` URL, or the database where its
    /// URL asks for encryption.
    pub authorities: Option<ClientTls>,
    /// What clients must show, any one of these.
    pub tokens: Tokens,
    /// What it shows to those who come by TLS; without it, it speaks in clear.
    pub tls: Option<ServerTls>,
    /// Who comes from there is on this container's host, whose loopback alone reaches its port, and
    /// needs no token.
    pub gateway: Option<IpAddr>,
    /// Serve others than this machine without a token.
    pub insecure_no_auth: bool,
    /// Ask for a token at `/metrics` too.
    pub protect_metrics: bool,
    /// The operator's maxima for a job.
    pub bounds: Bounds,
    /// Jobs that may wait; beyond it submissions are answered `503`.
    pub max_queue: usize,
    /// How many bytes jobs that wait may take in the store; beyond it submissions are answered `503`.
    pub max_queue_size: ByteSize,
    /// The largest body of a request.
    pub max_body: ByteSize,
    /// The memory of all bodies together that are being read, or whose jobs are not committed yet.
    pub body_memory: ByteSize,
    /// Requests that may wait at once for the end of a job.
    pub max_waiters: usize,
    /// After how long a write that is under way makes this coordinator take nothing in.
    pub late_write: Duration,
    /// How long ended jobs are kept.
    pub keep_time: Duration,
    /// How many ended jobs are kept.
    pub keep_number: usize,
    /// How many bytes of ended jobs are kept: of what they were asked, read and printed.
    pub keep_size: ByteSize,
    /// How long a runner goes on with a job without hearing of a coordinator. What a silent runner had
    /// is `runner_lost` when that and a moment more is over: then it has killed it.
    pub lease: Duration,
    /// How long running jobs may go on after the first signal. What still runs then goes on at its
    /// runner, and is taken up again at the next start.
    pub drain_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            store: "sqlite:cloister-data/cloister.db".into(),
            accept_damage: None,
            runner_urls: Vec::new(),
            runner_tokens: Tokens::default(),
            authorities: None,
            tokens: Tokens::default(),
            tls: None,
            gateway: None,
            insecure_no_auth: false,
            protect_metrics: false,
            bounds: Bounds::default(),
            max_queue: 100_000,
            max_queue_size: ByteSize::mib(4 << 10),
            max_body: ByteSize::mib(16),
            body_memory: ByteSize::mib(128),
            max_waiters: 1280,
            late_write: Duration::from_secs(5),
            keep_time: Duration::from_secs(7 * 24 * 3600),
            keep_number: 100_000,
            keep_size: ByteSize::mib(10 << 10),
            lease: Duration::from_secs(30),
            drain_grace: Duration::from_secs(30),
        }
    }
}
