//! The bodies of `POST /jobs` and `POST /execute`: the first byte says which, and whose maxima hold.
#![no_main]

mod checks;

use checks::{check_again, check_problem};
use cloister_api::{
    Bounds, ByteSize, ExecuteRequest, JobRequest, Limits, MAX_EPOCH, MAX_LEASE, Program, Seconds,
    Task,
};
use libfuzzer_sys::fuzz_target;

/// The longest that a CPU time can be where no operator says so: a century.
const LONGEST: Seconds = Seconds::new(100 * 365 * 24 * 3600);

fuzz_target!(|data: &[u8]| {
    let Some((&which, body)) = data.split_first() else { return };
    let max = if which & 2 == 0 { Bounds::default() } else { narrow() };
    if which & 1 == 0 {
        match JobRequest::parse(body, &max) {
            Ok(job) => {
                assert!((-100..=100).contains(&job.priority) && job.retries <= 10);
                assert!(job.labels.len() <= 64);
                assert!(job.labels.iter().all(|(name, value)| name.len().max(value.len()) <= 1024));
                check_task(&job.task, &max);
                check_again(&job, |body| JobRequest::parse(body, &max));
            }
            Err(problem) => check_problem(&problem),
        }
    } else {
        match ExecuteRequest::parse(body, &max) {
            Ok(execution) => {
                assert!(execution.attempt != Some(0));
                assert!(execution.lease.is_none_or(|lease| lease <= MAX_LEASE));
                assert!(execution.epoch.is_none_or(|epoch| epoch <= MAX_EPOCH));
                check_task(&execution.task, &max);
                check_again(&execution, |body| ExecuteRequest::parse(body, &max));
            }
            Err(problem) => check_problem(&problem),
        }
    }
});

fn narrow() -> Bounds {
    Bounds {
        timeout: Seconds::new(10),
        cpus: 2.0,
        memory: ByteSize::mib(64),
        pids: 16,
        disk: ByteSize::mib(8),
        output: ByteSize(1000),
        cpu_time: Some(Seconds::new(5)),
        open_files: 64,
    }
}

/// What was accepted is within an operator's maxima and what the kernel takes.
fn check_task(task: &Task, max: &Bounds) {
    let Limits { cpus, memory, pids, disk, output, cpu_time, open_files } = &task.limits;
    assert!(task.timeout <= max.timeout && !task.timeout.0.is_zero());
    assert!((0.01..=max.cpus).contains(cpus));
    assert!((ByteSize::mib(1)..=max.memory).contains(memory));
    assert!((1..=max.pids).contains(pids));
    assert!((ByteSize(4096)..=max.disk).contains(disk));
    assert!(*output <= max.output);
    assert!((3..=max.open_files).contains(open_files));
    assert!(cpu_time.is_none_or(|time| !time.0.is_zero() && time <= LONGEST));
    // An operator's maximum holds also for those who name no limit.
    assert!(max.cpu_time.is_none_or(|most| cpu_time.is_some_and(|time| time <= most)));

    let argv = task.program.argv();
    assert!(argv.first().is_some_and(|program| !program.is_empty()));
    if let Program::Command(line) = &task.program {
        assert!(!line.is_empty());
    }
    let strings = argv.iter().chain(task.env.values()).chain(task.env.keys()).chain([&task.cwd]);
    assert!(strings.clone().all(|text| !text.contains('\0')));
    assert!(strings.map(String::len).sum::<usize>() <= 2 << 20);
    assert!(task.env.keys().all(|name| !name.is_empty() && !name.contains('=')));
    assert!((1..4096).contains(&task.cwd.len()));
    assert!(task.stdin.stdin.is_none() || task.stdin.stdin_base64.is_none());
    let given = task.stdin.stdin_base64.as_ref().is_some_and(|base64| !base64.is_empty());
    assert!(!given || !task.stdin.bytes().is_empty());
}
