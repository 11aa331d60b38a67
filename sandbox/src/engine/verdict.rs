//! From what was recorded to a verdict. Pure: the whole of "why did this job end" is on this page.
//!
//! The first event decides. A kill that the platform made (`Cause`) is told as what it was; without
//! one, the kernel's own count of memory shortages comes before the way the first process ended,
//! since that kill is what ended it.

use cloister_api::{Limits, Outcome, Reason, Status, Task, Timestamp, Usage};

use crate::{
    cgroup::Shortage,
    error::{Fault, Step},
    residue::Held,
};

const SIGKILL: i32 = libc::SIGKILL;

/// Why the engine killed a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Cancelled,
    Timeout,
    CpuTime,
    Shortage(Shortage),
    /// It held that kernel memory, which is more than its memory limit leaves it.
    KernelMemory(Held),
    /// It did not come up in time.
    Stuck,
}

/// How the job's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    pub(crate) signal: i32,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub(crate) at: u64,
}

/// Everything that was recorded of one cell.
pub(crate) struct Records {
    /// The first kill that the engine made, if it made one.
    pub(crate) cause: Option<Cause>,
    /// When its time was over: `CLOCK_MONOTONIC` nanoseconds.
    pub(crate) deadline: Option<u64>,
    /// When the command was executed: `CLOCK_MONOTONIC` nanoseconds, and the wall clock.
    pub(crate) started: Option<(u64, Timestamp)>,
    pub(crate) exit: Option<Exit>,
    /// The step that failed, of making the cell or of executing the command.
    pub(crate) fault: Option<Fault>,
    /// Whether the fault is the job's own: there was a cell, and the command was not executed.
    pub(crate) not_executed: bool,
    pub(crate) shortage: Shortage,
    pub(crate) usage: Usage,
    /// When the whole cell had ended: `CLOCK_MONOTONIC` nanoseconds.
    pub(crate) ended: u64,
}

/// What ended it, in the order of the contract.
enum End {
    Cancelled,
    Exit {
        code: i32,
        signal: i32,
    },
    Killed(Reason),
    /// Of memory that its cgroup does not count.
    KernelMemory(Held),
    NotExecuted(Fault),
    NoCell(String),
}

fn end(records: &Records) -> End {
    // A timer that fired while the news of the job's own end was still on its way killed nobody.
    let in_time =
        matches!((records.exit, records.deadline), (Some(exit), Some(by)) if exit.at <= by);
    let cause = records.cause.filter(|cause| !(in_time && *cause == Cause::Timeout));
    match (cause, records.shortage) {
        (Some(Cause::Cancelled), _) => return End::Cancelled,
        (Some(Cause::Timeout), _) => return End::Killed(Reason::Timeout),
        (Some(Cause::CpuTime), _) => return End::Killed(Reason::CpuTime),
        (Some(Cause::KernelMemory(held)), _) => return End::KernelMemory(held),
        (Some(Cause::Stuck), _) => return End::NoCell("it was not ready in time".into()),
        (Some(Cause::Shortage(Shortage::Own)), _) | (None, Shortage::Own) => {
            return End::Killed(Reason::OutOfMemory);
        }
        (Some(Cause::Shortage(_)), _) | (None, Shortage::Foreign) => {
            return End::Killed(Reason::RunnerOutOfMemory);
        }
        (None, Shortage::None) => {}
    }
    match (records.exit, records.fault) {
        (Some(exit), _) => End::Exit { code: exit.code, signal: exit.signal },
        (None, Some(fault)) if records.not_executed => End::NotExecuted(fault),
        (None, Some(fault)) => End::NoCell(fault.to_string()),
        // Its PID 1 was killed by somebody else on the host, and everything with it.
        (None, None) if records.started.is_some() => {
            End::Exit { code: 128 + SIGKILL, signal: SIGKILL }
        }
        (None, None) => End::NoCell("it ended before the command was executed".into()),
    }
}

