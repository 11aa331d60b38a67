//! By when an attempt must have ended: no runner keeps one for ever.
//!
//! ```text
//! taken, started ── timeout, margin ──▶ overdue ── lease, margin, transfer ──▶ lost
//! cancelled ─────── margin ───────────▶
//! ```
//!
//! A runner ends a job itself when its timeout is over, or when it is told to. If it has not reported
//! the end a margin later, the attempt is *overdue*: its lease is not renewed any more, and no request
//! joins it, since that would renew the lease too. A runner that keeps leases has then killed the job
//! when the lease is over. An attempt whose end is still not reported is *lost*, however many lines
//! its stream brings and whatever the runner says.
//!
//! All of it is measured by the monotonic clock of this process, and begins anew when another
//! coordinator takes the attempt up.

use std::time::Duration;

use tokio::time::Instant;

/// How fast a result can be expected to arrive, in bytes a second, counted as the most that the job's
/// limits allow in its longest encoding. What the job really printed is mostly much less.
const RATE: u64 = 10 << 20;
/// Further away than any timeout: what is added to an instant must not overflow.
const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// Why an attempt should have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Timeout,
    Cancellation,
}

impl Cause {
    /// As a part of a sentence: "within 3 s of" and this.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "its timeout",
            Self::Cancellation => "its cancellation",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Deadline {
    timeout: Duration,
    margin: Duration,
    /// How long the result may take to arrive.
    transfer: Duration,
    /// When it is overdue, once a runner has it.
    due: Option<(Instant, Cause)>,
    /// Since when its lease is not renewed any more.
    lapsed: Option<Instant>,
}

impl Deadline {
    /// Of an attempt that no runner has yet. No result of it takes more than `bytes`.
    pub(super) fn new(timeout: Duration, margin: Duration, bytes: usize) -> Self {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let transfer = Duration::from_millis(bytes.saturating_mul(1000) / RATE);
        Self { timeout: timeout.min(FAR), margin, transfer, due: None, lapsed: None }
    }

    /// A runner has it. It may take as long to start as the job may run.
    pub(super) fn taken(&mut self, now: Instant) {
        self.due.get_or_insert((now + self.timeout + self.margin, Cause::Timeout));
    }

    /// Its command was executed: the timeout counts from now.
    pub(super) fn started(&mut self, now: Instant) {
        if self.due.is_none_or(|(_, cause)| cause == Cause::Timeout) {
            self.due = Some((now + self.timeout + self.margin, Cause::Timeout));
        }
    }

    /// Its end was asked for. Only the first time counts.
    pub(super) fn cancelled(&mut self, now: Instant) {
        let at = now + self.margin;
        if self.due.is_none_or(|(due, _)| at < due) {
            self.due = Some((at, Cause::Cancellation));
        }
    }

    /// Since when its lease is not renewed: from now on, if it has just become overdue.
    pub(super) fn lapse(&mut self, now: Instant) -> Option<Instant> {
        let (due, _) = self.due?;
        if due <= now {
            self.lapsed.get_or_insert(now);
        }
        self.lapsed
    }

    /// When it changes next. A lease that is not renewed any more is over after `patience`.
    pub(super) fn next(&self, patience: Duration) -> Option<Instant> {
        match self.lapsed {
            Some(_) => self.lost_at(patience),
            None => self.due.map(|(due, _)| due),
        }
    }

    /// When it is lost, once it is overdue.
    pub(super) fn lost_at(&self, patience: Duration) -> Option<Instant> {
        self.lapsed.map(|lapsed| lapsed + patience + self.transfer)
    }

    /// Why it should have ended, and how long the runner had for that, if it is lost.
    pub(super) fn lost(&self, now: Instant, patience: Duration) -> Option<(Cause, Duration)> {
        let (_, cause) = self.due?;
        let lost = self.lost_at(patience).is_some_and(|at| at <= now);
        lost.then_some((cause, self.margin + patience + self.transfer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARGIN: Duration = Duration::from_secs(5);
    const PATIENCE: Duration = Duration::from_secs(35);

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn deadline() -> Deadline {
        Deadline::new(secs(60), MARGIN, 10 << 20)
    }

    #[test]
    fn the_timeout_counts_from_the_start() {
        let now = Instant::now();
        let mut deadline = deadline();
        assert_eq!(deadline.next(PATIENCE), None);
        deadline.taken(now);
        assert_eq!(deadline.next(PATIENCE), Some(now + secs(65)));
        deadline.started(now + secs(10));
        deadline.taken(now + secs(20));
        assert_eq!(deadline.next(PATIENCE), Some(now + secs(75)));
        assert_eq!(deadline.lapse(now + secs(74)), None);
        assert_eq!(deadline.lost_at(PATIENCE), None);
        // Noticed late: the lease was renewed until then.
        assert_eq!(deadline.lapse(now + secs(80)), Some(now + secs(80)));
        assert_eq!(deadline.lapse(now + secs(90)), Some(now + secs(80)));
        assert_eq!(deadline.next(PATIENCE), Some(now + secs(80 + 35 + 1)));
        assert_eq!(deadline.lost(now + secs(115), PATIENCE), None);
        let lost = deadline.lost(now + secs(116), PATIENCE);
        assert_eq!(lost, Some((Cause::Timeout, secs(5 + 35 + 1))));
    }

    #[test]
    fn a_cancellation_counts_once_and_only_if_it_is_earlier() {
        let now = Instant::now();
        let mut deadline = deadline();
        deadline.started(now);
        deadline.cancelled(now + secs(10));
        deadline.cancelled(now + secs(20));
        deadline.started(now + secs(21));
        assert_eq!(deadline.next(PATIENCE), Some(now + secs(15)));
        deadline.lapse(now + secs(15));
        assert_eq!(deadline.lost(now + secs(60), PATIENCE).unwrap().0, Cause::Cancellation);

        let mut late = Deadline::new(secs(60), MARGIN, 0);
        late.taken(now);
        late.cancelled(now + secs(63));
        late.lapse(now + secs(65));
        assert_eq!(late.lost(now + secs(120), PATIENCE).unwrap().0, Cause::Timeout);
    }

    #[test]
    fn an_endless_timeout_overflows_nothing() {
        let mut deadline = Deadline::new(Duration::MAX, MARGIN, usize::MAX);
        deadline.taken(Instant::now());
        assert!(deadline.next(PATIENCE).is_some());
    }
}
