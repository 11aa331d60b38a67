//! What keeps a service from starting: it says so and ends, with exit code 1. `up` as well, whichever
//! of its two sides it is.
//!
//! Every line of "refuses to start" in docs/operating.md is tried, by each command that can meet it.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

use cloister_tests::{Scratch, Service, cloister};

/// A service that starts after all, or hangs, is ended after so many seconds.
const PATIENCE: &str = "60";
/// What timeout(1) then exits with.
const TIMED_OUT: i32 = 124;
/// The user that a service of root becomes.
const SERVICE_UID: u32 = 61840;

const OPERATING: &str = include_str!("../../docs/operating.md");

/// Lines of docs/operating.md that are tried elsewhere, and where.
const ELSEWHERE: &[(&str, &str)] = &[
    ("401", "refuses requests, and starts: tests/edge.rs"),
    (
        "the store postgres://… can't be used: a pooler",
        "needs pgbouncer: coordinator/src/store/postgres/tests/pooler.rs",
    ),
    (
        "opening the store … failed: its write-ahead log is damaged",
        "needs a store that is damaged: coordinator/src/store/sqlite/tests/log.rs",
    ),
    (
        "… making the cell's namespaces failed",
        "needs a seccomp filter around it: the same as a cell \
      that can't be made for another reason",
    ),
    (
        "the runner failed: the process that makes cells has ended",
        "after the start: tests/lifecycle.rs",
    ),
];

/// Which commands are tried.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Both,
    Up,
    Coordinator,
}

/// Something that keeps a service from starting.
struct Case<'a> {
    /// How its line in docs/operating.md begins, if it has one.
    line: Option<&'a str>,
    by: By,
    /// What is executed before the program, such as setpriv(1).
    through: &'a [&'a str],
    /// The program, where it is not the built one.
    program: Option<&'a Path>,
    args: &'a [&'a str],
    /// The folder of its store, where it is not a new one.
    data: Option<&'a Path>,
    /// What is said on stderr, at least.
    says: &'a [&'a str],
}

impl Case<'_> {
    const NONE: Self = Self {
        line: None,
        by: By::Both,
        through: &[],
        program: None,
        args: &[],
        data: None,
        says: &[],
    };

    fn kinds(&self) -> &'static [&'static str] {
        match self.by {
            By::Both => &["up", "coordinator"],
            By::Up => &["up"],
            By::Coordinator => &["coordinator"],
        }
    }

    /// Starts it, and comes back with what it said when it has ended.
    fn run(&self, kind: &str) -> Output {
        let own = Scratch::new("refused");
        fs::set_permissions(&*own, fs::Permissions::from_mode(0o777)).unwrap();
        let new = own.join("data");
        let data = self.data.unwrap_or(&new);
        let program = self.program.map_or_else(cloister, Path::to_owned);
        let mut command = Command::new("/usr/bin/timeout");
        command.args(["--kill-after=5", PATIENCE]).args(self.through).arg(program).arg(kind);
        // What comes later on the command line wins nothing: an option is given once.
        let given = |option: &str| self.args.contains(&option);
        if !given("--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if kind == "up" {
            command.arg("--data").arg(data);
            if !given("--runner-listen") {
                command.args(["--runner-listen", "127.0.0.1:0"]);
            }
        } else {
            if !given("--store") {
                let store = format!("sqlite:{}", data.join("cloister.db").display());
                command.arg("--store").arg(store);
            }
            if !given("--runner-url") {
                command.args(["--runner-url", "http://127.0.0.1:1"]);
            }
        }
        command.args(self.args);
        for name in ["CLOISTER_TOKEN", "CLOISTER_RUNNER_URL", "RUNNER_URL"] {
            command.env_remove(name);
        }
        command.current_dir("/").stdin(Stdio::null()).output().expect("it can be started")
    }

    /// Why it is not as it should be, if so.
    fn fault(&self, kind: &str) -> Option<String> {
        let output = self.run(kind);
        let said = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        let missing: Vec<_> = self.says.iter().filter(|part| !said.contains(**part)).collect();
        if code == Some(1) && missing.is_empty() && said.starts_with("cloister: ") {
            return None;
        }
        let how = if code == Some(TIMED_OUT) { "does not end" } else { "ends otherwise" };
        let log = String::from_utf8_lossy(&output.stdout);
        let Self { args, .. } = self;
        Some(format!("{kind} {args:?} {how} ({code:?}), {missing:?} is missing in {said}\n{log}"))
    }
}