/// The outcome of a cell. `truncated` tells of both streams whether more was written than taken, where
/// they were ours to take.
pub(crate) fn outcome(
    task: &Task,
    records: Records,
    truncated: Option<[bool; 2]>,
    not_enforced: Vec<String>,
) -> Outcome {
    let end = end(&records);
    let ran = records.started.is_some();
    // Whether a command was executed, or at least tried: else there is nothing to tell of it.
    let tried = ran || matches!(end, End::NotExecuted(_));
    let (status, reason, message, exit_code, signal) = tell(end, task, ran);
    let stopped = records.exit.map_or(records.ended, |exit| exit.at);
    let [stdout_truncated, stderr_truncated] =
        truncated.filter(|_| tried).map_or([None; 2], |streams| streams.map(Some));
    Outcome {
        exit_code,
        signal,
        started_at: records.started.map(|(_, wall)| wall),
        runtime_ms: records.started.map(|(at, _)| milliseconds(stopped.saturating_sub(at))),
        usage: tried.then_some(records.usage),
        not_enforced,
        stdout_truncated,
        stderr_truncated,
        ..Outcome::never_ran(status, reason, "")
    }
    .with_message(message)
}

/// Status, reason, message, exit code and signal.
type Told = (Status, Option<Reason>, Option<String>, Option<i32>, Option<i32>);

fn tell(end: End, task: &Task, ran: bool) -> Told {
    let failed = |reason, message: String, code, signal| {
        (Status::Failed, Some(reason), Some(message), code, signal)
    };
    let killed = (Some(128 + SIGKILL), Some(SIGKILL));
    match end {
        End::Cancelled if ran => (
            Status::Cancelled,
            None,
            Some("it was cancelled and killed".into()),
            killed.0,
            killed.1,
        ),
        End::Cancelled => {
            (Status::Cancelled, None, Some("it was cancelled before it ran".into()), None, None)
        }
        End::Exit { code: 0, .. } => (Status::Completed, None, None, Some(0), None),
        End::Exit { code, signal: 0 } => {
            let message = format!("the command ended with exit code {code}");
            failed(Reason::ExitCode, message, Some(code), None)
        }
        End::Exit { code, signal } => {
            failed(Reason::Signal, signal_message(signal), Some(code), Some(signal))
        }
        End::Killed(reason) => failed(reason, kill_message(reason, task), killed.0, killed.1),
        End::KernelMemory(held) => {
            let message = held.message(task.limits.memory);
            failed(Reason::OutOfMemory, message, killed.0, killed.1)
        }
        End::NotExecuted(fault) => {
            // As a shell tells them apart: what is not there, and what can't be executed.
            let code = if matches!(fault.errno, libc::ENOENT | libc::ENOTDIR) { 127 } else { 126 };
            failed(Reason::ExitCode, not_executed_message(fault, task), Some(code), None)
        }
        // It may not be told as one that never ran: that would be run again.
        End::NoCell(detail) if ran => {
            let message = format!("the runner lost its hold on the cell and killed it: {detail}");
            failed(Reason::RunnerLost, message, None, None)
        }
        End::NoCell(detail) => {
            let message =
                format!("the cell could not be made, and the command never ran: {detail}");
            failed(Reason::SandboxError, message, None, None)
        }
    }
}

/// The outcome of a job whose command could not be laid out for its cell.
pub(crate) fn not_laid_out(error: &std::io::Error) -> Outcome {
    let message = format!("the command could not be laid out: {error}");
    Outcome::never_ran(Status::Failed, Some(Reason::SandboxError), message)
}

/// The outcome of a job whose launcher is gone, and every cell with it.
pub(crate) fn launcher_gone(started: bool) -> Outcome {
    let (reason, message) = if started {
        (Reason::RunnerLost, "the runner's launcher ended, and every cell with it")
    } else {
        (Reason::SandboxError, "the runner's launcher has ended, and no cell can be made")
    };
    Outcome::never_ran(Status::Failed, Some(reason), message)
}

