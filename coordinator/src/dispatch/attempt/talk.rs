//! The conversation with a runner about one attempt, to whatever end.

use std::{sync::Arc, time::Duration};

use cloister_api::{
    ExecuteRequest, Outcome, Reason, RunnerHealth, RunnerState, Seconds, Status, Timestamp,
};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    super::{
        link::{CallError, Deleted, Known, Line, Lines, Taken},
        outcome::checked,
        release::cancel,
        stream::max_line,
    },
    Attempt, End, Untaken, backoff, margin,
};
use crate::{
    engine::{cancelled_before_start, start},
    scheduler::Event,
    store::StoreError,
};

/// Between two tries to have a runner end an attempt, while it tells what happens there.
const AGAIN: Duration = backoff::SHORTEST;

impl Attempt {
    pub(super) async fn give(&mut self) -> End {
        if *self.stop.borrow() {
            return self.cancelled();
        }
        self.follow(None).await
    }

    /// Asks the runner until the attempt has come out. `broken` tells why it must first be asked what
    /// it knows; it is `None` while it was sent nothing.
    pub(super) async fn follow(&mut self, mut broken: Option<String>) -> End {
        let mut since = broken.as_ref().map(|_| Instant::now());
        loop {
            let began = Instant::now();
            let silent = since.is_some_and(|since| began >= since + self.patience());
            let due = silent || self.is_overdue();
            let error = match self.once(broken.is_some(), due).await {
                Ok(end) => return end,
                Err(Trouble::Unsent(why)) if broken.is_none() => {
                    return End::NotTaken(Untaken::Down(why));
                }
                Err(Trouble::Unsent(why)) => why,
                Err(Trouble::Nonsense(why)) => {
                    self.garbled(&why);
                    why
                }
                Err(Trouble::Sent { why, in_touch }) => {
                    if in_touch {
                        since = None;
                    }
                    why
                }
                Err(Trouble::Overdue) => {
                    // It answers, and from now on is only asked for the result.
                    since = None;
                    broken.get_or_insert_with(|| "it should have ended".into());
                    let lost = self.deadline.lost_at(self.patience());
                    self.pause(began, lost.unwrap_or(began)).await;
                    continue;
                }
            };
            // A post that has been silent for a while has used up that much of the time.
            let silent = self.post.contact().silent_since.unwrap_or_else(Instant::now);
            let silent = *since.get_or_insert(silent);
            let give_up = (silent + self.patience()).max(self.lease_over());
            if Instant::now() >= give_up
                && let Some(first) = &broken
            {
                let (runner, seconds) = (&self.runner, self.patience().as_secs_f64());
                let why = if due { first } else { &error };
                let what = if self.garbled {
                    "gave no result that makes sense"
                } else {
                    "did not come back"
                };
                return End::Lost(format!(
                    "runner {runner} {what} within {seconds} s ({why}); \
                     what became of the command is not known"
                ));
            }
            self.tell_lost_touch(&error);
            // The first reason is what it is about, and the later ones what came of it.
            broken.get_or_insert(error);
            self.pause(began, give_up).await;
        }
    }

    /// All attempts of a runner lose touch together: that is said once, and each of them at another level.
    fn tell_lost_touch(&self, error: &str) {
        let runner = &self.runner;
        if self.post.lost_touch() {
            tracing::warn!(%runner, error, "lost touch with the attempts of a runner; asking it");
        }
        tracing::debug!(
            job_id = %self.job.job_id,
            attempt = self.claim.attempt,
            execution_id = %self.claim.execution_id,
            %runner,
            error,
            "lost touch with an attempt; asking its runner"
        );
    }

    /// Returns when the runner is to be asked again, after a conversation that began then: sooner where
    /// it answers again, the attempt is to end, or is about to be given up.
    async fn pause(&mut self, began: Instant, give_up: Instant) {
        let now = Instant::now();
        let jitter = self.engine.world.fraction();
        let pause = self.backoff.pause(now.duration_since(began), jitter);
        let left = give_up.saturating_duration_since(now);
        let pause = pause.min(left.max(backoff::SHORTEST));
        tokio::select! {
            biased;
            () = self.post.answers_again() => {}
            Ok(()) = self.stop.changed() => {}
            () = sleep(pause) => {}
        }
    }

