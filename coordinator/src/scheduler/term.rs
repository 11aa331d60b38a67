//! What a term leaves behind: nothing of the jobs, which are another leader's, and all that is known of
//! the runners, which this one goes on asking for their health.

use super::{Scheduler, Waiting};

impl Scheduler {
    /// Another leads. What this one was just doing with jobs comes too late from now on, and is
    /// ignored as all that is about unknown jobs.
    pub(super) fn depose(&mut self) {
        self.leading = false;
        self.storing = Waiting::default();
        self.jobs.clear();
        self.queue.regroup(std::iter::empty());
        self.delayed.clear();
        self.delayed_size = 0;
        for runner in self.runners.values_mut() {
            runner.out = 0;
            runner.breaker.emptied();
        }
        self.runners.retain(|_, runner| runner.listed);
        self.runners_changed();
    }
}
