//! What an operator decides.

use std::time::Duration;

use cloister_api::{Bounds, ByteSize};
use cloister_web::{BodyLimits, ServerLimits, ServerTls, Tokens};

use crate::{SpoolFolder, http::RESERVED};

/// How a runner works. Every field has a default.
#[derive(Clone, Debug)]
pub struct Config {
    /// Jobs at once; without a number, one for each core, and two at least.
    pub slots: Option<usize>,
    /// The operator's maxima. What the machine does not have narrows them further.
    pub bounds: Bounds,
    /// Any one of these opens every door; without one, only loopback does.
    pub tokens: Tokens,
    /// What callers without a valid token are told to do, beside that they need one.
    pub token_advice: Option<String>,
    /// What it shows to those who come by TLS; without it, it speaks in clear.
    pub tls: Option<ServerTls>,
    /// Listen beyond loopback without a token.
    pub insecure_no_auth: bool,
    /// Whether `/metrics` needs a token too.
    pub protect_metrics: bool,
    /// What a request's body may cost.
    pub bodies: BodyLimits,
    /// What all clients together may cost.
    pub server: ServerLimits,
    /// How long running jobs may go on after the first signal, and how long a coordinator may take to
    /// fetch what has ended.
    pub grace: Duration,
    /// Results of executions with an id that nobody has acknowledged yet.
    pub results: ResultLimits,
    /// Where outputs of more than 64 KiB are kept. Without it all stay in memory.
    pub spool: Option<SpoolFolder>,
    /// What is kept of all outputs together, of running jobs and in results.
    pub spool_size: ByteSize,
}

/// What unacknowledged results may cost. When they cost as much, no new execution with an id is
/// taken until some are acknowledged: a result is never thrown away to make room, since its owner
/// may still be on the way back to it.
#[derive(Clone, Copy, Debug)]
pub struct ResultLimits {
    /// How many, together with the executions that still run.
    pub count: usize,
    /// What may be held for them in memory: short outputs, what waits to be written, and the places of
    /// events.
    pub memory: ByteSize,
    /// How long each is kept. Nobody who comes back later can have meant to.
    pub keep: Duration,
    /// While the runner drains, how long the last ones wait to be acknowledged, at least. A
    /// coordinator's (with an epoch or a lease) wait until [`Config::grace`] is over, if that is later.
    pub linger: Duration,
}

impl Default for ResultLimits {
    /// 1,024 results or 64 MiB of memory, for a day; 5 s at the end.
    fn default() -> Self {
        Self {
            count: 1024,
            memory: ByteSize::mib(64),
            keep: Duration::from_secs(24 * 3600),
            linger: Duration::from_secs(5),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let bodies = BodyLimits::default();
        Self {
            slots: None,
            bounds: Bounds::default(),
            tokens: Tokens::default(),
            token_advice: None,
            tls: None,
            insecure_no_auth: false,
            protect_metrics: false,
            // A job of the largest size that a coordinator takes arrives here with a few fields
            // more, and every default written out.
            bodies: BodyLimits { size: ByteSize(bodies.size.0 + (64 << 10)), ..bodies },
            server: ServerLimits { reserved: RESERVED, ..ServerLimits::default() },
            grace: Duration::from_secs(30),
            results: ResultLimits::default(),
            spool: None,
            spool_size: ByteSize::mib(256),
        }
    }
}