    /// Whether it should have ended. Its lease is not renewed from then on.
    fn is_overdue(&mut self) -> bool {
        let now = Instant::now();
        let since = self.deadline.lapse(now);
        if since == Some(now) {
            self.hold.lapse();
            tracing::warn!(
                job_id = %self.job.job_id,
                attempt = self.claim.attempt,
                execution_id = %self.claim.execution_id,
                runner = %self.runner,
                "a runner did not end an attempt in time; its lease is not renewed any more"
            );
        }
        since.is_some()
    }

    /// How it ends if it should have ended so long ago that its lease is over too: then only its result
    /// counts, and nothing else that its runner says.
    fn overdue(&self) -> Option<End> {
        let (cause, time) = self.deadline.lost(Instant::now(), self.patience())?;
        Some(End::Overdue(format!(
            "runner {} did not end the job within {} s of {}, although it answers; \
             what became of the command is not known",
            self.runner,
            time.as_secs_f64(),
            cause.as_str()
        )))
    }

    /// The runner says how it ended: that counts if it can be true.
    fn ended(&self, outcome: Outcome) -> Result<End, Trouble> {
        let outcome = checked(outcome, &self.job.request.task.limits);
        let outcome = outcome.map_err(CallError::Nonsense)?;
        Ok(End::Ended { outcome: Box::new(outcome), held: true })
    }

    /// The runner answered what makes no sense: that counts against it, once for each attempt.
    fn garbled(&mut self, why: &str) {
        if !std::mem::replace(&mut self.garbled, true) {
            let (runner, why) = (self.runner.clone(), why.to_owned());
            let jitter = self.engine.world.fraction();
            self.engine.apply(Event::Failed { runner, why, jitter });
        }
    }

    /// The runner has it.
    fn taken(&mut self) {
        self.taken = true;
        self.hold.taken();
        self.deadline.taken(Instant::now());
    }

    /// How long a runner may be silent: after that it has ended the attempt. The last lease counts from
    /// before its silence; where it does not tell its clock, from when it heard of it, which may be as
    /// late as the end of the lease before.
    pub(super) fn patience(&self) -> Duration {
        let lease = self.engine.lease;
        let leases = if self.post.contact().clock.is_some() { 1 } else { 2 };
        leases * lease + margin(lease)
    }

    /// When the lease that was sent last has run out at the latest.
    fn lease_over(&self) -> Instant {
        self.sent + self.patience()
    }

