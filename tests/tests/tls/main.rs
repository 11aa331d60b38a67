//! TLS, tokens that are exchanged, and the audit log: the built program, and certificates of an
//! authority that each test makes for itself.

mod audit;
mod hangup;
mod office;
mod reload;

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use cloister_tests::{COMPLETED, Client, Service, finished, until, verdict};
use rcgen::{CertificateParams, date_time_ymd};
use serde_json::{Value, json};

use office::Office;

/// All arguments in one list.
fn args<'a>(parts: &[&[&'a str]]) -> Vec<&'a str> {
    parts.concat()
}

fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// `cloister` with these words, not tried again for long.
fn client(args: &[&str]) -> Output {
    cloister_tests::run(args)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn port(client: &Client) -> &str {
    client.base().rsplit_once(':').unwrap().1
}

/// Waits until the coordinator's list of runners is as it should be.
fn runners(coordinator: &Service, good: impl Fn(&[Value]) -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let list = coordinator.client().get("/runners").json();
        if list["runners"].as_array().is_some_and(|runners| good(runners)) {
            return;
        }
        assert!(Instant::now() < end, "{list}\n{}", coordinator.log());
        thread::sleep(Duration::from_millis(20));
    }
}

/// `cloister KIND` by TLS at `localhost`, with what `office` signed last and these arguments.
fn by_tls(kind: &str, office: &Office, args: &[&str]) -> Service {
    by_tls_at(kind, "localhost", office, args)
}

fn by_tls_at(kind: &str, host: &str, office: &Office, args: &[&str]) -> Service {
    let mut command = Command::new("/usr/bin/env");
    command.arg("--");
    Service::by_tls(command, kind, host, &office.path("ca.pem"), args)
}

/// A command that starts another one where names stand for what this file says, in a mount namespace
/// of its own.
fn where_hosts_are(file: &str) -> Command {
    let mut command = Command::new("/usr/bin/unshare");
    let line = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    command.args(["--mount", "/bin/sh", "-c", line, file]);
    command
}

