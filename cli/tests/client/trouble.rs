//! What goes wrong, and what is said of it.

use std::{fs, os::fd::AsRawFd};

use cloister_api::{FieldProblem, Kind, Problem};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket};

use crate::fake::{Fake, Reply, client, pending, text, with_jobs};

const ID: &str = "0198c0de-0000-7000-8000-000000000000";

#[test]
fn each_fault_of_a_request_has_a_line() {
    let fault = |pointer: &str, detail: &str| FieldProblem {
        pointer: pointer.into(),
        detail: detail.into(),
    };
    let problem = Problem::invalid(vec![
        fault("/timeout", "must be at most 3600s (--max-timeout)"),
        fault("/limits/memory", "must be at most 1GiB (--max-memory)"),
    ]);
    let fake = Fake::start(move |_, _| Reply::problem(&problem));
    let expected = "cloister: The request is not valid\n  \
        /timeout must be at most 3600s (--max-timeout)\n  \
        /limits/memory must be at most 1GiB (--max-memory)\n";
    // With --wait the exit code is the job's, and 1 could be one.
    for (args, code) in [
        (&["submit", "--", "true"][..], 1),
        (&["submit", "--wait", "--", "true"], 125),
        (&["wait", ID], 125),
        (&["get", ID], 1),
        (&["cancel", ID], 1),
        (&["list"], 1),
    ] {
        let output = fake.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert_eq!((text(&output.stdout), text(&output.stderr)), ("", expected), "{args:?}");
    }
    assert_eq!(fake.calls().len(), 6, "none is tried again");
}

#[test]
fn a_server_that_is_not_there_is_told_with_what_to_do() {
    // A port that is taken, and on which nobody listens: no other test gets it meanwhile.
    let (family, flags) = (AddressFamily::Inet, SockFlag::SOCK_CLOEXEC);
    let taken = socket(family, SockType::Stream, flags, None).unwrap();
    bind(taken.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let address: SockaddrIn = getsockname(taken.as_raw_fd()).unwrap();
    let server = format!("http://{address}");
    for args in [&["list"][..], &["get", ID], &["cancel", ID], &["submit", "--", "true"]] {
        let output = client(args).env("CLOISTER_SERVER", &server).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert_eq!(
            text(&output.stderr),
            format!(
                "cloister: no coordinator answers at {server}: connection refused; start one with \
                 `cloister up`, or name another with --server\n"
            )
        );
    }
}

#[test]
fn something_else_that_answers_is_told_as_that() {
    for (reply, expected) in [
        (Reply::raw(200, "<html>"), "answered GET /jobs with 200 OK and something unexpected"),
        (
            Reply::raw(404, "<html>"),
            "answered GET /jobs with 404 Not Found and no problem document",
        ),
        (Reply::raw(200, "{}"), "is it a coordinator?"),
    ] {
        let output = Fake::start(move |_, _| reply.clone()).run(&["list"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}

#[test]
fn a_problem_drives_no_terminal() {
    let problem = Problem::new(Kind::NotFound, "no job \x1b[2J");
    let output = Fake::start(move |_, _| Reply::problem(&problem)).run(&["get", ID]);
    assert_eq!(text(&output.stderr), "cloister: no job \\u{1b}[2J\n");
}

#[test]
fn tokens_come_from_a_file_or_the_environment_and_are_never_shown() {
    let fake = with_jobs(vec![pending("true")]);
    let path = std::env::temp_dir().join(format!("cloister-client-{}", uuid::Uuid::new_v4()));
    fs::write(&path, "token-from-a-file-0123\n").unwrap();
    let mut command =
        fake.client(&["submit", "--token-file", path.to_str().unwrap(), "--", "true"]);
    let output = command.env("CLOISTER_TOKEN", "token-of-the-environment").output().unwrap();
    fs::remove_file(&path).unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(fake.seen()[0].header("authorization"), "Bearer token-from-a-file-0123");

    let gone = fake.client(&["list", "--token-file", path.to_str().unwrap()]).output().unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(text(&gone.stderr).contains(path.to_str().unwrap()), "{}", text(&gone.stderr));

    let weak = fake.client(&["list"]).env("CLOISTER_TOKEN", "hunter2").output().unwrap();
    assert_eq!(weak.status.code(), Some(1));
    assert!(
        text(&weak.stderr).contains("CLOISTER_TOKEN") && !text(&weak.stderr).contains("hunter2")
    );

    let help =
        fake.client(&["list", "--help"]).env("CLOISTER_TOKEN", "a-secret-of-mine-0123").output();
    assert!(!text(&help.unwrap().stdout).contains("a-secret-of-mine"));
    assert_eq!(fake.seen().len(), 1);
}

#[test]
fn a_reader_that_goes_away_is_not_worth_a_word() {
    let fake = with_jobs(vec![pending("true")]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let id = text(&fake.run(&["submit", "--", "true"]).stdout).trim().to_owned();
    let child =
        fake.client(&["get", &id]).stdout(writer).stderr(std::process::Stdio::piped()).spawn();
    let output = child.unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn a_job_whose_id_nobody_read_is_worth_one() {
    let fake = with_jobs(vec![pending("true")]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = fake.client(&["submit", "--", "true"]);
    let child = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn();
    let output = child.unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("was handed in"), "{}", text(&output.stderr));
}

#[test]
fn flags_are_read_from_the_environment_as_people_write_them() {
    let refused = |value: &str| {
        let mut command = crate::fake::client(&["coordinator", "--listen", "0.0.0.0:0"]);
        let output = command.env("CLOISTER_PROTECT_METRICS", value).output().unwrap();
        (output.status.code(), text(&output.stderr).to_owned())
    };
    for value in ["1", "0", "true", "false", "yes", "no", "on", "off"] {
        let (code, told) = refused(value);
        assert!(code == Some(1) && told.contains("--insecure-no-auth"), "{value}: {told}");
    }
    assert_eq!(refused("maybe").0, Some(2));

    let fake = with_jobs(vec![pending("true")]);
    for (name, value) in [("CLOISTER_WAIT", "0"), ("CLOISTER_STDIN", "off")] {
        let mut command = fake.client(&["submit", "--", "true"]);
        let output = command.env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output.stderr));
    }
}