fn signal_message(signal: i32) -> String {
    let name = nix::sys::signal::Signal::try_from(signal)
        .map_or_else(|_| signal.to_string(), |s| s.to_string());
    format!("the command was ended by signal {name}")
}

fn kill_message(reason: Reason, task: &Task) -> String {
    let Limits { memory, cpu_time, .. } = &task.limits;
    match (reason, cpu_time) {
        (Reason::Timeout, _) => {
            format!("it ran longer than its timeout of {} and was killed", task.timeout)
        }
        (Reason::CpuTime, Some(limit)) => {
            format!("it used up its CPU time of {limit} and was killed")
        }
        (Reason::OutOfMemory, _) => {
            format!("it needed more than its memory of {memory} and was killed")
        }
        _ => "the runner's own memory ran out, not the job's limit, and the job was killed".into(),
    }
}

fn not_executed_message(fault: Fault, task: &Task) -> String {
    let why = std::io::Error::from_raw_os_error(fault.errno);
    let why = why.to_string();
    // "No such file or directory (os error 2)" is for programmers.
    let why = why.split(" (os error").next().unwrap_or_default().to_lowercase();
    match fault.step {
        Step::Directory => {
            format!("the working directory {:?} could not be entered: {why}", task.cwd)
        }
        Step::Exec => {
            let argv = task.program.argv();
            let program = argv.first().map_or("", String::as_str);
            format!("{program:?} could not be executed: {why}")
        }
        _ => fault.to_string(),
    }
}