    /// One conversation with the runner. Once it is `due` to give up, it is only asked: to join an
    /// execution renews its lease, and that must run out before it may be given up.
    async fn once(&mut self, look_first: bool, due: bool) -> Result<End, Trouble> {
        let max = max_line(&self.job.request.task.limits);
        let execution = self.claim.execution_id;
        let mut boot = self.claim.boot_id;
        let mut in_touch = false;
        if look_first {
            // Its life is asked for first: what it then knows it knows in that life, or it knows nothing.
            let health = self.engine.runners.health(&self.runner).await?;
            match self.engine.runners.look(&self.runner, execution, max).await? {
                Known::Ended(outcome) => return self.ended(*outcome),
                // It has it, whichever life it was claimed for; in a later one it would begin anew.
                Known::Running => {
                    (boot, in_touch) = (Some(health.boot_id), true);
                    self.taken();
                    if let Some(end) = self.overdue() {
                        return Ok(end);
                    }
                    if self.is_overdue() {
                        if *self.stop.borrow() {
                            self.engine.mandated(self.term).await;
                            cancel(&self.engine, self.term, &self.runner, execution).await?;
                        }
                        return Err(Trouble::Overdue);
                    }
                }
                Known::Nothing => {
                    if let Some(end) = self.forgotten(&health) {
                        return Ok(end);
                    }
                    if *self.stop.borrow() {
                        return self.take_back().await;
                    }
                }
            }
        }
        if due {
            return Err(Trouble::Sent { why: "it can't be followed".into(), in_touch: false });
        }
        // A store that was slow to answer may have made another one the leader meanwhile.
        self.engine.mandated(self.term).await;
        let request = self.request();
        self.sent = Instant::now();
        let taken = self.engine.runners.execute(&self.runner, &request, boot, max).await;
        drop(request);
        match taken.map_err(|error| Trouble::of(error, in_touch))? {
            Taken::Yes(lines) => {
                self.taken();
                self.listen(lines).await
            }
            Taken::Stale(why) => {
                self.engine.doubt(self.term);
                Err(Trouble::Sent { why, in_touch })
            }
            Taken::OtherBoot if look_first => Ok(self.restarted()),
            // It said that it has it: then it is nobody else's, and what it knows comes out in time.
            _ if in_touch => Err(Trouble::silent("it lets nobody join the execution")),
            // What was sent before may still be on its way, and run when it comes: it can be given to
            // nobody else.
            Taken::Busy(_) if look_first => Err(Trouble::silent("it has no free slot for it")),
            Taken::Stranger(why) if look_first => Err(Trouble::Sent { why, in_touch: false }),
            Taken::Busy(why) => Ok(End::NotTaken(Untaken::Full(why))),
            Taken::OtherBoot => Ok(End::NotTaken(Untaken::Full("was just restarted".into()))),
            Taken::Stranger(why) => Ok(End::NotTaken(Untaken::Strange(why))),
            Taken::Refused(why) => {
                let message = format!("runner {} refused the job: {why}", self.runner);
                let reason = Some(Reason::SandboxError);
                Ok(End::Ended {
                    outcome: Box::new(Outcome::never_ran(Status::Failed, reason, message)),
                    held: false,
                })
            }
        }
    }

    /// A runner that was so knows nothing of the attempt: has it forgotten, or did it never know? `None`
    /// where it may still get to know.
    fn forgotten(&self, health: &RunnerHealth) -> Option<End> {
        if self.claim.boot_id != Some(health.boot_id) {
            return Some(self.restarted());
        }
        if self.taken {
            // It had it, so that to send it again would be to run it twice.
            return Some(End::Lost(format!(
                "runner {} does not know the job any more; what became of the command is not known",
                self.runner
            )));
        }
        // In this life it takes nothing more: what it did not know after that it never will.
        let closed = matches!(health.status, RunnerState::Draining | RunnerState::Failed);
        closed.then(|| End::NotTaken(Untaken::Full("takes no more work".into())))
    }

    /// It is to end before it began. What was sent may still be on its way: it is cancelled only when the
    /// runner has heard that it is over, and so refuses what comes then.
    async fn take_back(&mut self) -> Result<End, Trouble> {
        self.engine.mandated(self.term).await;
        let execution = self.claim.execution_id;
        match cancel(&self.engine, self.term, &self.runner, execution).await? {
            Deleted::Unknown => Ok(self.cancelled()),
            // It came after all, and ends by this.
            Deleted::Yes => {
                self.deadline.cancelled(Instant::now());
                self.is_overdue();
                self.overdue().ok_or_else(|| Trouble::silent("it has just come"))
            }
            Deleted::Stale => {
                self.engine.doubt(self.term);
                Err(Trouble::silent("another coordinator leads"))
            }
        }
    }

    fn restarted(&self) -> End {
        End::Lost(format!(
            "runner {} was restarted while it had the job; what became of the command is not known",
            self.runner
        ))
    }

    fn cancelled(&self) -> End {
        End::Ended { outcome: Box::new(cancelled_before_start(&self.job)), held: false }
    }

