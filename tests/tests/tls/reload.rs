//! SIGHUP: what is read again, and what stays as it was.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use cloister_tests::{Client, Service};
use nix::sys::signal::Signal;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use crate::{args, by_tls, office::Office, port, strs};

const OLD: &str = "the-old-token-of-the-clients-0123456789";
const NEW: &str = "the-new-token-of-the-clients-0123456789";

/// Waits until the log holds these words. There is no event for that.
pub(crate) fn logged(service: &Service, words: &str) {
    logged_times(service, words, 1);
}

fn logged_times(service: &Service, words: &str, times: usize) {
    let end = Instant::now() + Duration::from_secs(30);
    while service.log().matches(words).count() < times {
        assert!(Instant::now() < end, "not logged: {words}\n{}", service.log());
        thread::sleep(Duration::from_millis(5));
    }
}

/// A connection of rustls's own, to see what is shown on it.
struct Observer(StreamOwned<ClientConnection, TcpStream>);

impl Observer {
    fn connect(office: &Office, client: &Client) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(office.path("ca.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let tcp = TcpStream::connect(format!("127.0.0.1:{}", port(client))).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut observer = Self(StreamOwned::new(tls, tcp));
        observer.ask();
        observer
    }

    /// One request, on the connection that is there.
    fn ask(&mut self) {
        self.0.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = [0; 4096];
        let length = self.0.read(&mut answer).unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "the connection lives");
    }

