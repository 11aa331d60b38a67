//! How jobs ended, against what they reported and what was done to them.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;

use super::{
    super::{
        history::{Episode, What},
        jobs::Kind,
        plan::Kind as Fault,
        report::Report,
    },
    Case,
};

/// A fault may show its effect so much later than it was over.
const AFTERWARDS: Duration = Duration::from_secs(1);

pub(super) fn check(case: &Case<'_>, report: &mut Report) {
    let index = case.index;
    let ids: BTreeSet<&str> = case
        .record
        .events
        .iter()
        .filter_map(|(_, what)| match what {
            What::Accepted { id, .. } => Some(id.as_str()),
            _ => None,
        })
        .collect();
    report.must_of("one key, one job", index, ids.len() == 1, || format!("job {index}: {ids:?}"));
    let found = case.last.is_ok();
    report.must_of("what was acknowledged is found", index, found, || {
        format!("job {index}: {}", case.last.as_ref().err().map_or("", String::as_str))
    });
    let Ok(job) = case.last else {
        return;
    };
    let status = job["status"].as_str().unwrap_or_default();
    let ended = matches!(status, "completed" | "failed" | "cancelled");
    report.must_of("what was acknowledged has ended", index, ended, || short(index, job));
    match status {
        "completed" => completed(case, job, report),
        "failed" => failed(case, job, report),
        "cancelled" => {
            report.must_of("cancelled only if asked", index, case.cancelled(), || short(index, job))
        }
        _ => {}
    }
    attempts(case, job, report);
}

fn completed(case: &Case<'_>, job: &Value, report: &mut Report) {
    let index = case.index;
    let executions = case.executions();
    let witnessed = executions.iter().any(|one| one.ended.is_some_and(|(_, code)| code == 0));
    report.must_of("completed: its end was witnessed", index, witnessed, || {
        format!("{}, and the recorder heard of {executions:?}", short(index, job))
    });
    let code = job["exit_code"] == 0 && case.kind.code() == 0;
    report.must_of("completed: exit code 0", index, code, || short(index, job));
    output(case, job, report);
}

fn failed(case: &Case<'_>, job: &Value, report: &mut Report) {
    let index = case.index;
    let reason = job["reason"].as_str().unwrap_or_default();
    if reason != "exit_code" {
        explained(case, job, reason, report);
        return;
    }
    let code = job["exit_code"].as_i64();
    let expected = matches!(case.kind, Kind::Code(_)) && code == Some(case.kind.code());
    report.must_of("failed with the job's own exit code", index, expected, || {
        format!("{}; stderr: {}", short(index, job), job["stderr"])
    });
    let executions = case.executions();
    let witnessed = executions.iter().any(|one| one.ended.map(|(_, code)| code) == code);
    report.must_of("exit code: its end was witnessed", index, witnessed, || {
        format!("{}, and the recorder heard of {executions:?}", short(index, job))
    });
    output(case, job, report);
}

/// Its output is what the execution wrote.
fn output(case: &Case<'_>, job: &Value, report: &mut Report) {
    let index = case.index;
    let (stdout, truncated) = case.world.jobs.stdout(index);
    let right = job["stdout"] == stdout.as_str()
        && job["stdout_truncated"].as_bool() == Some(truncated)
        && job["stderr"] == case.world.jobs.stderr(index).as_str();
    report.must_of("output is what the job wrote", index, right, || {
        let length = job["stdout"].as_str().map(str::len);
        format!(
            "{}: stdout of {length:?} bytes, and not {}; truncated: {}, stderr: {}",
            short(index, job),
            stdout.len(),
            job["stdout_truncated"],
            job["stderr"]
        )
    });
}

/// An attempt that failed by the platform's doing: some fault must have hit its runner meanwhile, or
/// kept all coordinators from it for so long that its lease ran out.
fn explained(case: &Case<'_>, attempt: &Value, reason: &str, report: &mut Report) {
    let index = case.index;
    let known = matches!(reason, "runner_lost" | "sandbox_error");
    report.must_of("failed only for reasons that faults have", index, known, || {
        short(index, attempt)
    });
    let runner = attempt["runner"].as_str().and_then(|url| case.world.at(url));
    let Some(runner) = runner else {
        report.must_of("a lost attempt names its runner", index, false, || short(index, attempt));
        return;
    };
    let from = case.record.events.iter().map(|(at, _)| *at).min().unwrap_or_default();
    let ends = case.record.spans.iter().filter(|span| span.stand.1.ended());
    let to = ends.map(|span| span.known).min().unwrap_or_else(|| case.world.history.now());
    let from = from.saturating_sub(AFTERWARDS);
    let name = &runner.name;
    let within = || case.episodes.iter().filter(|one| one.within(from, to));
    // A delay is much shorter than anything that waits for an answer.
    let hit = within().any(|one| one.concerns(name) && one.kind != Fault::Delay);
    let away = outage(within(), case.world.history.now());
    // Leases are renewed well before they run out, so that less than a whole one may be left.
    let cause = hit || away > case.world.lease / 2;
    report.must_of("a lost attempt is explained by a fault", index, cause, || {
        format!(
            "{}; nothing was done to {name} from {from:.3?} to {to:.3?}, and no coordinator or store \
             was away for longer than {away:.3?}",
            short(index, attempt)
        )
    });
}

/// The longest time for which something was wrong all the time.
fn outage<'a>(faults: impl Iterator<Item = &'a Episode>, now: Duration) -> Duration {
    let mut spans: Vec<_> = faults.map(|one| (one.from, one.to.unwrap_or(now))).collect();
    spans.sort_unstable();
    let mut longest = Duration::ZERO;
    let mut present: Option<(Duration, Duration)> = None;
    for (from, to) in spans {
        let span = match present {
            Some((begin, end)) if from <= end + AFTERWARDS => (begin, end.max(to)),
            _ => (from, to),
        };
        longest = longest.max(span.1.saturating_sub(span.0));
        present = Some(span);
    }
    longest
}

/// The attempts before the last one.
fn attempts(case: &Case<'_>, job: &Value, report: &mut Report) {
    let index = case.index;
    let number = job["attempt"].as_u64().unwrap_or_default();
    let past = job["attempts"].as_array().cloned().unwrap_or_default();
    let complete = past.len() as u64 + 1 == number;
    report.must_of("every attempt is told", index, complete, || short(index, job));
    for attempt in &past {
        let reason = attempt["reason"].as_str().unwrap_or_default();
        let allowed =
            reason == "sandbox_error" || case.kind.may_run_again() && reason == "runner_lost";
        report.must_of("repeated only for a reason that allows it", index, allowed, || {
            format!("{}; attempt {attempt}", short(index, job))
        });
        explained(case, attempt, reason, report);
    }
    let runs = case.executions().len() as u64;
    report.must_of("no more executions than attempts", index, runs <= number, || {
        format!("{}, and {runs} executions", short(index, job))
    });
}

fn short(index: usize, job: &Value) -> String {
    let mut text = format!("job {index} ({})", job["job_id"].as_str().unwrap_or_default());
    for field in ["status", "reason", "exit_code", "attempt", "runner", "message"] {
        if !job[field].is_null() {
            text += &format!(", {field} {}", job[field]);
        }
    }
    text
}
