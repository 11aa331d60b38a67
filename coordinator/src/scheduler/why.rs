//! What the scheduler tells whoever asks: where a job stands and exactly why it waits, how the
//! runners are, and whether any of them could ever hold a job. Worked out when asked, never before.

use std::fmt::Write;

use cloister_api::{FieldProblem, RunnerHealth, RunnerState, Timestamp};
use uuid::Uuid;

use super::{
    Scheduler,
    breaker::BreakerState,
    job::{Entry, RunnerName, Stage},
    runner::{Lack, Link, Runner},
    skew::{MAX_SKEW, Skew},
};
use crate::length::{apart, length};

/// How many runners are named before the rest is counted.
const NAMED: usize = 3;

/// Where a job that is not over stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Live {
    /// The present attempt.
    pub(crate) attempt: u32,
    /// Which runner has it, and since when its command runs.
    pub(crate) out: Option<(RunnerName, Option<Timestamp>)>,
    /// Why it waits; absent while its command runs.
    pub(crate) pending_reason: Option<String>,
    /// No runner has it, so that nobody must be told to end it.
    pub(crate) waits: bool,
}

/// How a runner stands.
#[derive(Clone, Debug)]
pub(crate) struct RunnerView {
    pub(crate) name: RunnerName,
    pub(crate) listed: bool,
    /// Its last report, also when it has fallen silent since.
    pub(crate) health: Option<RunnerHealth>,
    pub(crate) up: bool,
    /// It is another listed runner under a second address.
    pub(crate) twin: bool,
    /// An operator drains it.
    pub(crate) drained: bool,
    /// How far its clock is off, if it tells.
    pub(crate) skew: Option<Skew>,
    pub(crate) breaker: BreakerState,
    /// Until when its breaker is open, if it is.
    pub(crate) opens_until: Option<Timestamp>,
    /// Why it gets nothing now, if so.
    pub(crate) trouble: Option<String>,
    /// Attempts that it has from here.
    pub(crate) out: usize,
    /// Cells that it could not make, in all and since it last made one.
    pub(crate) failed_cells: u64,
    pub(crate) failed_in_a_row: u64,
}

impl Scheduler {
    /// Where a job stands; `None` when it is over or unknown.
    pub(crate) fn live(&self, job: Uuid) -> Option<Live> {
        let entry = self.jobs.get(&job)?;
        let out = match &entry.stage {
            Stage::Out(out) => Some(out),
            Stage::Recording { out, .. } => out.as_ref(),
            Stage::Storing | Stage::Queued | Stage::Delayed(_) => None,
        };
        let running = out.is_some_and(|out| out.started_at.is_some());
        Some(Live {
            attempt: entry.facts.attempt,
            out: out.map(|out| (out.runner.clone(), out.started_at)),
            pending_reason: (!running).then(|| self.why(entry)),
            waits: matches!(entry.stage, Stage::Queued | Stage::Delayed(_)),
        })
    }

