//! Cloister as an ordinary user: with cgroups delegated by hand, with those that a systemd manager
//! delegates, and with none.
//!
//! These need a machine on cgroup v2 whose cgroups and settings may be changed: the virtual machine runs
//! them, and nothing else does.

mod systemd;
mod units;
mod user;

use std::{fs, time::Duration};

use cloister_tests::{Scratch, Service, census, execute, finished, killed, python, shell, verdict};
use serde_json::json;

use user::{Cgroup, TESTER, User};

/// Whether nothing is left of any launcher, at once or a moment later.
fn all_gone() {
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while !census::cgroups("/cloister-").is_empty() {
        let left = census::cgroups("/cloister-");
        assert!(std::time::Instant::now() < until, "left behind: {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What `cloister run` makes of each limit, exactly as for root.
fn limits_hold(user: &User) {
    let hog = ["--memory", "32MiB", "--", "/usr/bin/python3", "-c", "bytearray(1 << 28)"];
    let (code, report) = user.run(&hog);
    assert_eq!((code, verdict(&report)), (Some(137), killed("out_of_memory")), "{report}");
    assert!(report["usage"]["oom_kills"].as_u64().is_some_and(|kills| kills > 0), "{report}");

    let (code, report) = user.run(&["--timeout", "1", "--", "sleep", "60"]);
    assert_eq!((code, verdict(&report)), (Some(124), killed("timeout")), "{report}");

    let endless = ["--cpu-time", "1s", "--", "sh", "-c", "while :; do :; done"];
    let (code, report) = user.run(&endless);
    assert_eq!((code, verdict(&report)), (Some(137), killed("cpu_time")), "{report}");

    let many = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; wait";
    let (_, report) = user.run(&["--pids", "8", "--", "sh", "-c", many]);
    assert_eq!(report["usage"]["pids_peak"].as_u64(), Some(8), "{report}");

    let busy = "i=0; while [ $i -lt 30000 ]; do i=$((i + 1)); done";
    let (code, report) = user.run(&["--cpus", "0.1", "--", "sh", "-c", busy]);
    assert_eq!(code, Some(0), "{report}");
    assert!(report["usage"]["throttled_ms"].as_f64().unwrap_or(0.0) > 100.0, "{report}");
    assert!(report.get("not_enforced").is_none(), "{report}");
}

#[test]
fn with_a_delegated_cgroup_everything_holds() {
    let cgroup = Cgroup::delegated("delegated");
    let user = User::within(&cgroup);
    let (code, report) = user.check();
    assert_eq!((code, &report["ready"]), (Some(0), &json!(true)), "{report}");
    limits_hold(&user);
    all_gone();
}

#[test]
fn a_runner_with_a_delegated_cgroup_serves_as_roots_does() {
    let cgroup = Cgroup::delegated("runner");
    let folder = Scratch::new("unused");
    let runner = Service::by(User::within(&cgroup).command(), "runner", &folder, &[]);
    let health = runner.client().get("/health").json();
    let lines = health["enforcement"].as_array().expect("what this host enforces");
    // Only root can make device nodes.
    let lacking: Vec<_> = lines.iter().filter(|line| line["enforced"] != true).collect();
    assert!(matches!(lacking[..], [line] if line["name"] == "devices"), "{health}");

    let none = json!({});
    let result = execute(&runner, &shell("id -u; cat /proc/self/cgroup", &none, 10.0));
    assert_eq!(result["stdout"], "1000\n0::/\n", "{result}");
    let hog = python("bytearray(1 << 28)", &json!({"memory": "32MiB"}), 30.0);
    let result = execute(&runner, &hog);
    assert_eq!(verdict(&result), killed("out_of_memory"), "{result}");
    assert!(result["usage"]["memory_peak_bytes"].as_u64().is_some(), "{result}");
    let result = execute(&runner, &shell("setsid sleep 98761 & sleep 98761", &none, 1.0));
    assert_eq!(verdict(&result), killed("timeout"), "{result}");
    assert!(census::gone("sleep 98761", Duration::from_secs(2)));
    drop(runner);
    all_gone();
}

#[test]
fn all_of_it_runs_as_an_ordinary_user() {
    let cgroup = Cgroup::delegated("up");
    let folder = Scratch::new("store");
    std::os::unix::fs::chown(&*folder, Some(TESTER), Some(TESTER)).unwrap();
    let up = Service::by(User::within(&cgroup).command(), "up", &folder, &[]);
    let hog = python("bytearray(1 << 28)", &json!({"memory": "32MiB"}), 30.0);
    let job = finished(up.client(), &hog);
    assert_eq!(verdict(&job), killed("out_of_memory"), "{job}");
    drop(up);
    all_gone();
}

#[test]
fn without_delegation_it_is_refused_with_what_helps() {
    let cgroup = Cgroup::new("plain");
    let user = User::within(&cgroup);
    let (code, report) = user.check();
    assert_eq!(code, Some(1), "{report}");
    for limit in ["memory", "cpu", "pids"] {
        let line = user::line(&report, limit);
        assert_eq!(line["enforced"], false, "{report}");
        assert!(line["detail"].as_str().unwrap().contains("not delegated"), "{line}");
    }
    let output = user.cloister(&["run", "--", "true"]);
    assert_eq!(output.status.code(), Some(125), "{}", user::stderr(&output));
    assert!(user::stderr(&output).contains("memory, cpu, pids"), "{}", user::stderr(&output));
    let output = user.cloister(&["runner", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1), "{}", user::stderr(&output));
    assert!(user::stderr(&output).contains("--allow-degraded"), "{}", user::stderr(&output));

    // Who accepts that is told so in each result.
    let (code, degraded) = user.run(&["--allow-degraded", "--", "true"]);
    assert_eq!(code, Some(0), "{degraded}");
    let missing = degraded["not_enforced"].as_array().expect("what was not enforced");
    for limit in ["memory", "cpu", "pids"] {
        assert!(missing.contains(&json!(limit)), "{degraded}");
    }

    // The remedy, word for word, but for what it can't know.
    let commands = user::command_in(user::line(&report, "memory")).replace("echo PID", "echo $$");
    let output = User::after(&format!("set -e; {commands}")).cloister(&["check"]);
    let _made_by_the_remedy = Cgroup::adopt("cloister");
    assert_eq!(output.status.code(), Some(0), "{commands}: {}", user::stdout(&output));
}

#[test]
fn one_controller_that_was_not_delegated_is_named_alone() {
    let above = Cgroup::new("above");
    fs::write(above.path().join("cgroup.subtree_control"), "+memory +pids").unwrap();
    let cgroup = Cgroup::delegated("above/below");
    let user = User::within(&cgroup);
    let (code, report) = user.check();
    assert_eq!(code, Some(1), "{report}");
    let lacking = |name: &str| user::line(&report, name)["enforced"] == false;
    assert!(lacking("cpu") && !lacking("memory") && !lacking("pids"), "{report}");
    assert!(user::line(&report, "cpu")["remedy"].as_str().unwrap().contains("+cpu"), "{report}");
    let hog = ["--allow-degraded", "--memory", "32MiB", "--", "/usr/bin/python3", "-c"];
    let (_, result) = user.run(&[&hog[..], &["bytearray(1 << 28)"]].concat());
    assert_eq!(verdict(&result), killed("out_of_memory"), "{result}");
    assert_eq!(result["not_enforced"], json!(["cpu"]), "{result}");
}

#[test]
fn a_host_without_user_namespaces_is_told_how_to_allow_them() {
    const SETTING: &str = "/proc/sys/user/max_user_namespaces";
    struct Restore(String);
    impl Drop for Restore {
        fn drop(&mut self) {
            fs::write(SETTING, &self.0).unwrap();
        }
    }
    let cgroup = Cgroup::delegated("nons");
    let _restore = Restore(fs::read_to_string(SETTING).unwrap());
    fs::write(SETTING, "0").unwrap();
    let output = User::within(&cgroup).cloister(&["run", "--", "true"]);
    assert_eq!(output.status.code(), Some(125), "{}", user::stderr(&output));
    assert!(
        user::stderr(&output).contains("sysctl user.max_user_namespaces=15000"),
        "{}",
        user::stderr(&output)
    );
    all_gone();
}

#[test]
fn systemd_is_asked_for_a_scope() {
    let machine = systemd::Machine::boot();
    let user = machine.user();
    // Nobody has logged in: there is a systemd, and no manager of this user.
    let (code, report) = user.check();
    assert_eq!(code, Some(1), "{report}");
    let line = user::line(&report, "memory");
    assert!(line["detail"].as_str().unwrap().contains("/run/user/1000/systemd/private"), "{line}");
    // A service that is delegated its cgroup needs none.
    let output = machine.service("check");
    assert_eq!(output.status.code(), Some(0), "{}", user::stdout(&output));

    machine.remedy(line);
    let (code, report) = user.check();
    assert_eq!((code, &report["ready"]), (Some(0), &json!(true)), "{report}");
    limits_hold(&user);
    // The job's cgroup is in a scope of the user's manager, and the scope goes with the command.
    let held = user.cloister(&["run", "--", "cat", "/proc/self/cgroup"]);
    assert_eq!(user::stdout(&held), "0::/\n", "{}", user::stderr(&held));
    all_gone();

    // As before systemd 252, or where an operator wants it so.
    machine.delegate("pids memory");
    let (code, report) = user.check();
    assert_eq!(code, Some(1), "{report}");
    let lacking = |name: &str| user::line(&report, name)["enforced"] == false;
    assert!(lacking("cpu") && !lacking("memory") && !lacking("pids"), "{report}");
    machine.remedy(user::line(&report, "cpu"));
    let (code, report) = user.check();
    assert_eq!(code, Some(0), "{report}");

    // A manager that is stopped is not waited for without end.
    let (code, report) = machine.while_stopped(|| user.check());
    assert_eq!(code, Some(1), "{report}");
    let detail = user::line(&report, "memory")["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("does not answer in time"), "{detail}");
    let remedy = user::line(&report, "memory")["remedy"].as_str().unwrap();
    assert!(remedy.contains("journalctl --user"), "{remedy}");
}
