//! How a service ends: first it drains, then it is over.
//!
//! The handle carries a phase and nothing else. Who waits for which phase is for each part to
//! decide; tests move it by hand, a program by signals.

use std::sync::Arc;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::Error;

/// Where a service stands. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It takes work.
    Running,
    /// It finishes what it has and takes nothing new.
    Draining,
    /// It kills what still runs, reports that, and ends. Signals skip this phase: only a service whose
    /// reports are awaited is told to enter it ([`Shutdown::kill`]).
    Killing,
    /// It ends at once, whatever still runs.
    Ended,
}

/// A handle on the phase that all its clones share.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<watch::Sender<Phase>>);

impl Shutdown {
    /// Of a service that runs.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Running)))
    }

    /// Moves forward on SIGTERM and SIGINT: the first one drains, the second one ends. From here on
    /// neither kills the process. Must be called within a runtime.
    pub fn on_signals(&self) -> Result<(), Error> {
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            while shutdown.phase() < Phase::Ended {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                shutdown.advance();
            }
        });
        Ok(())
    }

    /// Where it stands now.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Whether no new work should be taken.
    pub fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// One step forward: what a signal does.
    pub fn advance(&self) {
        self.reach(match self.phase() {
            Phase::Running => Phase::Draining,
            Phase::Draining | Phase::Killing | Phase::Ended => Phase::Ended,
        });
    }

    /// Takes no new work from now on.
    pub fn drain(&self) {
        self.reach(Phase::Draining);
    }

    /// Kills what still runs, and ends once that is reported.
    pub fn kill(&self) {
        self.reach(Phase::Killing);
    }

    /// Ends at once.
    pub fn end(&self) {
        self.reach(Phase::Ended);
    }

    /// Returns when it drains, or has ended.
    pub async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Returns when it kills what runs, or has ended.
    pub async fn killing(&self) {
        self.reached(Phase::Killing).await;
    }

    /// Returns when it has ended.
    pub async fn ended(&self) {
        self.reached(Phase::Ended).await;
    }

    fn reach(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let forward = phase > *now;
            *now = phase.max(*now);
            forward
        });
    }

    async fn reached(&self, phase: Phase) {
        // The sender lives as long as `self`, so that the wait can only end by the phase.
        let _ = self.0.subscribe().wait_for(|now| *now >= phase).await;
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, id};

    use super::*;

    #[tokio::test]
    async fn it_only_moves_forward() {
        let shutdown = Shutdown::new();
        let other = shutdown.clone();
        assert!(!other.is_draining());
        let waits = tokio::spawn(async move { other.draining().await });
        shutdown.advance();
        waits.await.unwrap();
        assert_eq!(shutdown.phase(), Phase::Draining);
        shutdown.advance();
        shutdown.ended().await;
        shutdown.drain();
        assert_eq!(shutdown.phase(), Phase::Ended);
        // Who comes late to an earlier phase does not wait for it.
        shutdown.draining().await;
        shutdown.killing().await;
    }

    #[tokio::test]
    async fn killing_comes_between_draining_and_the_end() {
        let shutdown = Shutdown::new();
        shutdown.kill();
        shutdown.draining().await;
        shutdown.killing().await;
        shutdown.drain();
        assert_eq!(shutdown.phase(), Phase::Killing);
        shutdown.advance();
        assert_eq!(shutdown.phase(), Phase::Ended);
    }

    #[tokio::test]
    async fn the_first_signal_drains_and_the_second_ends() {
        let shutdown = Shutdown::new();
        shutdown.on_signals().unwrap();
        let kill = |name: &str| {
            let pid = id().to_string();
            assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
        };
        kill("TERM");
        shutdown.draining().await;
        assert_eq!(shutdown.phase(), Phase::Draining);
        kill("INT");
        shutdown.ended().await;
    }
}