    fn request(&self) -> ExecuteRequest {
        let contact = self.post.contact();
        let term = contact.leases.then_some(self.term);
        ExecuteRequest {
            task: self.job.request.task.clone(),
            execution_id: Some(self.claim.execution_id),
            attempt: Some(self.claim.attempt),
            epoch: term.map(|term| term.epoch.0),
            cluster: term.map(|term| term.cluster),
            lease: term.map(|_| Seconds(self.engine.lease)),
            as_of: term.and(contact.clock),
        }
    }

    /// Follows what happens, and passes on a wish for the end.
    async fn listen(&mut self, mut lines: Box<dyn Lines>) -> Result<End, Trouble> {
        let (patience, lease_over) = (self.patience(), self.lease_over());
        let mut post = self.post.clone();
        let lost = post.lost(patience, lease_over);
        tokio::pin!(lost);
        let execution = self.claim.execution_id;
        let mut told = false;
        let mut next_try = Instant::now();
        loop {
            let asked = *self.stop.borrow_and_update();
            if asked {
                self.deadline.cancelled(Instant::now());
            }
            let stop = asked && !told;
            let due = self.deadline.next(self.patience());
            tokio::select! {
                biased;
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if self.is_overdue() && self.overdue().is_some() {
                        return Err(Trouble::Overdue);
                    }
                }
                () = sleep_until(next_try), if stop => {
                    self.engine.mandated(self.term).await;
                    let ended = cancel(&self.engine, self.term, &self.runner, execution).await;
                    told = matches!(ended, Ok(Deleted::Yes));
                    next_try = Instant::now() + AGAIN;
                }
                // The sender may be gone once the attempt is over for the scheduler.
                Ok(()) = self.stop.changed(), if !stop && !told => {}
                () = self.hold.unknown() => return Err(Trouble::Sent {
                    why: "its runner does not know it".into(),
                    in_touch: false,
                }),
                () = &mut lost => return Err(Trouble::Sent {
                    why: "its runner answers no more, or in another life".into(),
                    in_touch: false,
                }),
                line = lines.next() => match line.map_err(|e| Trouble::of(e, true))? {
                    Some(Line::Started(at)) => self.started(at),
                    Some(Line::Result(outcome)) => return self.ended(*outcome),
                    Some(Line::Other) => {}
                    None => return Err(Trouble::silent("it ended without a result")),
                },
            }
        }
    }

    fn started(&mut self, at: Timestamp) {
        if self.job.started_at.is_some() {
            return;
        }
        self.deadline.started(Instant::now());
        start(&mut self.job, &self.runner, at);
        let (job, attempt) = (self.job.job_id, self.claim.attempt);
        self.engine.metrics.started(self.job.queue_ms.unwrap_or_default());
        // Not waited for. Shown when it is recorded, so that nobody who then asks another
        // coordinator, or the next leader, sees it wait again.
        let (engine, term) = (Arc::clone(&self.engine), self.term);
        self.engine.spawn_in(term, async move {
            match engine.store.started(term.epoch, job, attempt, at).await {
                Ok(()) => drop(engine.apply_in(term, Event::Started { job, attempt, at })),
                Err(StoreError::Stale { .. }) => engine.doubt(term),
                Err(error) => engine.store_failed(&error),
            }
        });
    }
}

/// Why a conversation did not come to an end.
enum Trouble {
    /// Nothing was sent.
    Unsent(String),
    /// The runner may have what was sent; `in_touch` tells whether it answered in between.
    Sent { why: String, in_touch: bool },
    /// The runner answered what makes no sense, and may do so for ever.
    Nonsense(String),
    /// The runner answers, and should have ended it long ago.
    Overdue,
}

impl Trouble {
    fn of(error: CallError, in_touch: bool) -> Self {
        match error {
            CallError::Connect(_) => Self::Unsent(error.to_string()),
            CallError::Nonsense(_) => Self::Nonsense(error.to_string()),
            error => Self::Sent { why: error.to_string(), in_touch },
        }
    }

    fn silent(why: &str) -> Self {
        Self::Sent { why: why.into(), in_touch: true }
    }
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        Self::of(error, false)
    }
}