#[test]
fn all_the_way_by_tls() {
    let office = Office::new("All");
    // One name, two machines. The coordinator asks for the name: no certificate is for 127.0.0.1.
    let shown = office.sign(&["localhost", "127.0.0.2", "runners.example"], |_| ());
    let shown = strs(&shown);
    let hosts = "127.0.0.1 localhost\n127.0.0.1 runners.example\n127.0.0.2 runners.example\n";
    let hosts = office.put_public("hosts", hosts);
    let (ca, authority) = (office.arg("ca.pem"), office.path("ca.pem"));
    let token = office.put("token", "the-token-of-the-runner-0123456789\n");
    let with_token = args(&[&shown, &["--token-file", &token]]);
    let first = by_tls("runner", &office, &with_token);
    let second_at = format!("127.0.0.2:{}", port(first.client()));
    let second = by_tls_at("runner", &second_at, &office, &with_token);
    let url = format!("https://runners.example:{}", port(first.client()));
    let to_runners = ["--runner-url", &url, "--runner-token-file", &token, "--ca-file", &ca];
    let coordinator = Service::by_tls(
        where_hosts_are(&hosts),
        "coordinator",
        "localhost",
        &authority,
        &args(&[&shown, &to_runners]),
    );
    // The certificate is for the name, and the runner is known by that and by its address.
    let urls = ["127.0.0.1", "127.0.0.2"]
        .map(|address| format!("https://runners.example@{address}:{}", port(first.client())));
    runners(&coordinator, |runners| runners.iter().filter(|r| r["up"] == true).count() == 2);
    let mut ran_at = BTreeSet::new();
    for _ in 0..20 {
        let job = finished(coordinator.client(), &json!({ "command": "echo by tls" }));
        assert_eq!((verdict(&job), &job["stdout"]), (COMPLETED, &json!("by tls\n")));
        ran_at.insert(job["runner"].as_str().unwrap().to_owned());
    }
    assert_eq!(Vec::from_iter(ran_at), urls);
    drop(second);

    let server = coordinator.client().base();
    let submit = ["submit", "--wait", "--server", server, "--command", "echo a client"];
    let output = client(&args(&[&submit, &["--ca-file", &ca]]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a client\n", "{}", said(&output));
    // A page over https is the coordinator's own, one over http is not.
    let json_type = ("content-type", "application/json");
    let from = |origin: &str| {
        let headers = [json_type, ("origin", origin)];
        coordinator.client().post_with("/jobs", &headers, br#"{"command": "true"}"#).status
    };
    assert_eq!((from(server), from(&server.replace("https", "http"))), (201, 403));
    // Who comes in clear is told.
    let plain = Client::new(server.replace("https", "http")).get("/health");
    assert_eq!(plain.status, 400);
    assert!(plain.text().contains("https://"), "{}", plain.text());
}

#[test]
fn a_client_trusts_nobody_without_proof() {
    let (office, other) = (Office::new("The right one"), Office::new("Another"));
    let shown = office.sign(&["localhost"], |_| ());
    let up = by_tls("up", &office, &strs(&shown));
    let server = up.client().base();
    let list = |server: &str, ca: Option<&str>| {
        let ca = ca.map_or_else(Vec::new, |ca| vec!["--ca-file", ca]);
        client(&args(&[&["list", "--server", server], &ca]))
    };
    assert!(list(server, Some(&office.arg("ca.pem"))).status.success());
    let by_address = server.replace("localhost", "127.0.0.1");
    for (server, ca, words) in [
        (server, Some(other.arg("ca.pem")), "unknown issuer"),
        (server, None, "unknown issuer"),
        (&by_address, Some(office.arg("ca.pem")), "another name (localhost)"),
    ] {
        let output = list(server, ca.as_deref());
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("cannot trust") && said.contains(words), "{said}");
        assert!(!said.contains("attempt 2"), "it changes nothing to try again: {said}");
    }
    let missing = list(server, Some("/no/such/file"));
    assert!(said(&missing).contains("/no/such/file: No such file"), "{}", said(&missing));
}

#[test]
fn a_coordinator_trusts_no_runner_without_proof() {
    let (office, other) = (Office::new("The right one"), Office::new("Another"));
    let past = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2001, 2, 1);
    };
    let refused = |runner: &Service, host: &str, ca: &str, words: &str| {
        let url = format!("https://{host}:{}", port(runner.client()));
        let coordinator = Service::coordinator(&url, &["--ca-file", ca]);
        runners(&coordinator, |r| {
            r.iter().any(|r| r["trouble"].as_str().is_some_and(|why| why.contains(words)))
        });
        // Nothing is sent to whoever that is; the job waits, and says why.
        let job = coordinator.client().post("/jobs", &json!({ "command": "true" })).json();
        let job = until(coordinator.client(), job["job_id"].as_str().unwrap(), |job| {
            job["pending_reason"].is_string()
        });
        assert_eq!(job["status"], "pending", "{job}");
        assert!(coordinator.log().contains(words), "{}", coordinator.log());
    };
    let shown = office.sign(&["localhost"], |_| ());
    let runner = by_tls("runner", &office, &strs(&shown));
    refused(&runner, "localhost", &other.arg("ca.pem"), "unknown issuer");
    refused(&runner, "127.0.0.1", &office.arg("ca.pem"), "another name");
    office.sign(&["localhost"], past);
    runner.signal(nix::sys::signal::Signal::SIGHUP);
    reload::logged(&runner, "were read again");
    refused(&runner, "localhost", &office.arg("ca.pem"), "expired");
}

#[test]
fn half_secure_is_refused() {
    let office = Office::new("Half");
    let shown = office.sign(&["localhost"], |_| ());
    let shown = strs(&shown);
    let data = ["--data", "/var/tmp/cloister-never", "--listen", "127.0.0.1:0"];
    let open = ["--runner-listen", "0.0.0.0:0", "--insecure-no-auth"];
    let output = client(&args(&[&["up"], &data, &shown, &open]));
    let words = said(&output);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("--runner-listen on loopback"), "{words}");
    for half in [&shown[..2], &shown[2..]] {
        let output = client(&args(&[&["up"], &data, half]));
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    }
    // A key of another certificate.
    fs::copy(office.path("key.pem"), office.path("old.pem")).unwrap();
    office.sign(&["localhost"], |_| ());
    fs::rename(office.path("old.pem"), office.path("key.pem")).unwrap();
    let output = client(&args(&[&["up"], &data, &shown]));
    assert!(said(&output).contains("another certificate"), "{}", said(&output));
    assert!(!std::path::Path::new("/var/tmp/cloister-never").exists());
}
