//! What an attack runs in.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Case, Need};

/// Where an attack may look for programs, inside and outside.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// A way to start a program confined.
#[derive(Clone, Debug)]
pub enum Sandbox {
    /// `cloister run`.
    Cloister {
        /// The program.
        binary: PathBuf,
        /// Further options, before the case's own.
        options: Vec<String>,
    },
    /// bubblewrap, with the options of a careful user.
    Bwrap,
}

/// One program that is to run confined.
pub(super) struct Cell<'a> {
    /// The folder of the suite, which is shown inside at the same path.
    pub attacks: &'a Path,
    /// The program and its arguments.
    pub argv: Vec<OsString>,
    /// Further words for `cloister run`.
    pub options: Vec<String>,
    /// Its environment, but for what every program is given.
    pub variables: Vec<(String, String)>,
    /// The file to which the caller has descriptor 9.
    pub secret: &'a Path,
    /// Where the result goes, if the sandbox tells one.
    pub report: &'a Path,
    /// Whether the caller sits at a terminal.
    pub tty: bool,
    /// The caller, if not the one who runs the tests.
    pub user: Option<u32>,
    /// When the caller gives up, in seconds.
    pub patience: u32,
}

impl Sandbox {
    /// What it is called in results.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cloister { .. } => "cloister",
            Self::Bwrap => "bwrap",
        }
    }

    /// Cloister as it is built, without further options.
    pub fn cloister(binary: PathBuf) -> Self {
        Self::Cloister { binary, options: Vec::new() }
    }

    /// Why a case can't be run in it, if so.
    pub(super) fn not_for(&self, case: &Case) -> Option<&'static str> {
        let only_cloister = matches!(self, Self::Bwrap) && case.needs.contains(&Need::Cloister);
        only_cloister.then_some("not applicable")
    }

    /// A caller who has a secret in its environment and descriptor 9 open, and starts the program.
    pub(super) fn command(&self, cell: &Cell<'_>) -> Command {
        let mut line: Vec<OsString> = words(&["/bin/sh", "-c", r#"exec 9<"$0"; exec "$@""#]);
        line.push(cell.secret.into());
        if let Some(user) = cell.user {
            line.push("/usr/bin/setpriv".into());
            line.extend([format!("--reuid={user}"), format!("--regid={user}")].map(Into::into));
            line.push("--clear-groups".into());
        }
        match self {
            Self::Cloister { binary, options } => line.extend(cloister(binary, options, cell)),
            Self::Bwrap => line.extend(bwrap(cell)),
        }
        line.extend(cell.argv.iter().cloned());
        if cell.tty {
            line = words(&["/usr/bin/script", "--quiet", "--return", "--command"])
                .into_iter()
                .chain([quoted(&line), "/dev/null".into()])
                .collect();
        }
        let mut command = Command::new("/usr/bin/timeout");
        command
            .arg("--kill-after=5")
            .arg(cell.patience.to_string())
            .args(line)
            .env_clear()
            .env("PATH", PATH)
            .env("SHELL", "/bin/sh")
            .env("WITNESS_SECRET", "what only the caller should know")
            .current_dir("/")
            // A terminal stays open while somebody sits at it.
            .stdin(if cell.tty { Stdio::piped() } else { Stdio::null() });
        command
    }
}

/// What comes before the program's own words. Time-out and memory are the defaults, 30 s and 512 MiB,
/// so that a case may ask for others.
fn cloister(binary: &Path, options: &[String], cell: &Cell<'_>) -> Vec<OsString> {
    let mut line: Vec<OsString> = vec![binary.into(), "run".into()];
    line.extend([OsStr::new("--report"), cell.report.as_os_str()].map(Into::into));
    line.extend([OsStr::new("--expose"), cell.attacks.as_os_str()].map(Into::into));
    for (name, value) in &cell.variables {
        line.extend(["--env".to_owned(), format!("{name}={value}")].map(Into::into));
    }
    line.extend(options.iter().chain(&cell.options).map(Into::into));
    line.push("--".into());
    line
}

/// The same view as a cell's, as far as bubblewrap's options can make it. It has no limits to set.
fn bwrap(cell: &Cell<'_>) -> Vec<OsString> {
    let mut line =
        words(&["/usr/bin/bwrap", "--unshare-all", "--die-with-parent", "--new-session"]);
    line.extend(words(&["--cap-drop", "ALL", "--hostname", "cell", "--clearenv"]));
    line.extend(words(&["--ro-bind", "/usr", "/usr"]));
    for folder in ["bin", "sbin", "lib", "lib64"] {
        line.extend(
            ["--symlink".into(), format!("usr/{folder}"), format!("/{folder}")].map(Into::into),
        );
    }
    for file in ["/etc/alternatives", "/etc/ld.so.cache"] {
        line.extend(words(&["--ro-bind", file, file]));
    }
    line.extend(words(&["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/job"]));
    line.extend(
        [OsStr::new("--ro-bind"), cell.attacks.as_os_str(), cell.attacks.as_os_str()]
            .map(Into::into),
    );
    line.extend(words(&["--setenv", "PATH", PATH, "--setenv", "HOME", "/job"]));
    for (name, value) in &cell.variables {
        line.extend(["--setenv", name, value].map(Into::into));
    }
    line.extend(words(&["--chdir", "/job", "--"]));
    line
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(Into::into).collect()
}

/// One line for a shell that means just these words.
fn quoted(words: &[OsString]) -> OsString {
    let quote = |word: &OsString| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
    words.iter().map(quote).collect::<Vec<_>>().join(" ").into()
}
