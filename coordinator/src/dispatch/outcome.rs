//! Whether what a runner says of an execution's end can be true.
//!
//! A runner is another machine, perhaps of another version, perhaps broken. An outcome that contradicts
//! itself, or is larger than the job's limits allow, is treated like an answer that makes no sense: it
//! counts against the runner and is never recorded. A message that is only too long is cut.

use cloister_api::{Limits, Outcome, Status};

use crate::store::Stream;

/// Bytes of a message that are kept: it is one sentence.
const MAX_MESSAGE: usize = 4 << 10;
/// What a host may fail to enforce: a handful of names.
const MAX_NOT_ENFORCED: usize = 64;
const MAX_NAME: usize = 256;
/// The highest signal of Linux (signal(7)).
const MAX_SIGNAL: i32 = 64;

/// The outcome as it may be recorded, or what is wrong with it.
pub(super) fn checked(mut outcome: Outcome, limits: &Limits) -> Result<Outcome, String> {
    verdict(&outcome)?;
    codes(&outcome)?;
    numbers(&outcome)?;
    outputs(&outcome, limits)?;
    let names = &outcome.not_enforced;
    if names.len() > MAX_NOT_ENFORCED || names.iter().any(|name| name.len() > MAX_NAME) {
        return Err("an outcome with a not_enforced that is too long".into());
    }
    outcome.message = outcome.message.map(shortened);
    Ok(outcome)
}

/// Each status has a reason or has none.
fn verdict(outcome: &Outcome) -> Result<(), String> {
    let status = outcome.status.as_str();
    match (outcome.status, outcome.reason) {
        (Status::Failed, Some(_)) | (Status::Completed | Status::Cancelled, None) => Ok(()),
        (Status::Failed, None) => Err("an outcome that is failed, without a reason".into()),
        (Status::Pending | Status::Running, _) => Err(format!("an outcome that is {status}")),
        (_, Some(reason)) => {
            Err(format!("an outcome that is {status}, with the reason {}", reason.as_str()))
        }
    }
}

fn codes(outcome: &Outcome) -> Result<(), String> {
    let (code, signal) = (outcome.exit_code, outcome.signal);
    if let Some(code) = code.filter(|code| !(0..=255).contains(code)) {
        return Err(format!("an outcome with the exit code {code}"));
    }
    if let Some(signal) = signal.filter(|signal| !(1..=MAX_SIGNAL).contains(signal)) {
        return Err(format!("an outcome with the signal {signal}"));
    }
    if outcome.status == Status::Completed && (code, signal) != (Some(0), None) {
        let code = code.map_or("none".into(), |code| code.to_string());
        return Err(format!("an outcome that is completed, with the exit code {code}"));
    }
    if let Some(signal) = signal
        && code != Some(128 + signal)
    {
        return Err(format!("an outcome with the signal {signal} and not the exit code of it"));
    }
    Ok(())
}

fn numbers(outcome: &Outcome) -> Result<(), String> {
    let usage = outcome.usage.as_ref();
    let used =
        usage.map(|usage| [usage.cpu_ms, usage.user_ms, usage.system_ms, usage.throttled_ms]);
    let all = used.into_iter().flatten().chain([outcome.runtime_ms]).flatten();
    match all.into_iter().find(|ms| !ms.is_finite() || *ms < 0.0) {
        Some(ms) => Err(format!("an outcome with a time of {ms} ms")),
        None => Ok(()),
    }
}

/// Each byte of an output may take three as text: it becomes U+FFFD where it is not UTF-8.
fn outputs(outcome: &Outcome, limits: &Limits) -> Result<(), String> {
    let limit = usize::try_from(limits.output.0).unwrap_or(usize::MAX);
    for (name, text, base64) in [
        ("stdout", &outcome.stdout, &outcome.stdout_base64),
        ("stderr", &outcome.stderr, &outcome.stderr_base64),
    ] {
        let most = if base64.is_some() { limit.saturating_mul(3) } else { limit };
        let most_base64 = limit.div_ceil(3).saturating_mul(4);
        let long = |text: &Option<String>, most| text.as_ref().is_some_and(|t| t.len() > most);
        if long(text, most) || long(base64, most_base64) {
            return Err(format!(
                "an outcome with more {name} than the job's limit of {limit} bytes"
            ));
        }
    }
    let Some(bytes) = outcome.output_bytes else { return Ok(()) };
    if outcome.stdout.is_some() || outcome.stderr.is_some() {
        return Err("an outcome whose output is both in it and apart".into());
    }
    for stream in Stream::BOTH {
        let (name, length) = (stream.as_str(), stream.of(bytes));
        if length > limits.output.0 {
            return Err(format!(
                "an outcome with {length} bytes of {name}, beyond the job's limit"
            ));
        }
    }
    Ok(())
}

