//! `submit --wait`, `wait` and `cancel`.

use std::{
    io::Read,
    process::Stdio,
    sync::{
        Mutex,
        mpsc::{channel, sync_channel},
    },
};

use cloister_api::{Job, Reason, Status};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    fake::{Fake, Reply, ended, pending, text, with_jobs},
    pty::at_terminal,
};

#[test]
fn a_job_s_exact_bytes_come_out() {
    let mut job = ended(None, 0, "caf\u{fffd}\n", "\x1b[2Jraw");
    job.stdout_base64 = Some("Y2Fm6Qo=".into());
    let fake = with_jobs(vec![job.clone()]);
    let output = fake.run(&["submit", "--wait", "--", "true"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, b"caf\xe9\n");
    assert_eq!(output.stderr, b"\x1b[2Jraw");
    assert_eq!(fake.calls(), ["POST /jobs".into(), format!("GET /jobs/{}?wait=60", job.job_id)]);
}

fn never_ran() -> Job {
    let mut job = pending("true");
    job.status = Status::Failed;
    job.reason = Some(Reason::SandboxError);
    job.message = Some("no cell could be made".into());
    job
}

fn cancelled() -> Job {
    let mut job = pending("true");
    job.status = Status::Cancelled;
    job
}

#[test]
fn the_exit_code_is_the_job_s() {
    for (job, code, remark) in [
        (ended(None, 0, "", ""), 0, ""),
        (ended(Some(Reason::ExitCode), 3, "", ""), 3, ""),
        (ended(Some(Reason::Signal), 139, "", ""), 139, "failed (signal): this is how it ended"),
        (ended(Some(Reason::Timeout), 137, "", ""), 124, "failed (timeout): this is how it ended"),
        (ended(Some(Reason::OutOfMemory), 137, "", ""), 137, "failed (out_of_memory)"),
        (never_ran(), 125, "failed (sandbox_error): no cell could be made"),
        (cancelled(), 125, "was cancelled"),
    ] {
        let id = job.job_id.to_string();
        let fake = with_jobs(vec![job]);
        let submitted = fake.run(&["submit", "--wait", "--", "true"]);
        assert_eq!(submitted.status.code(), Some(code), "{remark}");
        assert_eq!(text(&submitted.stdout), "", "{remark}");
        let told = text(&submitted.stderr);
        assert!(told.contains(remark) && told.is_empty() == remark.is_empty(), "{told}");
        let waited = fake.run(&["wait", &id]);
        assert_eq!(waited.status.code(), Some(code), "{remark}");
        assert_eq!(text(&waited.stdout), "");
        assert_eq!(waited.stderr.is_empty(), code == 0, "{}", text(&waited.stderr));
    }
}

#[test]
fn what_the_output_does_not_show_is_said() {
    let mut job = ended(None, 0, "a", "");
    job.stdout_truncated = Some(true);
    job.stderr_truncated = Some(false);
    job.not_enforced = vec!["memory".into(), "pids".into()];
    let output = with_jobs(vec![job]).run(&["submit", "--wait", "--", "true"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), "a");
    assert_eq!(
        text(&output.stderr),
        "cloister: the job wrote more to stdout than the 1MiB that are kept\n\
         cloister: its host did not enforce memory, pids\n"
    );
}

#[test]
fn a_terminal_shows_output_without_obeying_it() {
    let job = ended(None, 0, "\x1b[32mgreen\x1b[0m\n\x1b]0;title\x07\x1b[2J", "");
    let fake = with_jobs(vec![job]);
    let (status, shown) = at_terminal(fake.client(&["submit", "--wait", "--", "true"]), 80);
    assert!(status.success());
    assert!(shown.contains("\x1b[32mgreen\x1b[0m\n"), "{shown:?}");
    assert!(shown.contains(r"\u{1b}]0;title\u{7}\u{1b}[2J"), "{shown:?}");
    assert!(!shown.contains("\x1b]") && !shown.contains("\x1b[2J"), "{shown:?}");
}

#[test]
fn a_wait_goes_on_until_the_job_has_ended() {
    let job = ended(Some(Reason::ExitCode), 7, "", "");
    let mut running = job.clone();
    running.status = Status::Running;
    let id = job.job_id.to_string();
    let fake =
        Fake::start(move |_, number| Reply::json(200, if number < 2 { &running } else { &job }));
    let output = fake.run(&["wait", &id]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(fake.calls(), vec![format!("GET /jobs/{id}?wait=60"); 3]);
}

#[test]
fn a_person_sees_what_is_waited_for_and_no_trace_of_it_stays() {
    let mut waiting = pending("true");
    waiting.pending_reason = Some("all slots are \x1b[2Jtaken".into());
    let job = ended(None, 0, "done\n", "");
    let fake = Fake::start(move |seen, number| match number {
        0 => Reply::json(201, &waiting),
        1 => {
            assert!(seen.call.ends_with("?wait=2"), "often enough to look at: {}", seen.call);
            Reply::json(200, &waiting)
        }
        _ => Reply::json(200, &job),
    });
    let (status, shown) = at_terminal(fake.client(&["submit", "--wait", "--", "true"]), 120);
    assert!(status.success());
    assert!(shown.contains(r"s: all slots are \u{1b}[2Jtaken"), "{shown:?}");
    assert!(shown.ends_with("\r\x1b[Kdone\n"), "{shown:?}");
}

#[test]
fn a_wait_survives_a_coordinator_that_goes_away() {
    let job = ended(None, 0, "", "");
    let id = job.job_id.to_string();
    let fake = Fake::start_after_drops(1, move |_, _| Reply::json(200, &job));
    let output = fake.run(&["wait", &id]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn several_jobs_are_waited_for_whatever_is_wrong_with_one() {
    let good = ended(None, 0, "", "");
    let bad = ended(Some(Reason::ExitCode), 3, "", "");
    let (good_id, bad_id) = (good.job_id.to_string(), bad.job_id.to_string());
    let unknown = "0198c0de-0000-7000-8000-000000000000";
    let fake = with_jobs(vec![good, bad]);
    assert_eq!(fake.run(&["wait", &good_id, &good_id]).status.code(), Some(0));

    let failed = fake.run(&["wait", &bad_id, &good_id]);
    assert_eq!(failed.status.code(), Some(1), "and not 3");
    assert!(text(&failed.stderr).contains(&bad_id), "{}", text(&failed.stderr));
    assert!(!text(&failed.stderr).contains(&good_id), "{}", text(&failed.stderr));

    let before = fake.calls().len();
    let missing = fake.run(&["wait", unknown, &good_id]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("there is no such job"));
    assert_eq!(fake.calls().len(), before + 2, "the second was waited for too");
}

#[test]
fn ctrl_c_ends_the_wait_and_not_the_job() {
    let job = pending("true");
    let id = job.job_id;
    let (asked, was_asked) = sync_channel(1);
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let fake = Fake::start(move |seen, _| {
        if seen.call.starts_with("GET") {
            asked.send(()).unwrap();
            // Until the test is over.
            let _ = released.lock().unwrap().recv();
        }
        Reply::json(200, &job)
    });
    let mut command = fake.client(&["submit", "--wait", "--", "true"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    was_asked.recv().unwrap();
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains(&format!("cloister cancel {id}")), "{told}");
    assert!(fake.calls().iter().all(|call| !call.starts_with("DELETE")));
    drop(release);
}

#[test]
fn jobs_are_cancelled_and_what_had_ended_is_said() {
    let mut running = pending("true");
    running.status = Status::Running;
    let over = ended(None, 0, "", "");
    let ids = [running.job_id, over.job_id, cancelled().job_id].map(|id| id.to_string());
    let fake = with_jobs(vec![running, over]);

    let output = fake.run(&["cancel", &ids[0]]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("", ""));
    assert_eq!(fake.calls(), [format!("DELETE /jobs/{}", ids[0])]);

    let output = fake.run(&["cancel", &ids[2], &ids[1]]);
    assert_eq!(output.status.code(), Some(1), "one is unknown");
    assert_eq!(
        text(&output.stderr),
        format!(
            "cloister: there is no such job\ncloister: nothing to cancel: job {} completed\n",
            ids[1]
        )
    );
    assert_eq!(fake.run(&["cancel", &ids[1]]).status.code(), Some(0));
}