    /// How each runner stands, in the order of their names; also those that are not known but that an
    /// operator drains.
    pub(crate) fn runners(&self) -> Vec<RunnerView> {
        let unknown = self.drained.names().filter(|name| !self.runners.contains_key(*name));
        let unknown = unknown.map(|name| view(name, &Runner::new(true)));
        let known = self.runners.iter().map(|(name, runner)| view(name, runner));
        let mut all: Vec<_> = known.chain(unknown).collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Why a runner gets nothing for its clock, if so.
    pub(crate) fn refused_clock(&self, name: &RunnerName) -> Option<String> {
        self.runners
            .get(name)
            .filter(|runner| runner.clock_is_off)
            .map(|runner| clock(name, runner))
    }

    /// What a job asks for and no runner that was ever seen could give; empty where one could, or
    /// where none was seen.
    pub(crate) fn impossible(&self, needs: &super::Needs) -> Vec<FieldProblem> {
        let mut worst: Vec<Lack> = Vec::new();
        let mut each: Vec<Vec<Lack>> = Vec::new();
        for capacity in self.listed().filter_map(|(_, runner)| runner.capacity()) {
            let lacks = capacity.lacks(needs);
            if lacks.is_empty() {
                return Vec::new();
            }
            for lack in &lacks {
                match worst.iter_mut().find(|w| w.pointer() == lack.pointer()) {
                    Some(known) => *known = known.better(*lack),
                    None => worst.push(*lack),
                }
            }
            each.push(lacks);
        }
        let everywhere = |lack: &Lack| {
            each.iter().all(|lacks| lacks.iter().any(|l| l.pointer() == lack.pointer()))
        };
        if worst.iter().any(everywhere) {
            let faults = worst.iter().filter(|lack| everywhere(lack));
            return faults.map(|lack| lack.fault()).collect();
        }
        // Each of them is met somewhere, all together nowhere.
        let detail = "is more than any runner has beside what else is asked for";
        let faults = worst
            .iter()
            .map(|lack| FieldProblem { pointer: lack.pointer().into(), detail: detail.into() });
        faults.collect()
    }

    fn listed(&self) -> impl Iterator<Item = (&RunnerName, &Runner)> {
        self.runners.iter().filter(|(_, runner)| runner.listed)
    }

    fn why(&self, entry: &Entry) -> String {
        match &entry.stage {
            Stage::Out(out) => match self.runners.get(&out.runner).map(|r| &r.link) {
                Some(Link::Down(why)) => {
                    format!("was given to runner {}, which does not answer: {why}", out.runner)
                }
                _ => format!("is being handed to runner {}", out.runner),
            },
            Stage::Storing => "is being stored".into(),
            Stage::Recording { .. } => "its end is being recorded".into(),
            Stage::Delayed(due) => {
                let before = entry.facts.attempt.saturating_sub(1);
                format!("waits until {due} to try again, after attempt {before} failed")
            }
            Stage::Queued => self.why_queued(entry),
        }
    }

    fn why_queued(&self, entry: &Entry) -> String {
        if let Some(why) = &self.store_failure {
            return format!("the store takes no writes: {why}");
        }
        if !self.leading {
            return "the coordinator takes up the jobs of its store, and dispatches then".into();
        }
        if self.draining {
            return "the coordinator is shutting down; the job runs when it is back".into();
        }
        if let Some(why) = &self.paused {
            return format!("nothing is dispatched: {why}; `cloister resume` ends that");
        }
        let (drained, listed): (Vec<_>, Vec<_>) = self.listed().partition(|(_, r)| r.drained);
        if listed.is_empty() && drained.is_empty() {
            return "no runner is known".into();
        }
        let needs = &entry.facts.needs;
        let able = |r: &Runner| r.capacity().is_some_and(|capacity| capacity.holds(needs));
        let up = listed.iter().filter(|(_, runner)| runner.is_up());
        let able_up: Vec<_> = up.clone().filter(|(_, r)| able(r) && !r.twin).collect();
        if able_up.is_empty() {
            let drained = drained.iter().filter(|(_, r)| listed.is_empty() || able(r));
            if drained.clone().next().is_some() {
                return named(drained.filter_map(|(name, r)| trouble(name, r)));
            }
            if up.clone().next().is_none() {
                let troubles = listed.iter().filter_map(|(name, r)| trouble(name, r));
                return format!("no runner answers: {}", named(troubles));
            }
            return self.why_unable(&listed, needs);
        }
        let taking: Vec<_> = able_up.iter().filter(|(_, r)| r.takes_work()).collect();
        if taking.is_empty() {
            return named(able_up.iter().filter_map(|(name, r)| trouble(name, r)));
        }
        let avoid = &entry.facts.avoid;
        let elsewhere: Vec<_> = taking.iter().filter(|(n, _)| !avoid.contains(n)).collect();
        let usable = if elsewhere.is_empty() { taking.iter().collect() } else { elsewhere };
        if usable.iter().any(|(_, runner)| runner.has_room()) {
            return "is next for a free slot".into();
        }
        let full = usable.iter().filter(|(_, r)| !r.breaker.is_trying());
        let runners = full.clone().count();
        if runners == 0 {
            return named(usable.iter().filter_map(|(name, r)| trouble(name, r)));
        }
        let total: usize = full.map(|(_, runner)| runner.slots()).sum();
        let runners = plural(runners, "runner");
        format!("waits for a free slot: {total} of {total} taken on {runners}")
    }

    /// Why none of the runners that answer could hold a job.
    fn why_unable(&self, listed: &[(&RunnerName, &Runner)], needs: &super::Needs) -> String {
        let able = |r: &Runner| r.capacity().is_some_and(|capacity| capacity.holds(needs));
        let silent = listed.iter().filter(|(_, r)| able(r) && !r.is_up());
        if silent.clone().next().is_some() {
            let troubles = silent.filter_map(|(name, runner)| trouble(name, runner));
            return format!("the runners that could hold it do not answer: {}", named(troubles));
        }
        let lacks = self.impossible(needs).into_iter().map(|f| match f.pointer.as_str() {
            "/network" => "allows network: host".into(),
            pointer => {
                let name = pointer.trim_start_matches("/limits/");
                format!("has {name} enough")
            }
        });
        format!("no runner that answers {}", lacks.collect::<Vec<_>>().join(" and "))
    }
}

fn view(name: &RunnerName, runner: &Runner) -> RunnerView {
    RunnerView {
        name: name.clone(),
        listed: runner.listed,
        health: runner.health.as_deref().cloned(),
        up: runner.is_up(),
        twin: runner.twin,
        drained: runner.drained,
        skew: runner.skew,
        breaker: runner.breaker.state(),
        opens_until: runner.breaker.opens_until(),
        trouble: trouble(name, runner),
        out: runner.out,
        failed_cells: runner.failed_cells,
        failed_in_a_row: runner.failed_in_a_row,
    }
}

/// Why a runner gets nothing now, for a person.
fn trouble(name: &RunnerName, runner: &Runner) -> Option<String> {
    let health = runner.health.as_ref();
    if runner.drained {
        let remedy = format!("`cloister runners resume {name}`");
        return Some(format!("runner {name} is drained by an operator; {remedy} ends that"));
    }
    match (&runner.link, health) {
        (Link::Unknown, _) => Some(format!("{name}: not reached yet")),
        (Link::Down(why), _) => Some(format!("{name}: {why}")),
        (Link::Up, Some(health)) => match health.status {
            _ if runner.twin => Some(format!("{name}: is another runner's second address")),
            RunnerState::Draining => Some(format!("runner {name} is draining")),
            RunnerState::Failed => {
                let problems = health.problems.join("; ");
                Some(format!("runner {name} can't make cells: {problems}"))
            }
            RunnerState::Ok | RunnerState::Degraded if runner.clock_is_off => {
                Some(clock(name, runner))
            }
            RunnerState::Ok | RunnerState::Degraded => {
                // To be full is no trouble.
                let trouble = runner.breaker.trouble()?;
                Some(format!("runner {name} {trouble}"))
            }
        },
        (Link::Up, None) => None,
    }
}

/// What is wrong with a runner's clock.
fn clock(name: &RunnerName, runner: &Runner) -> String {
    let skew = apart(runner.skew.map_or(0, |skew| skew.ms));
    let most = length(MAX_SKEW);
    format!(
        "the clock of runner {name} is {skew} the coordinator's, by more than {most}; set both by a \
         time server"
    )
}

/// Some of them in full, the rest as a number.
fn named(troubles: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = troubles.collect();
    let mut text = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    if let Some(more @ 1..) = all.len().checked_sub(NAMED) {
        let _ = write!(text, "; and {more} more");
    }
    text
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