/// Tries all of them side by side; a case's commands one after the other, since they share its folder.
fn try_all(cases: &[Case<'_>]) {
    let faults = |case: &Case<'_>| -> Vec<String> {
        case.kinds().iter().filter_map(|kind| case.fault(kind)).collect()
    };
    let faults: Vec<_> = thread::scope(|scope| {
        let tries: Vec<_> = cases.iter().map(|case| scope.spawn(move || faults(case))).collect();
        tries.into_iter().flat_map(|one| one.join().expect("no panic")).collect()
    });
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

/// A database with this header, which SQLite takes for one of that program and version.
fn database(path: &Path, application: u32, version: u32) {
    let program = format!(
        "import sqlite3, sys\n\
         db = sqlite3.connect(sys.argv[1])\n\
         db.execute('CREATE TABLE one (x)')\n\
         db.execute('PRAGMA application_id = {application}')\n\
         db.execute('PRAGMA user_version = {version}')\n\
         db.commit()"
    );
    let made = Command::new("/usr/bin/python3").arg("-c").arg(program).arg(path).status();
    assert!(made.unwrap().success());
}

/// Text in a file that only root can read.
fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().into()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn what_keeps_a_service_from_starting_is_said_and_ends_it() {
    let folder = Scratch::new("refusals");
    let path = |name: &str| folder.join(name);

    let running = Service::up(&["--slots", "1"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = listener.local_addr().unwrap().to_string();
    let short = file(&folder, "short", "abc\n");
    let absent = path("absent").display().to_string();
    let token = file(&folder, "token", "0123456789abcdef0123456789abcdef\n");

    let (newer, foreign, odd) = (path("newer"), path("foreign"), path("odd"));
    for at in [&newer, &foreign, &odd] {
        fs::create_dir(at).unwrap();
    }
    database(&newer.join("cloister.db"), 0x4365_6c6c, 99);
    database(&foreign.join("cloister.db"), 7, 1);
    fs::create_dir(odd.join("cloister.db")).unwrap();
    chown(&odd, Some(SERVICE_UID), Some(SERVICE_UID)).unwrap();
    let others = path("others");
    fs::create_dir(&others).unwrap();
    fs::write(others.join("letter"), "not ours").unwrap();

    // A copy that any user may execute, wherever the build folder is.
    let copy = path("cloister");
    fs::copy(cloister(), &copy).unwrap();
    fs::set_permissions(&*folder, fs::Permissions::from_mode(0o755)).unwrap();
    let covered = "mount -t tmpfs none /proc/tty && exec \"$@\"";

    let cases = [
        Case {
            line: Some("refusing to listen on 0.0.0.0:8080, which others can reach"),
            args: &["--listen", "0.0.0.0:0"],
            says: &["refusing to listen on 0.0.0.0:0, which others can reach, without a token"],
            ..Case::NONE
        },
        Case {
            by: By::Up,
            args: &["--runner-listen", "0.0.0.0:0"],
            says: &["--runner-token-file", "refusing to listen on 0.0.0.0:0"],
            ..Case::NONE
        },
        Case {
            line: Some("the token in line 1 of … is not usable"),
            args: &["--token-file", &short],
            says: &["the token in line 1 of ", "is not usable: it is shorter than 16 characters"],
            ..Case::NONE
        },
        Case {
            args: &["--runner-token-file", &short],
            says: &["the token in line 1 of ", "is not usable"],
            ..Case::NONE
        },
        Case {
            line: Some("cannot read the token file …"),
            args: &["--token-file", &absent],
            says: &["cannot read the token file ", "No such file"],
            ..Case::NONE
        },
        Case {
            args: &["--runner-token-file", &absent],
            says: &["cannot read the token file ", "No such file"],
            ..Case::NONE
        },
        Case {
            args: &["--tls-cert", &absent, "--tls-key", &absent],
            says: &["/absent", "No such file"],
            ..Case::NONE
        },
        Case {
            by: By::Up,
            args: &[
                "--tls-cert",
                &absent,
                "--tls-key",
                &absent,
                "--runner-listen",
                "0.0.0.0:0",
                "--runner-token-file",
                &token,
            ],
            says: &["refusing to encrypt the way to the coordinator and not that to the runner"],
            ..Case::NONE
        },
        Case {
            line: Some("cannot listen on 127.0.0.1:8080: Address already in use"),
            args: &["--listen", &busy],
            says: &["cannot listen on 127.0.0.1:", "Address already in use (os error 98)"],
            ..Case::NONE
        },
        Case {
            by: By::Up,
            args: &["--runner-listen", &busy],
            says: &["cannot listen on 127.0.0.1:", "Address already in use (os error 98)"],
            ..Case::NONE
        },
        Case {
            line: Some("this host cannot enforce what jobs are promised:"),
            by: By::Up,
            through: &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
            program: Some(&copy),
            says: &["this host cannot enforce what jobs are promised:", "--allow-degraded"],
            ..Case::NONE
        },
        Case {
            line: Some("this host lets no cell be made"),
            by: By::Up,
            through: &["unshare", "--mount", "sh", "-c", covered, "sh"],
            says: &[
                "this host lets no cell be made; `cloister check` says more: ",
                "own /proc failed",
            ],
            ..Case::NONE
        },
        Case {
            line: Some("becoming user 61840 failed"),
            through: &["setpriv", "--bounding-set=-setuid"],
            says: &["becoming user 61840 failed: Operation not permitted (os error 1)"],
            ..Case::NONE
        },
        Case {
            line: Some("no runner is named"),
            by: By::Coordinator,
            args: &["--runner-url", ""],
            says: &["no runner is named; give --runner-url "],
            ..Case::NONE
        },
        Case {
            by: By::Coordinator,
            args: &["--runner-url", "runner:8080"],
            says: &["the coordinator failed: the runner URL \"runner:8080\""],
            ..Case::NONE
        },
        Case {
            line: Some("the store … is in use by another coordinator"),
            data: Some(running.data()),
            says: &["the coordinator failed: the store ", "is in use by another coordinator"],
            ..Case::NONE
        },
        Case {
            line: Some("opening the store … failed"),
            data: Some(&odd),
            says: &["the coordinator failed: opening the store ", "check that its folder can be"],
            ..Case::NONE
        },
        Case {
            line: Some("the store … has schema …"),
            data: Some(&newer),
            says: &["the coordinator failed: the store ", " has schema 99, this program knows up"],
            ..Case::NONE
        },
        Case {
            data: Some(&foreign),
            says: &["the coordinator failed: ", "is a database of another program"],
            ..Case::NONE
        },
        Case {
            line: Some("the store cannot be kept in …"),
            data: Some(&others),
            says: &["the store cannot be kept in ", "it belongs to uid 0 and holds other files"],
            ..Case::NONE
        },
        Case {
            line: Some("connecting to the store postgres://… failed"),
            by: By::Coordinator,
            args: &["--store", "postgres://cloister@127.0.0.1:1/cloister"],
            says: &["the coordinator failed: connecting to the store ", "refused"],
            ..Case::NONE
        },
    ];
    try_all(&cases);

    let tried: Vec<&str> = cases.iter().filter_map(|case| case.line).collect();
    let elsewhere: Vec<&str> = ELSEWHERE.iter().map(|(line, _)| *line).collect();
    let documented = documented();
    for line in &documented {
        let known = tried.iter().chain(&elsewhere).any(|start| line.starts_with(start));
        assert!(known, "docs/operating.md has {line:?}, which nobody tries");
    }
    for start in tried.iter().chain(&elsewhere) {
        let known = documented.iter().any(|line| line.starts_with(start));
        assert!(known, "{start:?} is tried, and not in docs/operating.md");
    }
}

/// What services say that refuse to start, by the tables of docs/operating.md.
fn documented() -> Vec<String> {
    let mut lines = Vec::new();
    for heading in ["### The runner refuses to start", "### A coordinator refuses to start"] {
        let (_, section) = OPERATING.split_once(heading).expect(heading);
        let section = section.split("\n### ").next().unwrap_or_default();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let first = rows.filter_map(|row| row.split(" | ").next());
        lines.extend(first.map(|cell| cell.trim_matches(['|', ' ', '`']).to_owned()));
    }
    assert!(lines.len() > 10, "{lines:?}");
    lines
}
