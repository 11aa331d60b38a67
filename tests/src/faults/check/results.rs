//! How jobs ended, against what they reported and what was done to them.

use std::{collections::BTreeSet, fmt::Write, time::Duration};

use serde_json::Value;

use super::{
    super::{
        history::{Episode, What},
        jobs::{Jobs, Kind},
        plan::Kind as Fault,
        report::Report,
    },
    Case,
    executions::Execution,
};

/// A fault may show its effect so much later than it was over.
const AFTERWARDS: Duration = Duration::from_secs(1);
/// What a result says whose output is not all there.
const MISSING: &str = "a part of its output is missing";
/// By when its coordinators have fetched the output of an execution that has ended, or given it up.
const HANDED_OVER: Duration = Duration::from_secs(60);
/// A wish for an end has come true after so long, where nothing is in its way.
const CALLED_OFF: Duration = Duration::from_secs(5);

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
            let asked = case.cancelled();
            report.must_of("cancelled only if asked", index, asked, || short(index, job));
        }
        _ => {}
    }
    attempts(case, job, report);
}

fn completed(case: &Case<'_>, job: &Value, report: &mut Report) {
    let index = case.index;
    witnessed(case, job, 0, report);
    called_off(case, job, report);
    let code = job["exit_code"] == 0 && case.kind.code() == 0;
    report.must_of("completed: exit code 0", index, code, || short(index, job));
    output(case, job, report);
}

/// A wish for an end that was acknowledged comes true, also if its coordinator goes away.
fn called_off(case: &Case<'_>, job: &Value, report: &mut Report) {
    let wish = case.record.events.iter().find(|(_, what)| matches!(what, What::Cancelled { .. }));
    let end = case.executions.iter().filter_map(|one| one.ended).map(|(at, _)| at).max();
    let (Some((wish, _)), Some(end)) = (wish, end) else {
        return;
    };
    // Before that it may have ended by itself, or nobody could tell its runner.
    let faults = case.context.episodes.iter().filter(|one| one.within(*wish, end));
    let late = end.saturating_sub(*wish) > outage(faults, end) + CALLED_OFF;
    report.must_of("what was cancelled does not complete", case.index, !late, || {
        format!(
            "{}; cancelled at {wish:.3?}, and its end came at {end:.3?}",
            short(case.index, job)
        )
    });
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
    witnessed(case, job, code.unwrap_or(-1), report);
    output(case, job, report);
}

/// The recorder heard of this end, and from the runner that the job names.
fn witnessed(case: &Case<'_>, job: &Value, code: i64, report: &mut Report) {
    let runner = job["runner"].as_str().and_then(case.context.runner);
    let ended = |one: &Execution| one.ended.is_some_and(|(_, told)| told == code);
    let known =
        case.executions.iter().any(|one| ended(one) && Some(&one.runner) == runner.as_ref());
    report.must_of("a told end was witnessed", case.index, known, || {
        let told: Vec<String> = case.executions.iter().map(ToString::to_string).collect();
        format!("{}, and the recorder heard of [{}]", short(case.index, job), told.join("; "))
    });
}

/// Its output is what the execution wrote.
fn output(case: &Case<'_>, job: &Value, report: &mut Report) {
    let index = case.index;
    let (stdout, truncated) = case.context.jobs.stdout(index);
    if job["message"].as_str().is_some_and(|message| message.contains(MISSING)) {
        return lost_output(case, job, &stdout, report);
    }
    let right = job["stdout"] == stdout.as_str()
        && job["stdout_truncated"].as_bool() == Some(truncated)
        && job["stderr"] == case.context.jobs.stderr(index).as_str();
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

/// A verdict came without all of its output, which is no more than its runner took along: a part of it, told
/// as one.
fn lost_output(case: &Case<'_>, job: &Value, stdout: &str, report: &mut Report) {
    let index = case.index;
    let part = job["stdout"].as_str().is_some_and(|part| stdout.starts_with(part));
    let told = job["stdout_truncated"] == true || job["stderr_truncated"] == true;
    report.must_of("output that is missing is told", index, part && told, || short(index, job));
    let runner = job["runner"].as_str().and_then(case.context.runner);
    let ended = case.context.time(&job["finished_at"]);
    let hit = runner.zip(ended).is_some_and(|(name, at)| {
        let (from, to) = (at.saturating_sub(AFTERWARDS), at + HANDED_OVER);
        let mut within = case.context.episodes.iter().filter(|one| one.within(from, to));
        within.any(|one| one.concerns(&name))
    });
    report.must_of("output is missing only after a fault", index, hit, || short(index, job));
}

/// An attempt that failed by the platform's doing: some fault must have hit its runner meanwhile, or
/// kept all coordinators from it for so long that its lease ran out.
fn explained(case: &Case<'_>, attempt: &Value, reason: &str, report: &mut Report) {
    let index = case.index;
    let known = matches!(reason, "runner_lost" | "sandbox_error");
    report.must_of("failed only for reasons that faults have", index, known, || {
        short(index, attempt)
    });
    let runner = attempt["runner"].as_str().and_then(case.context.runner);
    report.must_of("a lost attempt names its runner", index, runner.is_some(), || {
        short(index, attempt)
    });
    let ended = case.context.time(&attempt["finished_at"]);
    report.must_of("a lost attempt tells when it ended", index, ended.is_some(), || {
        short(index, attempt)
    });
    let (Some(name), Some(to)) = (runner, ended) else {
        return;
    };
    // From its last start there, if it had one; else from its acceptance.
    let here = |one: &&Execution| one.runner == name && one.began <= to;
    let began = case.executions.iter().rev().find(here).map(|one| one.began);
    let first = || case.record.events.iter().map(|(at, _)| *at).min().unwrap_or_default();
    let from = began.unwrap_or_else(first).saturating_sub(AFTERWARDS);
    let within = || case.context.episodes.iter().filter(|one| one.within(from, to));
    // A delay is much shorter than anything that waits for an answer.
    let hit = within().any(|one| one.concerns(&name) && one.kind != Fault::Delay);
    let away = outage(within(), to);
    // Leases are renewed well before they run out, so that less than a whole one may be left.
    let explained = hit || away > case.context.lease / 2;
    report.must_of("a lost attempt is explained by a fault", index, explained, || {
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
    let runs = case.executions.len() as u64;
    report.must_of("no more executions than attempts", index, runs <= number, || {
        format!("{}, and {runs} executions", short(index, job))
    });
}

/// After all were asked to end, with a grace time that is longer than these jobs: none of them was given
/// up, unless it sleeps for longer.
pub(in super::super) fn finished_in_time(
    jobs: &Jobs,
    which: std::ops::Range<usize>,
    last: &[Option<Result<Value, String>>],
    report: &mut Report,
) {
    for index in which.filter(|index| !matches!(jobs.kind(*index), Kind::Cancel(_))) {
        let Some(Some(Ok(job))) = last.get(index) else {
            continue;
        };
        let given_up = |attempt: &Value| attempt["reason"] == "runner_lost";
        let before = job["attempts"].as_array().is_some_and(|all| all.iter().any(given_up));
        let none = !given_up(job) && !before;
        report.must_of("SIGTERM: what runs may finish", index, none, || short(index, job));
    }
}

fn short(index: usize, job: &Value) -> String {
    let mut text = format!("job {index} ({})", job["job_id"].as_str().unwrap_or_default());
    for field in ["status", "reason", "exit_code", "attempt", "runner", "message"] {
        if !job[field].is_null() {
            let _ = write!(text, ", {field} {}", job[field]);
        }
    }
    text
}