fn shortened(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE - '…'.len_utf8()));
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use cloister_api::{Bounds, ByteSize, Output, Reason, Usage};

    use super::*;

    fn limits() -> Limits {
        Limits { output: ByteSize(8), ..Limits::within(&Bounds::default()) }
    }

    fn ended(status: Status, reason: Option<Reason>, code: Option<i32>) -> Outcome {
        Outcome { exit_code: code, ..Outcome::never_ran(status, reason, "it ended") }
    }

    fn completed() -> Outcome {
        ended(Status::Completed, None, Some(0))
    }

    #[test]
    fn what_runners_say_passes() {
        let killed =
            Outcome { signal: Some(9), ..ended(Status::Failed, Some(Reason::Timeout), Some(137)) };
        let printed = completed()
            .with_output(Output::new(b"12345678".into(), true), Output::new(vec![0xff; 8], false));
        for outcome in [
            completed(),
            printed,
            killed.clone(),
            Outcome { status: Status::Cancelled, reason: None, ..killed },
            ended(Status::Cancelled, None, None),
            ended(Status::Failed, Some(Reason::ExitCode), Some(255)),
            ended(Status::Failed, Some(Reason::SandboxError), None),
            ended(Status::Failed, Some(Reason::RunnerLost), None),
        ] {
            assert_eq!(checked(outcome.clone(), &limits()), Ok(outcome));
        }
    }

    #[test]
    fn what_contradicts_itself_does_not() {
        let reason = Some(Reason::ExitCode);
        let usage = Some(Usage { cpu_ms: Some(-1.0), ..Usage::default() });
        let nine = Output::new(b"123456789".into(), false);
        let nine_bytes = Output::new(vec![0xff; 10], false);
        let not_enforced = vec!["x".into(); MAX_NOT_ENFORCED + 1];
        for (outcome, why) in [
            (ended(Status::Completed, reason, Some(0)), "completed, with the reason exit_code"),
            (ended(Status::Cancelled, reason, None), "cancelled, with the reason exit_code"),
            (ended(Status::Failed, None, Some(1)), "without a reason"),
            (ended(Status::Running, None, None), "is running"),
            (ended(Status::Completed, None, Some(1)), "completed, with the exit code 1"),
            (ended(Status::Completed, None, None), "completed, with the exit code none"),
            (Outcome { signal: Some(9), ..completed() }, "completed"),
            (ended(Status::Failed, reason, Some(256)), "exit code 256"),
            (ended(Status::Failed, reason, Some(-1)), "exit code -1"),
            (
                Outcome { signal: Some(9), ..ended(Status::Failed, reason, Some(1)) },
                "signal 9 and not",
            ),
            (
                Outcome { signal: Some(0), ..ended(Status::Failed, reason, Some(128)) },
                "the signal 0",
            ),
            (Outcome { runtime_ms: Some(-1.0), ..completed() }, "-1 ms"),
            (Outcome { usage, ..completed() }, "-1 ms"),
            (completed().with_output(nine, Output::default()), "more stdout"),
            (completed().with_output(Output::default(), nine_bytes), "more stderr"),
            (Outcome { not_enforced, ..completed() }, "not_enforced"),
        ] {
            let refused = checked(outcome, &limits()).unwrap_err();
            assert!(refused.contains(why), "{refused} and not {why}");
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_cut() {
        let told =
            checked(completed().with_message(Some("ä".repeat(10 << 20))), &limits()).unwrap();
        let message = told.message.unwrap();
        assert!(message.len() <= MAX_MESSAGE && message.len() > MAX_MESSAGE - 4);
        assert!(message.ends_with("ä…"), "{}", message.len());
    }
}
