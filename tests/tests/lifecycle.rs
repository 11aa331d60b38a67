//! What happens to cells when something around them ends.

use std::{
    collections::HashSet,
    fs,
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use cloister_tests::{
    COMPLETED, Service,
    census::{self, alone},
    execute, killed, shell, verdict,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

/// A line of `/proc/PID/status`.
fn status_line(pid: Pid, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_ascii_whitespace().nth(1).unwrap_or_default().to_owned()
}

#[test]
fn only_the_launcher_has_privileges() {
    let _alone = alone();
    let up = Service::up(&[]);
    for name in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(status_line(up.pid(), name), "0000000000000000", "{name}");
    }
    assert_eq!(status_line(up.pid(), "NoNewPrivs:"), "1");
    assert_ne!(status_line(up.pid(), "Uid:"), "0");
    // Every thread, since the kernel keeps them by thread.
    for task in fs::read_dir(format!("/proc/{}/task", up.pid())).unwrap() {
        let text = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(text.contains("CapEff:\t0000000000000000"), "{text}");
    }
    let launcher = u64::from_str_radix(&status_line(up.launcher(), "CapEff:"), 16).unwrap();
    assert_ne!(launcher & (1 << 21), 0, "the launcher has CAP_SYS_ADMIN");
    assert_eq!(status_line(up.launcher(), "Threads:"), "1");
}

/// Starts eight jobs that would run long, and comes back when all of them do.
fn start_eight<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    runner: &'scope Service,
    mark: &str,
) {
    for _ in 0..8 {
        let command = format!("sleep {mark} & setsid sleep {mark} & wait");
        scope.spawn(move || {
            let body = shell(&command, &json!({}), 300.0).to_string();
            let headers = [("content-type", "application/json")];
            // It is cut off in the middle, or told that the cell was lost.
            let _ = runner.client().try_post("/execute", &headers, body.as_bytes());
        });
    }
    let until = Instant::now() + Duration::from_secs(60);
    // Each job is a shell that names the mark, and two sleeps.
    while census::processes(&format!("sleep {mark}")).len() < 24 {
        assert!(Instant::now() < until, "{:?}", census::processes(mark));
        thread::sleep(Duration::from_millis(20));
    }
}

/// The folders of launchers in the cgroup hierarchies, by name.
fn instances() -> HashSet<String> {
    let folders = census::cgroups("/cloister-");
    let names = folders.iter().filter_map(|path| {
        path.split('/').find(|part| part.starts_with("cloister-") && part.len() == 17)
    });
    names.map(String::from).collect()
}

