//! One execution with an id: what it was asked for, whose it is, and how long it may go on.

use std::{sync::Arc, time::Duration};

use cloister_api::{ExecuteRequest, KnownExecution, Seconds, Status};
use sha2::{Digest, Sha256};
use tokio::task::AbortHandle;
use uuid::Uuid;

use crate::{
    clock::Moment,
    epochs::Caller,
    execution::{Execution, Why},
};

/// The SHA-256 of what was asked under an id, so that the id cannot come to mean something else.
type Fingerprint = [u8; 32];

/// For how long an execution may go on, as its owner says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    pub(crate) lease: Seconds,
    /// This runner's clock when its owner heard of it last, in milliseconds.
    pub(crate) as_of: Option<u64>,
}

impl Grant {
    /// When that is over. What lay for long in the buffers of a network, or of this machine while it
    /// stood still, counts from when its sender knew of this runner: else it could begin something
    /// that its sender has long given up.
    pub(crate) fn until(self, now: Moment) -> Moment {
        let from = self.as_of.map_or(now, |ms| Moment(Duration::from_millis(ms)));
        // Of a clock that this machine never had nothing longer follows.
        from.min(now) + self.lease.0
    }
}

/// On what terms an execution with an id is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) id: Uuid,
    pub(crate) attempt: Option<u32>,
    pub(crate) lease: Option<Grant>,
    caller: Caller,
    fingerprint: Fingerprint,
}

impl Terms {
    /// Those of a request that has an id. Reads all of it, which may be megabytes: not to be done
    /// under a lock.
    pub(crate) fn of(request: &ExecuteRequest) -> Option<Self> {
        let id = request.execution_id?;
        // Maps are sorted and every default is written out: the same request is the same text.
        // Lease and epoch may change from call to call.
        let text = serde_json::to_vec(&(&request.task, request.attempt)).unwrap_or_default();
        Some(Self {
            id,
            attempt: request.attempt,
            lease: request.lease.map(|lease| Grant { lease, as_of: request.as_of }),
            caller: Caller::of(request),
            fingerprint: Sha256::digest(text).into(),
        })
    }

    /// Whether a coordinator is going to come back for the result, as far as that can be told.
    fn are_a_coordinators(&self) -> bool {
        self.caller.epoch.is_some() || self.lease.is_some()
    }
}

/// What everybody may know of an execution with an id.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) id: Uuid,
    pub(crate) attempt: Option<u32>,
    pub(crate) execution: Arc<Execution>,
}

impl Known {
    /// How it stands.
    pub(crate) fn told(&self) -> KnownExecution {
        let outcome = self.execution.outcome();
        KnownExecution {
            execution_id: self.id,
            attempt: self.attempt,
            status: outcome.map_or(Status::Running, |outcome| outcome.status),
            started_at: self.execution.started(),
        }
    }
}

/// An execution that others may come back to.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) known: Known,
    /// Those who own it.
    pub(crate) cluster: Option<Uuid>,
    /// Whether a coordinator is going to come back for it.
    pub(crate) awaited: bool,
    pub(crate) keeper: AbortHandle,
    fingerprint: Fingerprint,
    lease: Lease,
}

/// How long an execution may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lease {
    /// As long as it likes; or it has ended.
    None,
    Until(Moment),
    /// It was told to end, which nothing takes back.
    Over,
}

impl Entry {
    /// As it was asked for, but without its lease.
    pub(crate) fn new(known: Known, terms: &Terms, keeper: AbortHandle) -> Self {
        Self {
            known,
            cluster: terms.caller.cluster,
            awaited: terms.are_a_coordinators(),
            keeper,
            fingerprint: terms.fingerprint,
            lease: Lease::None,
        }
    }

    /// Whether it is this cluster's.
    pub(crate) fn is_of(&self, cluster: Uuid) -> bool {
        self.cluster == Some(cluster)
    }

    /// Whether it is this cluster's, or can become that.
    pub(crate) fn can_be_of(&self, cluster: Uuid) -> bool {
        self.cluster.is_none_or(|own| own == cluster)
    }

    /// A coordinator of this cluster has it in its care.
    pub(crate) fn belong(&mut self, cluster: Uuid) {
        (self.cluster, self.awaited) = (Some(cluster), true);
    }

    /// Lets somebody in who asks for the same; an error says what else the id stands for.
    pub(crate) fn join(&mut self, terms: &Terms) -> Result<(), &'static str> {
        let cluster = terms.caller.cluster;
        if !cluster.map_or(self.cluster.is_none(), |cluster| self.can_be_of(cluster)) {
            return Err("an execution of another cluster");
        }
        if self.fingerprint != terms.fingerprint {
            return Err("another task or attempt");
        }
        self.cluster = cluster;
        self.awaited |= terms.are_a_coordinators();
        Ok(())
    }

    /// Its owner was heard of, and may be silent for so long again; answers until when. One whose
    /// lease has run out is not revived by that, and nor is one that has ended. What was said earlier
    /// and is heard later takes nothing back.
    pub(crate) fn renew(&mut self, grant: Grant, now: Moment) -> Option<Moment> {
        self.run_out(now);
        if self.lease == Lease::Over || self.known.execution.outcome().is_some() {
            return None;
        }
        let until = match self.lease {
            Lease::Until(before) if grant.as_of.is_some() => grant.until(now).max(before),
            _ => grant.until(now),
        };
        self.lease = Lease::Until(until);
        Some(until)
    }

    /// Ends it if its lease has run out; answers when it is going to.
    pub(crate) fn run_out(&mut self, now: Moment) -> Option<Moment> {
        let Lease::Until(until) = self.lease else {
            return None;
        };
        let Known { id, attempt, execution } = &self.known;
        if execution.outcome().is_some() {
            self.lease = Lease::None;
            return None;
        }
        if now < until {
            return Some(until);
        }
        self.lease = Lease::Over;
        tracing::warn!(execution_id = %id, attempt, "ending a job whose lease was not renewed");
        execution.cancel(Why::LeaseOver);
        None
    }
}