/// Nanoseconds as milliseconds, to the microsecond.
#[expect(clippy::cast_precision_loss, reason = "exact up to 285 years")]
fn milliseconds(ns: u64) -> f64 {
    (ns / 1000) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use cloister_api::{ByteSize, Program};

    use super::*;

    fn records() -> Records {
        Records {
            cause: None,
            deadline: Some(3_500_000),
            started: Some((1_000_000, Timestamp(0))),
            exit: Some(Exit { code: 0, signal: 0, at: 3_500_000 }),
            fault: None,
            not_executed: false,
            shortage: Shortage::None,
            usage: Usage::default(),
            ended: 9_000_000,
        }
    }

    fn judge(records: Records) -> Outcome {
        let mut task = Task::new(Program::Argv(vec!["nosuch".into()]));
        task.limits.memory = ByteSize::mib(64);
        outcome(&task, records, Some([false, true]), Vec::new())
    }

    const KILLED: Option<Exit> = Some(Exit { code: 137, signal: 9, at: 2_000_000 });

    #[test]
    fn a_job_that_ends_well_is_completed() {
        let outcome = judge(records());
        assert_eq!((outcome.status, outcome.exit_code), (Status::Completed, Some(0)));
        assert_eq!(outcome.runtime_ms, Some(2.5));
        assert_eq!(outcome.message, None);
    }

    #[test]
    fn a_sigkill_of_its_own_is_a_signal() {
        let outcome = judge(Records { exit: KILLED, ..records() });
        assert_eq!(outcome.reason, Some(Reason::Signal));
        assert_eq!((outcome.exit_code, outcome.signal), (Some(137), Some(9)));
    }

    #[test]
    fn our_kill_is_told_as_what_it_was_and_the_first_decides() {
        for (cause, reason) in [
            (Cause::Timeout, Reason::Timeout),
            (Cause::CpuTime, Reason::CpuTime),
            (Cause::Shortage(Shortage::Own), Reason::OutOfMemory),
            (Cause::Shortage(Shortage::Foreign), Reason::RunnerOutOfMemory),
        ] {
            // A shortage that comes while it dies changes nothing.
            let outcome = judge(Records {
                cause: Some(cause),
                exit: None,
                shortage: Shortage::Own,
                ..records()
            });
            assert_eq!(outcome.reason, Some(reason));
            assert_eq!((outcome.exit_code, outcome.signal), (Some(137), Some(9)));
        }
    }

    #[test]
    fn kernel_memory_that_no_cgroup_counts_is_a_want_of_memory() {
        let cause = Some(Cause::KernelMemory(Held { locks: 400_000, sockets: 0 }));
        let outcome = judge(Records { cause, exit: None, ..records() });
        assert_eq!(outcome.reason, Some(Reason::OutOfMemory));
        assert_eq!((outcome.exit_code, outcome.signal), (Some(137), Some(9)));
        let message = outcome.message.unwrap();
        assert!(message.contains("73 MiB of kernel memory that its limit of 64MiB"), "{message}");
        assert!(message.contains("400,000 file locks"), "{message}");
    }

    #[test]
    fn a_timer_that_fired_after_the_end_decides_nothing() {
        let cause = Some(Cause::Timeout);
        assert_eq!(judge(Records { cause, ..records() }).status, Status::Completed);
        let late = judge(Records { cause, deadline: Some(3_499_999), ..records() });
        assert_eq!(late.reason, Some(Reason::Timeout));
    }

    #[test]
    fn a_shortage_decides_even_when_the_parent_lived_on() {
        let outcome = judge(Records { shortage: Shortage::Own, ..records() });
        assert_eq!(outcome.reason, Some(Reason::OutOfMemory));
        let outcome = judge(Records { shortage: Shortage::Foreign, exit: None, ..records() });
        assert_eq!(outcome.reason, Some(Reason::RunnerOutOfMemory));
    }

    #[test]
    fn a_program_that_is_not_there_is_the_jobs_failure() {
        let fault = |step, errno| Records {
            started: None,
            exit: None,
            fault: Some(Fault { step, errno }),
            not_executed: true,
            ..records()
        };
        let outcome = judge(fault(Step::Exec, libc::ENOENT));
        assert_eq!((outcome.reason, outcome.exit_code), (Some(Reason::ExitCode), Some(127)));
        assert_eq!(
            outcome.message.unwrap(),
            "\"nosuch\" could not be executed: no such file or directory"
        );
        assert_eq!(outcome.usage, Some(Usage::default()));
        assert_eq!((outcome.stdout_truncated, outcome.stderr_truncated), (Some(false), Some(true)));
        let outcome = judge(fault(Step::Exec, libc::EACCES));
        assert_eq!((outcome.reason, outcome.exit_code), (Some(Reason::ExitCode), Some(126)));
    }

    #[test]
    fn a_cell_that_was_not_made_never_ran_the_command() {
        let fault = Some(Fault { step: Step::Scratch, errno: libc::ENOMEM });
        let outcome = judge(Records { started: None, exit: None, fault, ..records() });
        assert_eq!(outcome.reason, Some(Reason::SandboxError));
        assert_eq!((outcome.exit_code, outcome.runtime_ms), (None, None));
        assert_eq!((outcome.stdout_truncated, outcome.usage), (None, None));
    }

    #[test]
    fn a_command_that_ran_is_never_told_as_one_that_did_not() {
        let fault = Some(Fault { step: Step::Adopt, errno: libc::ENOMEM });
        for records in [
            Records { exit: None, fault, ..records() },
            Records { exit: None, cause: Some(Cause::Stuck), ..records() },
        ] {
            assert_eq!(judge(records).reason, Some(Reason::RunnerLost));
        }
    }

    #[test]
    fn cancelling_before_and_after_the_start() {
        let cause = Some(Cause::Cancelled);
        let outcome = judge(Records { cause, exit: None, ..records() });
        assert_eq!((outcome.status, outcome.exit_code), (Status::Cancelled, Some(137)));
        let outcome = judge(Records { cause, exit: None, started: None, ..records() });
        assert_eq!((outcome.status, outcome.exit_code), (Status::Cancelled, None));
    }
}