#[test]
fn when_the_service_is_killed_its_cells_end() {
    let _alone = alone();
    let others = instances();
    let mut runner = Service::runner(&["--slots", "8"]);
    let own: HashSet<_> = instances().difference(&others).cloned().collect();
    assert_eq!(own.len(), 1, "one launcher's folder appears: {own:?}");
    thread::scope(|scope| {
        start_eight(scope, &runner, "98761");
        runner.signal(Signal::SIGKILL);
        assert!(
            census::gone("sleep 98761", Duration::from_secs(1)),
            "{:?}",
            census::processes("sleep 98761")
        );
    });
    runner.wait(Duration::from_secs(5));
    // Its launcher takes the cgroups away and ends.
    let until = Instant::now() + Duration::from_secs(10);
    while !instances().is_disjoint(&own) {
        assert!(Instant::now() < until, "cgroups are left: {own:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn when_the_launcher_is_killed_the_service_fails_loudly() {
    let _alone = alone();
    let others = instances();
    let mut runner = Service::runner(&["--slots", "8"]);
    let own: HashSet<_> = instances().difference(&others).cloned().collect();
    thread::scope(|scope| {
        start_eight(scope, &runner, "98762");
        kill(runner.launcher(), Signal::SIGKILL).unwrap();
        assert!(
            census::gone("sleep 98762", Duration::from_secs(1)),
            "{:?}",
            census::processes("sleep 98762")
        );
    });
    let status = runner.wait(Duration::from_secs(10));
    assert!(!status.success(), "it ended with {status}");
    assert!(runner.log().contains("makes cells has ended"), "{}", runner.log());
    // Nobody was left to remove the cgroups: the next one does, before it answers.
    let next = Service::runner(&[]);
    assert!(instances().is_disjoint(&own), "what a dead launcher left is still there: {own:?}");
    assert_eq!(verdict(&execute(&next, &shell("true", &json!({}), 30.0))), COMPLETED);
}

#[test]
fn when_the_launcher_is_killed_cells_end_even_if_the_service_hangs() {
    let _alone = alone();
    let runner = Service::runner(&["--slots", "8"]);
    thread::scope(|scope| {
        start_eight(scope, &runner, "98770");
        let launcher = runner.launcher();
        runner.signal(Signal::SIGSTOP);
        kill(launcher, Signal::SIGKILL).unwrap();
        let ended = census::gone("sleep 98770", Duration::from_secs(1));
        runner.signal(Signal::SIGCONT);
        assert!(ended, "{:?}", census::processes("sleep 98770"));
    });
}

#[test]
fn what_a_job_leaves_ends_with_it_even_if_the_service_hangs() {
    let _alone = alone();
    let runner = Service::runner(&[]);
    thread::scope(|scope| {
        let command = "trap 'exit 0' TERM; setsid sleep 98772 & wait";
        let job = scope.spawn(|| execute(&runner, &shell(command, &json!({}), 300.0)));
        let until = Instant::now() + Duration::from_secs(60);
        let (mut shells, mut left) = (Vec::new(), Vec::new());
        while shells.len() != 1 || left.len() != 1 {
            assert!(Instant::now() < until, "{shells:?} {left:?}");
            thread::sleep(Duration::from_millis(5));
            let all = census::processes("sleep 98772");
            (shells, left) = all.into_iter().partition(|process| process.contains("trap"));
        }
        runner.signal(Signal::SIGSTOP);
        let shell = shells[0].split(' ').next().and_then(|pid| pid.parse().ok()).unwrap();
        kill(Pid::from_raw(shell), Signal::SIGTERM).unwrap();
        let ended = census::gone("sleep 98772", Duration::from_secs(10));
        runner.signal(Signal::SIGCONT);
        assert!(ended, "{:?}", census::processes("sleep 98772"));
        assert_eq!(verdict(&job.join().unwrap()), COMPLETED);
    });
}

#[test]
fn another_launcher_that_lives_is_left_alone() {
    let _alone = alone();
    let first = Service::runner(&[]);
    thread::scope(|scope| {
        let job = scope.spawn(|| execute(&first, &shell("sleep 1; echo ok", &json!({}), 60.0)));
        for _ in 0..3 {
            drop(Service::runner(&[]));
        }
        let result = job.join().unwrap();
        assert_eq!((verdict(&result), &result["stdout"]), (COMPLETED, &json!("ok\n")));
    });
}

#[test]
fn a_closed_connection_cancels_its_job() {
    let _alone = alone();
    let runner = Service::runner(&[]);
    let client = runner.client();
    let body = shell("sleep 98763", &json!({}), 300.0).to_string();
    let address = client.base().trim_start_matches("http://").to_owned();
    let mut socket = TcpStream::connect(&address).unwrap();
    let head = format!(
        "POST /execute HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all((head + &body).as_bytes()).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while census::processes("sleep 98763").is_empty() {
        assert!(Instant::now() < until, "the job does not start");
        thread::sleep(Duration::from_millis(10));
    }
    drop(socket);
    assert!(
        census::gone("sleep 98763", Duration::from_secs(5)),
        "{:?}",
        census::processes("sleep 98763")
    );
}

#[test]
fn a_drain_lets_jobs_finish_and_takes_no_more() {
    let _alone = alone();
    let mut runner = Service::runner(&["--slots", "2"]);
    thread::scope(|scope| {
        let job = scope.spawn(|| {
            execute(&runner, &shell("echo begun; sleep 298.764e-2; echo done", &json!({}), 60.0))
        });
        let until = Instant::now() + Duration::from_secs(30);
        while census::processes("sleep 298.764e-2").is_empty() {
            assert!(Instant::now() < until, "the job does not start");
            thread::sleep(Duration::from_millis(10));
        }
        runner.signal(Signal::SIGTERM);
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let refused = runner.client().post("/execute", &json!({ "command": "true" }));
            if refused.status == 503 {
                assert_ne!(refused.header("retry-after"), "");
                break;
            }
            assert!(Instant::now() < until, "it goes on taking jobs: {}", refused.text());
        }
        let result = job.join().unwrap();
        assert_eq!((verdict(&result), &result["stdout"]), (COMPLETED, &json!("begun\ndone\n")));
    });
    assert!(runner.wait(Duration::from_secs(10)).success());
}

#[test]
fn a_full_runner_says_so() {
    let _alone = alone();
    let runner = Service::runner(&["--slots", "1"]);
    thread::scope(|scope| {
        let first = scope.spawn(|| execute(&runner, &shell("sleep 298.765e-2", &json!({}), 60.0)));
        let until = Instant::now() + Duration::from_secs(30);
        while census::processes("sleep 298.765e-2").is_empty() {
            assert!(Instant::now() < until, "the job does not start");
            thread::sleep(Duration::from_millis(10));
        }
        let second = runner.client().post("/execute", &json!({ "command": "true" }));
        assert_eq!(second.status, 503, "{}", second.text());
        assert_ne!(second.header("retry-after"), "");
        assert_eq!(verdict(&first.join().unwrap()), COMPLETED);
    });
    let result = execute(&runner, &shell("sleep 60", &json!({}), 0.2));
    assert_eq!(verdict(&result), killed("timeout"));
}

#[test]
fn launchers_that_start_at_once_do_not_remove_each_other() {
    let _alone = alone();
    for _ in 0..5 {
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let output = cloister_tests::run(&["run", "--", "true"]);
                    assert_eq!(
                        output.status.code(),
                        Some(0),
                        "{}",
                        String::from_utf8_lossy(&output.stderr)
                    );
                });
            }
        });
    }
}

