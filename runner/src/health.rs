//! What a runner tells of itself.

use std::fs;

use cloister_api::{CANCELS, LEASES, RunnerHealth, RunnerState, Slots, Timestamp};

use crate::runner::{Runner, SPOOL};

impl Runner {
    /// How it is, and everything that keeps it from being well.
    pub(crate) fn health(&self) -> RunnerHealth {
        let host = self.cells.host();
        let mut problems: Vec<_> = host
            .enforcement
            .iter()
            .filter(|part| part.lacking())
            .map(|part| match &part.remedy {
                Some(remedy) => format!("{} is not enforced: {}; {remedy}", part.name, part.detail),
                None => format!("{} is not enforced: {}", part.name, part.detail),
            })
            .collect();
        let degraded = !problems.is_empty();
        if self.spool.is_full() {
            problems.push(SPOOL.into());
        }
        if !self.has_room() {
            problems.push(format!(
                "{} executions wait to be acknowledged, and no more with an id are taken",
                self.kept.count()
            ));
        }
        let status = if self.lost.is_lost() {
            problems.insert(0, "the process that makes cells has ended".into());
            RunnerState::Failed
        } else if self.shutdown.is_draining() {
            problems.insert(
                0,
                format!(
                    "it drains, and takes no new work: {} jobs run, and {} executions are yet to be \
                     acknowledged",
                    self.slots.used(),
                    self.kept.count()
                ),
            );
            RunnerState::Draining
        } else if degraded {
            RunnerState::Degraded
        } else {
            RunnerState::Ok
        };
        RunnerHealth {
            status,
            boot_id: self.boot_id,
            version: env!("CARGO_PKG_VERSION").into(),
            features: vec![LEASES.into(), CANCELS.into()],
            time: Some(Timestamp::now()),
            clock_ms: u64::try_from(self.kept.now().0.as_millis()).ok(),
            slots: Slots { total: self.slots.total(), used: self.slots.used() },
            load: load(),
            cpus: self.bounds.cpus,
            memory: self.bounds.memory,
            pids: self.bounds.pids,
            open_files: self.bounds.open_files,
            network_host: host.network_host,
            problems,
            enforcement: host.enforcement.clone(),
        }
    }
}

/// The load average of the last minute (proc_loadavg(5)), read from memory and not from a disk.
fn load() -> Option<f64> {
    first(&fs::read_to_string("/proc/loadavg").ok()?)
}

fn first(loadavg: &str) -> Option<f64> {
    loadavg.split_ascii_whitespace().next()?.parse().ok().filter(|load: &f64| load.is_finite())
}

#[cfg(test)]
mod tests {
    use super::first;

    #[test]
    fn the_load_is_the_last_minutes_or_none() {
        assert_eq!(first("0.52 0.58 0.59 1/389 12345\n"), Some(0.52));
        for bad in ["", "\n", "busy 1 2", "NaN", "inf"] {
            assert_eq!(first(bad), None, "{bad}");
        }
    }
}
