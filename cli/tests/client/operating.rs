//! `runners`, `pause` and `resume`.

use cloister_api::{Kind, Problem};
use serde_json::{Value, json};

use crate::{
    fake::{Fake, Reply, text},
    pty::at_terminal,
};

fn runner(url: &str, drained: bool) -> Value {
    json!({
        "url": url, "up": true, "listed": true, "running": 2, "drained": drained,
        "breaker": "closed", "failed_cells": 0, "failed_cells_in_a_row": 0,
    })
}

const RUNNERS: [&str; 3] =
    ["http://10.0.0.7:8080", "http://10.0.0.7:8081", "http://10.0.0.70:8080"];

/// A coordinator with three runners that does as it is told.
fn with_runners() -> Fake {
    Fake::start(|seen, _| match seen.call.as_str() {
        "GET /runners" => {
            let runners: Vec<_> = RUNNERS.iter().map(|url| runner(url, false)).collect();
            Reply::json(200, &json!({ "runners": runners }))
        }
        "POST /runners/drain" | "POST /runners/resume" => {
            let url = seen.json()["runner"].as_str().unwrap().to_owned();
            Reply::json(200, &runner(&url, seen.call.ends_with("drain")))
        }
        "POST /pause" => {
            let reason =
                seen.json()["reason"].as_str().unwrap_or("an operator paused it").to_owned();
            Reply::json(200, &json!({"paused": true, "reason": reason}))
        }
        "POST /resume" => Reply::json(200, &json!({"paused": false})),
        "POST /retention/resume" => Reply::json(200, &json!({"held": false})),
        call => panic!("{call}"),
    })
}

