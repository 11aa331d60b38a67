//! The ordinary user, and the cgroup that it starts from.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use cloister_tests::{Scratch, cloister, emulated};
use serde_json::Value;

/// The machine's ordinary user.
pub(crate) const TESTER: u32 = 1000;
const TOP: &str = "/sys/fs/cgroup";

/// A cgroup made by root; removed when dropped, with those below it, once they are empty.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one that stays root's.
    pub(crate) fn new(name: &str) -> Self {
        assert!(emulated(), "only the lab's machine may be changed so");
        let path = Path::new(TOP).join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Makes one and gives it to the user, as systemd does for `Delegate=yes`.
    pub(crate) fn delegated(name: &str) -> Self {
        let cgroup = Self::new(name);
        for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            chown(cgroup.0.join(file), Some(TESTER), Some(TESTER)).unwrap();
        }
        cgroup
    }

    /// One that is there already.
    pub(crate) fn adopt(name: &str) -> Self {
        Self(Path::new(TOP).join(name))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// There is no event for "the last zombie has gone".
fn remove(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let until = Instant::now() + Duration::from_secs(10);
    while let Err(error) = fs::remove_dir(folder) {
        if error.kind() != ErrorKind::ResourceBusy || Instant::now() > until {
            eprintln!("{} stays: {error}", folder.display());
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The user, starting programs.
pub(crate) struct User {
    /// A program and its arguments, which becomes what is appended.
    prefix: Vec<String>,
    reports: Scratch,
}

impl User {
    /// In this cgroup, or from its second program on in the leaf that the first one made there: the
    /// kernel lets nobody into a cgroup whose children have controllers.
    pub(crate) fn within(cgroup: &Cgroup) -> Self {
        let path = cgroup.path().display();
        Self::after(&format!(
            "in={path}/service.cloister; [ -d $in ] || in={path}; echo $$ >$in/cgroup.procs"
        ))
    }

    /// After root has run these commands in the shell that then becomes the user's program.
    pub(crate) fn after(commands: &str) -> Self {
        Self::entering(commands, &[])
    }

    /// The same, and by way of another program, such as nsenter(1).
    pub(crate) fn entering(commands: &str, by: &[String]) -> Self {
        let shell = ["/bin/sh", "-c", &format!("{commands} || exit 99; cd /; exec \"$@\""), "sh"];
        let user = ["--reuid", "--regid"].map(|option| format!("{option}={TESTER}"));
        let reports = Scratch::new("reports");
        fs::set_permissions(&*reports, fs::Permissions::from_mode(0o777)).unwrap();
        let prefix = shell.map(String::from).into_iter().chain(by.iter().cloned());
        let prefix = prefix.chain(["setpriv".into()]).chain(user).chain(["--init-groups".into()]);
        Self { prefix: prefix.collect(), reports }
    }

    /// What becomes the program in its last arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("/usr/bin/env");
        command.args(["-u", "XDG_RUNTIME_DIR", "-u", "CLOISTER_TOKEN"]).args(&self.prefix);
        command.stdin(Stdio::null());
        command
    }

    /// `cloister` with these arguments, to its end.
    pub(crate) fn cloister(&self, args: &[&str]) -> Output {
        let timeout = ["/usr/bin/timeout", "--kill-after=5", "120"];
        let mut whole = Command::new(timeout[0]);
        whole.args(&timeout[1..]).arg(self.command().get_program()).args(self.command().get_args());
        whole.arg(cloister()).args(args).stdin(Stdio::null()).output().unwrap()
    }

    /// `cloister check`: its exit code, and what it says.
    pub(crate) fn check(&self) -> (Option<i32>, Value) {
        let output = self.cloister(&["check", "--json"]);
        let report = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", stdout(&output), stderr(&output)));
        (output.status.code(), report)
    }

    /// `cloister run`: its exit code, and its report.
    pub(crate) fn run(&self, args: &[&str]) -> (Option<i32>, Value) {
        let file = self.reports.join("report");
        let _ = fs::remove_file(&file);
        let output = self.cloister(&[&["run", "--report", file.to_str().unwrap()], args].concat());
        let report = fs::read(&file).unwrap_or_default();
        let report = serde_json::from_slice(&report)
            .unwrap_or_else(|error| panic!("{args:?}: {error}: {}", stderr(&output)));
        (output.status.code(), report)
    }
}

/// What a report says of one limit.
pub(crate) fn line<'a>(report: &'a Value, name: &str) -> &'a Value {
    let lines = report["enforcement"].as_array().expect("a list");
    lines.iter().find(|line| line["name"] == name).unwrap_or_else(|| panic!("{name}: {report}"))
}

/// The command in a remedy.
pub(crate) fn command_in(line: &Value) -> &str {
    let remedy = line["remedy"].as_str().unwrap_or_else(|| panic!("no remedy: {line}"));
    remedy.split('`').nth(1).unwrap_or_else(|| panic!("no command: {remedy}"))
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
