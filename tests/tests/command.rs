//! `cloister run` and `cloister check`, as they are typed.

use std::{
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use cloister_tests::{Scratch, census, cloister, emulated, run};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `cloister run` with these words, its exit code, and what it said.
fn exit(args: &[&str]) -> (Option<i32>, String) {
    let output = run(&[&["run"], args].concat());
    (output.status.code(), stderr(&output))
}

#[test]
fn the_exit_status_is_the_commands() {
    for (args, code) in [
        (&["--", "true"][..], 0),
        (&["--", "sh", "-c", "exit 3"], 3),
        (&["--", "sh", "-c", "kill -TERM $$"], 143),
        (&["--timeout", "0.2", "--", "sleep", "60"], 124),
        (&["--", "no-such-program"], 127),
        (&["--", "/etc/passwd"], 126),
        (&["--cwd", "/no/such", "--", "true"], 127),
        // Fewer descriptors than PID 1 has: the loader needs one beside the three.
        (&["--open-files", "4", "--", "true"], 0),
        (&["--memory", "1KiB", "--", "true"], 125),
        (&["--memory", "16MiB", "--", "/usr/bin/python3", "-c", "bytearray(1 << 28)"], 137),
    ] {
        let (found, said) = exit(args);
        assert_eq!(found, Some(code), "{args:?}: {said}");
    }
}

#[test]
fn a_callers_umask_is_its_own() {
    let run = "umask 077; exec \"$0\" run -- sh -c 'umask; echo of the job >f; cat f; ls -ld . | cut -c1-10'";
    let output = Command::new("sh").args(["-c", run]).arg(cloister()).output().unwrap();
    assert_eq!(stdout(&output), "0022\nof the job\ndrwxr-xr-x\n", "{}", stderr(&output));
}

#[test]
fn what_it_says_names_the_cause() {
    assert!(exit(&["--timeout", "0.2", "--", "sleep", "60"]).1.contains("timeout of 0.2s"));
    assert!(exit(&["--", "no-such-program"]).1.contains("\"no-such-program\""));
    assert!(exit(&["--memory", "64M", "--", "true"]).1.contains("64MiB"));
    // The command's own end needs no comment.
    assert_eq!(exit(&["--", "sh", "-c", "exit 3"]).1, "");
}

#[test]
fn stdio_passes_through() {
    let mut child = Command::new(cloister())
        .args(["run", "--", "sh", "-c", "cat; echo again > /dev/stdout; echo err >&2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"in\0\xff").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.stdout.as_slice(), stderr(&output).as_str()),
        (&b"in\0\xffagain\n"[..], "err\n")
    );
}

#[test]
fn the_report_is_the_result() {
    let folder = Scratch::new("report");
    let file = folder.join("report.json");
    let path = file.to_str().unwrap();
    let output = run(&["run", "--report", path, "--env", "A=1", "--", "sh", "-c", "exit $A"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(
        (&report["status"], &report["reason"]),
        (&"failed".into(), &"exit_code".into()),
        "{report}"
    );
    assert!(report["usage"]["cpu_ms"].as_f64().unwrap() > 0.0, "{report}");
    // The streams passed through: nothing is known of them here.
    assert!(report.get("stdout").is_none() && report.get("stderr").is_none(), "{report}");
}

#[test]
fn ctrl_c_ends_the_job_and_all_of_it() {
    let mut child = Command::new(cloister())
        .args(["run", "--", "sh", "-c", "setsid sleep 98766 & sleep 98766"])
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let until = Instant::now() + Duration::from_secs(30);
    while census::processes("sleep 98766").len() < 3 {
        assert!(Instant::now() < until, "the job does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    kill(pid, Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(census::gone("sleep 98766", Duration::from_secs(1)));
}

#[test]
fn check_tells_what_holds() {
    let output = run(&["check", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
    assert_eq!(report["ready"], output.status.success());
    let line = |name: &str| {
        let lines = report["enforcement"].as_array().unwrap();
        lines
            .iter()
            .find(|line| line["name"] == name)
            .unwrap_or_else(|| panic!("{name}: {report}"))
            .clone()
    };
    // As root every host that these tests are made for can enforce everything.
    assert!(output.status.success(), "{report}");
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let version = if controllers.contains("memory") { "cgroup v2" } else { "cgroup v1" };
    for name in ["memory", "cpu", "pids"] {
        assert_eq!(
            (&line(name)["enforced"], &line(name)["detail"]),
            (&true.into(), &version.into())
        );
    }
    assert_eq!(line("cell")["enforced"], true);
    let readable = stdout(&run(&["check"]));
    assert!(readable.lines().filter(|line| line.starts_with("ok")).count() >= 7, "{readable}");
}

/// Runs a shell line as an ordinary user, which has no cgroup delegated to it.
fn as_nobody(line: &str) -> Output {
    // A copy that anybody may execute, wherever the build folder is.
    let folder = Scratch::new("nobody");
    let copy = folder.join("cloister");
    fs::copy(cloister(), &copy).unwrap();
    fs::set_permissions(&*folder, fs::Permissions::from_mode(0o777)).unwrap();
    Command::new("/usr/bin/setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "/bin/sh", "-c", line])
        .env("C", &copy)
        .env("D", &*folder)
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn an_ordinary_user_is_told_what_is_missing_and_refused() {
    let output = as_nobody("$C check");
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for name in ["memory", "cpu", "pids"] {
        assert!(said.lines().any(|l| l.starts_with("no") && l.contains(name)), "{said}");
    }
    // What helps depends on the machine; `unprivileged` tries each.
    assert!(said.contains("start it as root"), "{said}");
    assert!(said.lines().any(|l| l.starts_with("ok") && l.contains("cell")), "{said}");
    let output = as_nobody("$C run -- true");
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("memory"), "{}", stderr(&output));
    let output = as_nobody("timeout 10 $C runner --listen 127.0.0.1:0");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("--allow-degraded"), "{}", stderr(&output));
}

#[test]
fn an_ordinary_user_who_accepts_it_gets_a_cell() {
    let output = as_nobody(
        "$C run --allow-degraded --report $D/r -- sh -c 'id -u; ls -d /root /home; cat /proc/net/dev | wc -l'; cat $D/r >&2",
    );
    assert_eq!(stdout(&output), "1000\n3\n", "{}", stderr(&output));
    assert!(stderr(&output).contains("\"not_enforced\""), "{}", stderr(&output));
    // Without a cgroup processes are still counted.
    let output = as_nobody(
        "$C run --allow-degraded --pids 8 -- sh -c 'for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait'",
    );
    assert!(stderr(&output).contains("fork"), "{}", stderr(&output));
}

#[test]
fn a_folder_that_every_cell_covers_is_not_exposed() {
    let (code, said) = exit(&["--expose", "/tmp/x", "--", "true"]);
    assert_eq!(code, Some(125));
    assert!(said.contains("/tmp of its own"), "{said}");
    let (code, said) = exit(&["--expose", "/no/such", "--", "true"]);
    assert_eq!(code, Some(125), "{said}");
}

#[test]
fn launches_are_not_slow() {
    // No benchmark: it fails only when something waits for a time-out.
    let began = Instant::now();
    for _ in 0..10 {
        assert_eq!(exit(&["--", "true"]).0, Some(0));
    }
    let limit = if emulated() { 60 } else { 10 };
    assert!(began.elapsed() < Duration::from_secs(limit), "{:?}", began.elapsed());
}