#[test]
fn runners_are_drained_and_taken_back_by_any_name_that_is_theirs_alone() {
    let fake = with_runners();
    for (action, name, url) in [
        ("drain", "http://10.0.0.7:8081", RUNNERS[1]),
        ("drain", "10.0.0.7:8080", RUNNERS[0]),
        ("resume", "10.0.0.70", RUNNERS[2]),
    ] {
        let before = fake.calls().len();
        let output = fake.run(&["runners", action, name]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!((text(&output.stdout), text(&output.stderr)), ("", ""));
        let seen = &fake.seen()[before..];
        assert_eq!(seen[1].call, format!("POST /runners/{action}"));
        assert_eq!(seen[1].json(), json!({"runner": url}));
        assert_eq!(seen[1].header("content-type"), "application/json");
    }
    let (status, shown) = at_terminal(fake.client(&["runners", "drain", "10.0.0.70"]), 80);
    assert!(status.success());
    let said = "runner http://10.0.0.70:8080 gets nothing new; the 2 jobs it has go on\n";
    assert_eq!(shown, said);
}

#[test]
fn what_names_no_runner_or_several_changes_nothing() {
    let fake = with_runners();
    for (name, why) in [
        ("10.0.0.7", "10.0.0.7 could be any of http://10.0.0.7:8080, http://10.0.0.7:8081"),
        ("10.0.0", "no runner is called 10.0.0; there are http://10.0.0.7:8080"),
        ("\u{1b}[2J", r"no runner is called \u{1b}[2J"),
    ] {
        let output = fake.run(&["runners", "drain", name]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    }
    assert!(fake.calls().iter().all(|call| call == "GET /runners"), "{:?}", fake.calls());

    // It may be gone meanwhile.
    let fake = Fake::start(|seen, _| match seen.call.as_str() {
        "GET /runners" => Reply::json(200, &json!({"runners": [runner("http://a:1", false)]})),
        _ => Reply::problem(&Problem::new(Kind::NotFound, "there is no runner http://a:1")),
    });
    let output = fake.run(&["runners", "drain", "a"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "cloister: there is no runner http://a:1\n");
}

#[test]
fn options_stand_where_they_count() {
    let fake = with_runners();
    let server = format!("--server=http://{}", fake.address);
    let mut elsewhere = fake.client(&["runners", "drain", "10.0.0.70", &server]);
    elsewhere.env("CLOISTER_SERVER", "http://127.0.0.1:9");
    assert_eq!(elsewhere.output().unwrap().status.code(), Some(0));
    // Before the action it would be read by nobody.
    let output = fake.run(&["runners", "--server=http://127.0.0.1:9", "drain", "10.0.0.70"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}

#[test]
fn a_script_gets_runners_as_json_with_what_a_newer_coordinator_tells() {
    let mut told = runner("http://a:1", false);
    told["of_a_later_version"] = json!([1]);
    let list = json!({"runners": [told, runner("http://b:1", true)]});
    let copy = list.clone();
    let fake = Fake::start(move |_, _| Reply::json(200, &copy));
    for args in [&["runners"][..], &["runners", "--json"]] {
        let output = fake.run(args);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
        let lines: Vec<Value> =
            text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(Value::from(lines), list["runners"]);
    }
}

#[test]
fn a_table_of_runners_fits_its_terminal_and_does_not_obey_them() {
    let mut resting = runner("http://b.example:8080", false);
    resting["breaker"] = "open".into();
    resting["trouble"] = format!("rests \x1b[2J {}", "for long ".repeat(30)).into();
    let mut down = runner("http://c:1", true);
    down["up"] = false.into();
    down["health"] = json!({
        "status": "ok", "boot_id": "01890000-0000-7000-8000-000000000000", "version": "1",
        "slots": {"total": 8, "used": 2}, "cpus": 2.0, "memory": 1, "open_files": 1,
        "network_host": false,
    });
    let list = json!({"runners": [runner("http://a:1", false), resting, down]});
    let fake = Fake::start(move |_, _| Reply::json(200, &list));
    let mut command = fake.client(&["runners"]);
    command.env("NO_COLOR", "1");
    let (status, shown) = at_terminal(command, 100);
    assert!(status.success());
    assert!(!shown.contains('\x1b'), "{shown:?}");
    let lines: Vec<_> = shown.lines().collect();
    let words = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
    assert_eq!(words(lines[0]), ["RUNNER", "UP", "RUNNING", "BREAKER", "DRAINED", "TROUBLE"]);
    assert_eq!(words(lines[1]), ["http://a:1", "yes", "2/-", "closed", "no"]);
    assert_eq!(words(lines[2])[3..7], ["open", "no", "rests", r"\u{1b}[2J"]);
    assert!(lines[2].ends_with('…') && lines[2].chars().count() <= 100, "{}", lines[2]);
    assert_eq!(words(lines[3]), ["http://c:1", "no", "2/8", "closed", "yes"]);

    let (_, coloured) = at_terminal(fake.client(&["runners"]), 100);
    assert!(coloured.contains("\x1b[31mopen"), "{coloured:?}");
}

#[test]
fn a_pause_says_why_and_ends() {
    let fake = with_runners();
    for (args, call, body) in [
        (&["pause", "new disks"][..], "POST /pause", json!({"reason": "new disks"})),
        (&["pause"], "POST /pause", json!({})),
        (&["resume"], "POST /resume", json!({})),
    ] {
        let output = fake.run(args);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!((text(&output.stdout), text(&output.stderr)), ("", ""));
        let seen = fake.seen().pop().unwrap();
        assert_eq!((seen.call.as_str(), seen.json()), (call, body));
    }
    let (_, shown) = at_terminal(fake.client(&["pause", "new\x1b[2J disks"]), 80);
    assert_eq!(shown, "nothing is dispatched: new\\u{1b}[2J disks\n");
    let (_, shown) = at_terminal(fake.client(&["resume"]), 80);
    assert_eq!(shown, "jobs are dispatched\n");
}

#[test]
fn the_clock_of_a_coordinator_is_trusted_again() {
    let fake = with_runners();
    let output = fake.run(&["resume", "--retention"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("", ""));
    assert_eq!(fake.calls(), ["POST /retention/resume"]);
    let (_, shown) = at_terminal(fake.client(&["resume", "--retention"]), 80);
    assert_eq!(shown, "ended jobs are removed by the coordinator's clock\n");
}
