//! AppArmor, on a kernel that has it: the job's own profile, the one that lets cloister make user
//! namespaces, and, by a rule that hides it, a kernel without `cgroup.kill`. Runs in the virtual
//! machine only, as root, one test at a time: profiles are the machine's.

use std::{
    fs,
    io::Write,
    process::{Command, Output, Stdio},
    time::Duration,
};

use cloister_tests::{Scratch, census, cloister, run};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A loaded profile; unloaded when dropped.
struct Profile(String);

impl Profile {
    fn load(text: impl Into<String>) -> Self {
        let text = text.into();
        parser("--replace", &text);
        Self(text)
    }

    /// One of those that the program prints.
    fn of_cloister(name: &str) -> Self {
        let output = run(&["apparmor", name]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        Self::load(text(&output.stdout))
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        parser("--remove", &self.0);
    }
}

fn parser(option: &str, profile: &str) {
    let mut child = Command::new("/usr/sbin/apparmor_parser")
        .args(["--quiet", "--skip-cache", option])
        .stdin(Stdio::piped())
        .spawn()
        .expect("the virtual machine has apparmor_parser");
    child.stdin.take().unwrap().write_all(profile.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "apparmor_parser {option} failed for:\n{profile}");
}

/// Runs the program confined by a profile, as an ordinary user or as root.
fn confined(profile: &str, user: Option<&str>, args: &[&str]) -> Output {
    let mut command = Command::new("/usr/bin/aa-exec");
    command.args(["-p", profile, "--"]);
    if let Some(user) = user {
        let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
        command.args(["/usr/bin/setpriv", &uid, &gid, "--clear-groups"]);
    }
    command.arg(cloister()).args(args).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_job_has_its_profile_where_it_is_loaded() {
    let profile = |output: &Output| text(&output.stdout).trim().to_owned();
    let look = ["run", "--", "cat", "/proc/self/attr/apparmor/current"];
    assert_eq!(profile(&run(&look)), "unconfined");
    let said = text(&run(&["check"]).stdout);
    let line = said.lines().find(|line| line.contains("apparmor")).unwrap_or_default();
    assert!(line.starts_with("--") && line.contains("not loaded"), "{said}");
    // A layer on top: without it nothing that was promised is missing.
    assert!(said.contains("everything holds"), "{said}");

    let _loaded = Profile::of_cloister("cell");
    assert_eq!(profile(&run(&look)), "cloister-cell (enforce)");
    assert!(text(&run(&["check"]).stdout).lines().any(|line| {
        line.starts_with("ok") && line.contains("apparmor") && line.contains("cloister-cell")
    }));
}

#[test]
fn the_callers_streams_go_wherever_they_lead() {
    // A file outside of the cell has no name inside that a rule could allow.
    let _loaded = Profile::of_cloister("cell");
    let folder = Scratch::new("streams");
    let file = folder.join("out");
    let status = Command::new(cloister())
        .args(["run", "--", "sh", "-c", "echo written; cat"])
        .stdin(fs::File::open("/etc/hostname").unwrap())
        .stdout(fs::File::create(&file).unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    let expected = format!("written\n{}", fs::read_to_string("/etc/hostname").unwrap());
    assert_eq!(fs::read_to_string(file).unwrap(), expected);
}

#[test]
fn locks_are_kept_to_the_jobs_own_files() {
    let try_locks = "for f in /usr/bin/env /job/a /tmp/a /dev/shm/a /tmp; do \
        flock --nonblock $f true 2>/dev/null && echo $f; done";
    let locked = || text(&run(&["run", "--", "sh", "-c", try_locks]).stdout);
    assert_eq!(locked(), "/usr/bin/env\n/job/a\n/tmp/a\n/dev/shm/a\n/tmp\n");
    let _loaded = Profile::of_cloister("cell");
    assert_eq!(locked(), "/job/a\n/tmp/a\n/dev/shm/a\n/tmp\n");
}

#[test]
fn a_profile_lets_user_namespaces_through_where_they_are_restricted() {
    // What Ubuntu does to programs without a profile, said as one: everything but user namespaces.
    const RESTRICTED: &str = "abi <abi/4.0>,
        profile cloister-test-restricted flags=(attach_disconnected) {
          capability, mount, umount, remount, pivot_root, signal, ptrace, network, unix, change_profile,
          / r,
          /** rwlkm,
          /** pix,
        }";
    let _restricted = Profile::load(RESTRICTED);
    let as_tester = |args: &[&str]| confined("cloister-test-restricted", Some("tester"), args);
    let job = ["run", "--allow-degraded", "--", "echo", "ran"];
    let refused = as_tester(&job);
    assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(125), String::new()));
    let remedy = "cloister apparmor userns | sudo apparmor_parser --replace";
    assert!(text(&refused.stderr).contains(remedy), "{}", text(&refused.stderr));
    let check = as_tester(&["check"]);
    assert!(!check.status.success() && text(&check.stdout).contains(remedy));

    let _allowed = Profile::of_cloister("userns");
    let allowed = as_tester(&job);
    assert_eq!(text(&allowed.stdout), "ran\n", "{}", text(&allowed.stderr));
}

#[test]
fn a_kernel_without_cgroup_kill_ends_cells_all_the_same() {
    const HIDDEN: &str = "abi <abi/3.0>,
        profile cloister-test-no-kill flags=(attach_disconnected) {
          file, capability, mount, umount, remount, pivot_root, signal, ptrace, network, unix, change_profile,
          deny /**/cgroup.kill w,
        }";
    let _hidden = Profile::load(HIDDEN);
    let run = |args: &[&str]| confined("cloister-test-no-kill", None, &[&["run"], args].concat());
    // At its limit it goes on trying.
    let spawner = "import os, time\n\
        while True:\n try:\n  if os.fork() == 0: os.setsid(); time.sleep(98773)\n except OSError: pass";
    for (args, code) in [
        (&["--", "true"][..], 0),
        // The timeout, and what left the session.
        (&["--timeout", "1s", "--", "sh", "-c", "setsid sleep 98773 & sleep 98773"], 124),
        // A daemon that outlives the command.
        (&["--", "sh", "-c", "setsid sleep 98773 & exit 3"], 3),
        // What forks while it is killed.
        (&["--timeout", "2s", "--pids", "64", "--", "python3", "-c", spawner, "98773"], 124),
        (&["--memory", "16MiB", "--", "python3", "-c", "bytearray(1 << 28)"], 137),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
        assert!(census::gone("98773", Duration::from_secs(5)), "{args:?}");
        assert_eq!(census::cgroups("/cell-"), Vec::<String>::new(), "{args:?}");
    }
}