    fn shown(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

#[test]
fn a_new_certificate_is_shown_and_old_connections_live() {
    let office = Office::new("Reload");
    let shown = office.sign(&["localhost"], |_| ());
    let coordinator = by_tls(
        "coordinator",
        &office,
        &args(&[&strs(&shown), &["--runner-url", "http://127.0.0.1:9"]]),
    );
    let client = coordinator.client();
    let mut old = Observer::connect(&office, client);
    let first = old.shown();
    office.sign(&["localhost"], |_| ());
    coordinator.signal(Signal::SIGHUP);
    logged(&coordinator, "the TLS certificate and its key were read again");
    let second = Observer::connect(&office, client).shown();
    assert_ne!(first, second);
    old.ask();
    assert_eq!(old.shown(), first);
    // A key without its certificate: nothing changes, and why is said.
    let (cert, key) = (fs::read(office.path("cert.pem")), fs::read(office.path("key.pem")));
    office.sign(&["localhost"], |_| ());
    fs::write(office.path("key.pem"), key.unwrap()).unwrap();
    coordinator.signal(Signal::SIGHUP);
    logged(&coordinator, "belongs to another certificate");
    assert_eq!(Observer::connect(&office, client).shown(), second);
    assert_eq!(CertificateDer::from_pem_slice(&cert.unwrap()).unwrap(), second);
    old.ask();
}

/// Set when dropped, so that a test that fails ends what it started.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks by this token again and again until it is told to stop; no request may fail.
fn load(client: &Client, token: &str, stop: &AtomicBool, done: &AtomicUsize) {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    while !stop.load(Ordering::Relaxed) {
        // Over a connection that is kept, and over a new one.
        let status = client.get_with("/jobs?limit=1", &headers).status;
        assert_eq!(status, 200, "{token} is valid");
        let body = br#"{"command": "true"}"#;
        let status = client.anew().post_with("/jobs", &headers, body).status;
        assert_eq!(status, 201, "{token} is valid");
        done.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn tokens_are_exchanged_without_a_request_that_fails() {
    let office = Office::new("Tokens");
    let shown = office.sign(&["localhost"], |_| ());
    let file = office.put("tokens", &format!("{OLD}\n"));
    let coordinator = by_tls(
        "coordinator",
        &office,
        &args(&[&strs(&shown), &["--runner-url", "http://127.0.0.1:9", "--token-file", &file]]),
    );
    let client = coordinator.client();
    let status = |token: &str| {
        let authorization = format!("Bearer {token}");
        client.get_with("/jobs", &[("authorization", &authorization)]).status
    };
    let read_again = |text: &str, times: usize| {
        office.put("tokens", text);
        coordinator.signal(Signal::SIGHUP);
        logged_times(&coordinator, "the token file was read again", times);
    };
    let (old_ends, new_ends) = (AtomicBool::new(false), AtomicBool::new(false));
    let (by_old, by_new) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let more = |count: &AtomicUsize| {
        let (start, end) =
            (count.load(Ordering::Relaxed), Instant::now() + Duration::from_secs(60));
        while count.load(Ordering::Relaxed) < start + 20 {
            assert!(Instant::now() < end, "the load goes on");
            thread::sleep(Duration::from_millis(5));
        }
    };
    thread::scope(|scope| {
        let (stop_old, stop_new) = (Stop(&old_ends), Stop(&new_ends));
        let old = scope.spawn(|| load(client, OLD, &old_ends, &by_old));
        more(&by_old);
        assert_eq!(status(NEW), 401);
        read_again(&format!("# of this month\n{NEW}\n# until everybody has changed\n{OLD}\n"), 1);
        assert_eq!((status(OLD), status(NEW)), (200, 200));
        let new = scope.spawn(|| load(client, NEW, &new_ends, &by_new));
        // Also while the same is read again and again.
        for again in 2..10 {
            read_again(&format!("{NEW}\n{OLD}\n"), again);
        }
        more(&by_old);
        drop(stop_old);
        old.join().unwrap();
        read_again(&format!("{NEW}\n"), 10);
        assert_eq!((status(OLD), status(NEW)), (401, 200));
        // What is no list of tokens leaves those that were valid.
        for (times, bad) in ["", "short\n", "# none\n"].iter().enumerate() {
            office.put("tokens", bad);
            coordinator.signal(Signal::SIGHUP);
            logged_times(&coordinator, "stays in force", times + 1);
            assert_eq!((status(OLD), status(NEW)), (401, 200));
        }
        more(&by_new);
        drop(stop_new);
        new.join().unwrap();
    });
    let log = coordinator.log();
    for words in ["holds no token", "line 1"] {
        assert!(log.contains(words), "{log}");
    }
    assert!(!log.contains(OLD) && !log.contains(NEW), "a token is in the log");
}

#[test]
fn the_runners_token_is_exchanged_on_both_sides() {
    let office = Office::new("Runners");
    let runner_file = office.put("runner", &format!("{OLD}\n"));
    let shown_file = office.put("shown", &format!("{OLD}\n"));
    let runner = Service::runner(&["--token-file", &runner_file]);
    let coordinator =
        Service::coordinator(runner.client().base(), &["--runner-token-file", &shown_file]);
    let job = || {
        let request = serde_json::json!({ "command": "true" });
        let job = cloister_tests::finished(coordinator.client(), &request);
        assert_eq!(job["status"], "completed", "{job}");
    };
    let read_again = |service: &Service, name: &str, text: &str, times: usize| {
        office.put(name, text);
        service.signal(Signal::SIGHUP);
        logged_times(service, "the token file was read again", times);
    };
    job();
    read_again(&runner, "runner", &format!("{NEW}\n{OLD}\n"), 1);
    job();
    read_again(&coordinator, "shown", &format!("{NEW}\n"), 1);
    job();
    read_again(&runner, "runner", &format!("{NEW}\n"), 2);
    job();
    let authorization = format!("Bearer {OLD}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let refused = runner.client().post_with("/execute", &headers, br#"{"command": "true"}"#);
    assert_eq!(refused.status, 401);
}

#[test]
fn what_the_services_user_cannot_read_is_told_at_the_start_and_keeps_what_was() {
    let office = Office::new("Private");
    let file = office.path("tokens");
    fs::write(&file, OLD).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let path = file.to_str().unwrap();
    let runner = Service::runner(&["--token-file", path]);
    logged(&runner, "can't be read by user 61840 after the privileges are dropped");
    runner.signal(Signal::SIGHUP);
    logged(&runner, "what was read before stays in force");
    logged(&runner, "Permission denied");
    let authorization = format!("Bearer {OLD}");
    let headers = [("authorization", authorization.as_str())];
    assert_eq!(runner.client().get_with("/executions/x", &headers).status, 404);
    // As the warning says.
    std::os::unix::fs::chown(&file, Some(crate::office::SERVICE), None).unwrap();
    runner.signal(Signal::SIGHUP);
    logged(&runner, "the token file was read again");
}

#[test]
fn sighup_ends_no_service() {
    let runner = Service::runner(&[]);
    let coordinator = Service::coordinator(runner.client().base(), &[]);
    let up = Service::up(&[]);
    for service in [&runner, &coordinator, &up] {
        service.signal(Signal::SIGHUP);
        logged(service, "nothing to read again");
        assert_eq!(service.client().get("/health").status, 200);
    }
}
