//! `get` and `list`.

use std::sync::Arc;

use cloister_api::{Job, JobList, Reason};
use serde_json::{Value, json};

use crate::{
    fake::{Fake, Reply, ended, pending, text, with_jobs},
    pty::at_terminal,
};

const HOSTILE: &str = "echo \x1b]0;owned\x07\x1b[2J\r\nsecond \u{202e}line";

#[test]
fn a_script_gets_the_job_as_json_with_what_a_newer_coordinator_tells() {
    let job = ended(Some(Reason::ExitCode), 3, "out", "");
    let id = job.job_id.to_string();
    let mut answer = serde_json::to_value(&job).unwrap();
    answer["of_a_later_version"] = json!([1]);
    let copy = answer.clone();
    let fake = Fake::start(move |_, _| Reply::json(200, &copy));
    for args in [&["get", &id][..], &["get", "--json", &id]] {
        let output = fake.run(args);
        assert_eq!(output.status.code(), Some(0), "showing a failed job is no failure");
        assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), answer);
        assert_eq!(text(&output.stderr), "");
    }
}

#[test]
fn a_person_gets_a_summary_that_drives_no_terminal() {
    let mut job = ended(Some(Reason::Timeout), 137, "partial\x1b[2J\n", "");
    let Job { request, .. } = pending(HOSTILE);
    job.request = request;
    job.message = Some("it took \x1b[5n too long".into());
    job.signal = Some(9);
    job.stdout_truncated = Some(true);
    let id = job.job_id.to_string();
    let fake = with_jobs(vec![job]);
    let mut command = fake.client(&["get", &id]);
    command.env("NO_COLOR", "1");
    let (status, shown) = at_terminal(command, 80);
    assert!(status.success());
    for part in [
        id.as_str(),
        "failed (timeout)",
        "137 (signal 9)",
        r"echo \u{1b}]0;owned\u{7}\u{1b}[2J\r\nsecond \u{202e}line",
        r"it took \u{1b}[5n too long",
        r"partial\u{1b}[2J",
        "the rest was dropped",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains('\x1b'), "{shown:?}");

    let (_, shown) = at_terminal(fake.client(&["get", "--json", &id]), 80);
    assert!(!shown.contains(['\x1b', '\u{202e}']), "{shown:?}");
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["command"], HOSTILE);
}

/// 250 jobs, paged as a coordinator does, with tokens that a query must not take apart.
fn many() -> (Fake, Vec<String>) {
    let jobs: Vec<_> = (0..250).map(|_| pending("true")).collect();
    let ids = jobs.iter().map(|job| job.job_id.to_string()).collect();
    let jobs = Arc::new(jobs);
    let fake = Fake::start(move |seen, _| {
        let query = seen.call.split_once('?').map_or("", |(_, query)| query);
        let value = |name: &str| {
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        let limit: usize = value("limit").unwrap().parse().unwrap();
        assert!(limit <= 100);
        let start = value("next")
            .map_or(0, |token| token.strip_prefix("a%26b%3D%2F").unwrap().parse().unwrap());
        let end = (start + limit).min(jobs.len());
        Reply::json(
            200,
            &JobList {
                jobs: jobs[start..end].to_vec(),
                unreadable: Vec::new(),
                next: (end < jobs.len()).then(|| format!("a&b=/{end}")),
            },
        )
    });
    (fake, ids)
}

fn ids(output: &[u8]) -> Vec<String> {
    let id = |line: &str| serde_json::from_str::<Job>(line).unwrap().job_id.to_string();
    text(output).lines().map(id).collect()
}

#[test]
fn lists_follow_pages_as_far_as_was_asked() {
    let (fake, all) = many();
    for (args, count, calls) in [
        (&["list"][..], 100, 1),
        (&["list", "--limit", "7"], 7, 1),
        (&["list", "--limit", "150"], 150, 2),
        (&["list", "--all"], 250, 3),
        (&["list", "--all", "--json"], 250, 3),
    ] {
        let before = fake.calls().len();
        let output = fake.run(args);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(ids(&output.stdout), all[..count], "{args:?}");
        assert_eq!(fake.calls().len() - before, calls, "{args:?}");
        assert_eq!(text(&output.stderr), "");
    }
}

#[test]
fn a_filter_is_passed_on() {
    let fake = Fake::start(|_, _| Reply::raw(200, r#"{"jobs": []}"#));
    let output = fake.run(&["list", "--status", "failed", "--limit", "5"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), ""));
    assert_eq!(fake.calls(), ["GET /jobs?limit=5&status=failed"]);
}

#[test]
fn pages_that_go_in_circles_are_left() {
    let fake = Fake::start(|_, _| Reply::json(200, &json!({"jobs": [], "next": "again"})));
    let output = fake.run(&["list", "--all"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the same page of jobs twice"));
    assert_eq!(fake.calls().len(), 2);
}

#[test]
fn a_list_says_what_it_leaves_out() {
    let bad = pending("true").job_id;
    let list = JobList { jobs: vec![pending("true")], unreadable: vec![bad], next: None };
    let fake = Fake::start(move |_, _| Reply::json(200, &list));
    let output = fake.run(&["list"]);
    assert_eq!((output.status.code(), ids(&output.stdout).len()), (Some(0), 1));
    let said = format!("cloister: the coordinator's store cannot read job {bad}; it is left out\n");
    assert_eq!(text(&output.stderr), said);
}

#[test]
fn a_table_fits_its_terminal_and_does_not_obey_jobs() {
    let failed = ended(Some(Reason::OutOfMemory), 137, "", "");
    let jobs = vec![pending(HOSTILE), pending(&"wide 世界 ".repeat(40)), failed];
    let expected: Vec<_> = jobs.iter().map(|job| job.job_id.to_string()).collect();
    let list = JobList { jobs, unreadable: Vec::new(), next: Some("more".into()) };
    let fake = Fake::start(move |_, _| Reply::json(200, &list));
    let mut command = fake.client(&["list", "--limit", "3"]);
    command.env("NO_COLOR", "1");
    let (status, shown) = at_terminal(command, 132);
    assert!(status.success());
    assert!(!shown.contains('\x1b'), "{shown:?}");
    let lines: Vec<_> = shown.lines().collect();
    let head: Vec<_> = lines[0].split_whitespace().collect();
    assert_eq!(head, ["ID", "STATUS", "REASON", "AGE", "RUNTIME", "COMMAND"]);
    for (line, id) in lines[1..4].iter().zip(&expected) {
        assert!(line.starts_with(id.as_str()), "{line}");
        assert!(line.chars().count() <= 132, "{line}");
    }
    assert!(lines[1].contains(r"echo \u{1b}]0;owned\u{7}\u{1b}[2J"), "{}", lines[1]);
    assert!(lines[2].ends_with('…'), "{}", lines[2]);
    assert!(lines[3].contains("out_of_memory") && lines[3].contains("12ms"), "{}", lines[3]);
    assert!(lines[4].contains("--all"), "{}", lines[4]);

    let (_, coloured) = at_terminal(fake.client(&["list", "--limit", "3"]), 132);
    assert!(coloured.contains("\x1b[31mfailed"), "{coloured:?}");
}