#[test]
fn a_service_without_descriptors_loses_no_verdict() {
    let _alone = alone();
    let runner = Service::runner_with_descriptors(300, &["--slots", "4"]);
    let address = runner.client().base().trim_start_matches("http://").to_owned();
    let connect = || TcpStream::connect(&address).unwrap();
    thread::scope(|scope| {
        // A job that must be ended by a reading of its CPU time, started before it gets tight.
        let task = shell("while :; do :; done", &json!({ "cpu_time": 0.7 }), 60.0);
        let runner = &runner;
        let busy = scope.spawn(move || execute(runner, &task));
        let until = Instant::now() + Duration::from_secs(30);
        while census::processes("while :; do :; done").is_empty() {
            assert!(Instant::now() < until, "the job does not start");
            thread::sleep(Duration::from_millis(5));
        }
        let idle: Vec<_> = (0..350).map_while(|_| TcpStream::connect(&address).ok()).collect();
        assert!(idle.len() > 100, "{} connections", idle.len());
        // It runs short, and closes the one that has waited longest.
        idle[0].set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let closed = (&idle[0]).read(&mut [0]).expect("it does not run short");
        assert_eq!(closed, 0);
        // Cells that are asked for now can't be taken over, or only in part.
        for _ in 0..3 {
            let mut socket = connect();
            let body = r#"{"command": "echo ok"}"#;
            let request = format!(
                "POST /execute HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            socket.write_all(request.as_bytes()).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let mut answer = [0; 12];
            socket.read_exact(&mut answer).unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 "), "{answer:?}");
        }
        assert_eq!(verdict(&busy.join().unwrap()), killed("cpu_time"));
        drop(idle);
    });
    // It goes on, whatever it had to refuse.
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let body = json!({ "command": "echo ok" }).to_string();
        let headers = [("content-type", "application/json")];
        let answer = runner.client().try_post("/execute", &headers, body.as_bytes());
        if answer.is_ok_and(|r| r.status == 200 && r.json()["stdout"] == "ok\n") {
            break;
        }
        assert!(Instant::now() < until, "it does not recover\n{}", runner.log());
        thread::sleep(Duration::from_millis(50));
    }
}
