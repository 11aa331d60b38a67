//! The tables of a report.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::{load::Submitted, process::End, report::Report, world::World};

/// Faults by kind, with how long they lasted until all was as before.
pub(super) fn faults(world: &World, report: &mut Report) {
    let mut kinds: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for episode in world.history.episodes() {
        let lasted = episode.to.unwrap_or_else(|| world.history.now()).saturating_sub(episode.from);
        kinds.entry(episode.kind.name()).or_default().push(lasted);
    }
    report.say(&format!("\n{:<30}{:>10}{:>24}", "fault", "count", "until recovered, s"));
    for (kind, lasted) in &kinds {
        let longest = lasted.iter().max().copied().unwrap_or_default().as_secs_f64();
        let sum: Duration = lasted.iter().sum();
        let mean = sum.as_secs_f64() / f64::from(u32::try_from(lasted.len()).unwrap_or(u32::MAX));
        let times = format!("{mean:.1} mean, {longest:.1} most");
        report.say(&format!("{kind:<30}{:>10}{times:>24}", lasted.len()));
    }
    let counts: BTreeMap<_, _> = kinds.iter().map(|(kind, all)| (kind, all.len())).collect();
    report.put("faults", json!(counts));
}

/// Jobs by what they are and how they ended.
pub(super) fn jobs(world: &World, last: &[Option<Result<Value, String>>], report: &mut Report) {
    let mut ends: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for (index, last) in last.iter().enumerate() {
        let end = match last {
            None => "never acknowledged".to_owned(),
            Some(Err(_)) => "lost".to_owned(),
            Some(Ok(job)) => {
                let end = job["reason"].as_str().or(job["status"].as_str()).unwrap_or_default();
                let attempt = job["attempt"].as_u64().unwrap_or_default();
                if attempt > 1 { format!("{end}, attempt {attempt}") } else { end.to_owned() }
            }
        };
        *ends.entry((world.jobs.kind(index).name(), end)).or_default() += 1;
    }
    report.say(&format!("\n{:<30}{:<30}{:>10}", "job", "how it ended", "jobs"));
    let mut totals: BTreeMap<&str, usize> = BTreeMap::new();
    for ((kind, end), count) in &ends {
        report.say(&format!("{kind:<30}{end:<30}{count:>10}"));
        *totals.entry(end).or_default() += count;
    }
    report.put("jobs", json!(totals));
}

/// What clients met until they were acknowledged.
pub(super) fn clients(world: &World, submitted: &Submitted, report: &mut Report) {
    report.say(&format!("\n{:<60}{:>10}", "submissions that were asked again, since", "count"));
    for (why, count) in world.history.refusals() {
        report.say(&format!("{why:<60}{count:>10}"));
    }
    let slowest = submitted.slowest.as_secs_f64();
    report.say(&format!("{:<60}{slowest:>10.1}", "the longest until an acknowledgement, s"));
}

/// How often each service was started, and how its lives ended.
pub(super) fn lives(world: &World, report: &mut Report) {
    report.say(&format!(
        "\n{:<20}{:>10}{:>10}{:>10}{:>20}{:>16}",
        "service", "lives", "killed", "asked", "longest to end, s", "ended by itself"
    ));
    for process in &world.processes {
        let lives = process.lives();
        let (mut killed, mut asked, mut itself) = (0, 0, 0);
        let mut longest = Duration::ZERO;
        for life in &lives {
            match life.how {
                Some(End::Killed) => killed += 1,
                Some(End::Asked { took, .. }) => {
                    asked += 1;
                    longest = longest.max(took);
                }
                Some(End::Itself(_)) => itself += 1,
                None => {}
            }
        }
        report.say(&format!(
            "{:<20}{:>10}{killed:>10}{asked:>10}{:>20.2}{itself:>16}",
            process.name,
            lives.len(),
            longest.as_secs_f64()
        ));
    }
}
