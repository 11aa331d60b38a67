//! What an attack runs in.
//!
//! - [`Sandbox`]: a way to start a program confined: [`cloister`](mod@cloister), or one of the [`Other`] programs
//!   that people use for it.
//! - [`Cell`]: one program that is to run confined.
//! - [`Launch`]: the command that starts it, and what is taken away after it.
//! - [`ControlGroup`]: the limits that a caller sets, for programs that leave these to it.

mod bwrap;
mod cloister;
mod control_group;
mod go_sandbox;
mod isolate;
mod nsjail;
mod runc;

use std::{
    any::Any,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use cloister_api::Limits;

use self::control_group::ControlGroup;
use super::{Case, Need};

/// Where an attack may look for programs, inside and outside.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// After so many seconds the harness ends a sandbox that goes on. Cloister has 30 s for the attack, and the
/// virtual machine's emulated processor takes its time to start it.
const PATIENCE: u32 = 75;
/// The same for another program, whose own deadline is not used.
const PATIENCE_WITH_OTHERS: u32 = 30;

/// The word that a program in another sandbox prints before it begins.
pub(super) const BEGAN: &str = "began";

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
    /// Another program.
    Other {
        /// Which.
        kind: Other,
        /// Where it is.
        binary: PathBuf,
    },
}

/// Another program that confines; each is given the options of a careful user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// bubblewrap.
    Bwrap,
    /// The library go-sandbox, by its program `runprog`.
    GoSandbox,
    /// isolate, of the programming contests.
    Isolate,
    /// nsjail.
    Nsjail,
    /// runc, as container engines start it.
    Runc,
}

impl Other {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Bwrap, Self::GoSandbox, Self::Isolate, Self::Nsjail, Self::Runc];

    /// What it is called in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bwrap => "bwrap",
            Self::GoSandbox => "go-sandbox",
            Self::Isolate => "isolate",
            Self::Nsjail => "nsjail",
            Self::Runc => "runc",
        }
    }

    /// Its program, where Debian or its own makefile puts it.
    pub fn default_program(self) -> &'static Path {
        Path::new(match self {
            Self::Bwrap => "/usr/bin/bwrap",
            Self::GoSandbox => "/usr/local/bin/runprog",
            Self::Isolate => "/usr/local/bin/isolate",
            Self::Nsjail => "/usr/local/bin/nsjail",
            Self::Runc => "/usr/sbin/runc",
        })
    }

    /// Where cells see the suite: some cannot show a folder at the path that it has outside.
    fn folder(self, attacks: &Path) -> &Path {
        match self {
            Self::Bwrap => attacks,
            Self::Isolate | Self::Nsjail | Self::Runc => Path::new("/attacks"),
            Self::GoSandbox => Path::new(go_sandbox::FOLDER),
        }
    }
}

/// One program that is to run confined.
pub(super) struct Cell<'a> {
    /// The folder of the suite, outside.
    pub attacks: &'a Path,
    /// The program and its arguments, as seen inside.
    pub argv: Vec<OsString>,
    /// Further words for `cloister run`.
    pub options: Vec<String>,
    /// The limits that these options mean, for other programs.
    pub limits: Limits,
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

/// What starts a program confined.
pub(super) struct Launch {
    /// To be run by the harness.
    pub command: Command,
    /// What was made for it. Dropping it takes that away, and must wait until the command has ended.
    pub made: Vec<Box<dyn Any + Send>>,
    /// How the sandbox ends when it is told to by SIGTERM and does not die of that.
    pub code_when_told: i32,
}

/// The words that start a program, as a sandbox makes them.
#[derive(Default)]
struct Line {
    words: Vec<OsString>,
    /// The control group that the caller enters first.
    group: Option<ControlGroup>,
    made: Vec<Box<dyn Any + Send>>,
}

impl Line {
    fn new(words: Vec<OsString>) -> Self {
        Self { words, ..Self::default() }
    }
}

impl Sandbox {
    /// What it is called in results.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cloister { .. } => "cloister",
            Self::Other { kind, .. } => kind.name(),
        }
    }

    /// Cloister as it is built, without further options.
    pub fn cloister(binary: PathBuf) -> Self {
        Self::Cloister { binary, options: Vec::new() }
    }

    /// Whether it is Cloister, whose results tell a reason.
    pub(super) fn is_cloister(&self) -> bool {
        matches!(self, Self::Cloister { .. })
    }

    /// Why a case can't be run in it, if so.
    pub(super) fn not_for(&self, case: &Case) -> Option<&'static str> {
        let only_cloister = !self.is_cloister() && case.needs.contains(&Need::Cloister);
        only_cloister.then_some("not applicable")
    }

    /// Whether it has what a case needs for Cloister alone: other programs make no devices.
    pub(super) fn needs(&self, need: Need) -> bool {
        self.is_cloister() || need != Need::Mknod
    }

    /// Where a program in it sees the suite.
    pub(super) fn folder<'a>(&self, attacks: &'a Path) -> &'a Path {
        match self {
            Self::Cloister { .. } => attacks,
            Self::Other { kind, .. } => kind.folder(attacks),
        }
    }

    /// When the harness gives up, in seconds.
    pub(super) fn patience(&self) -> u32 {
        if self.is_cloister() { PATIENCE } else { PATIENCE_WITH_OTHERS }
    }

    /// A caller who has a secret in its environment and descriptor 9 open, and starts the program.
    pub(super) fn launch(&self, cell: &Cell<'_>) -> anyhow::Result<Launch> {
        let line = match self {
            Self::Cloister { binary, options } => Line::new(cloister::line(binary, options, cell)),
            Self::Other { kind, binary } => match kind {
                Other::Bwrap => bwrap::line(binary, cell)?,
                Other::GoSandbox => go_sandbox::line(binary, cell),
                Other::Isolate => isolate::line(binary, cell)?,
                Other::Nsjail => nsjail::line(binary, cell)?,
                Other::Runc => runc::line(binary, cell)?,
            },
        };
        let code_when_told = match self {
            Self::Other { kind: Other::Isolate, .. } => isolate::CODE_WHEN_TOLD,
            _ => 128 + nix::libc::SIGTERM,
        };
        let command = started(&line, cell);
        let mut made = line.made;
        made.extend(line.group.map(|group| Box::new(group) as Box<dyn Any + Send>));
        Ok(Launch { command, made, code_when_told })
    }
}

/// The caller, in its control group and as its user, and the sandbox.
fn started(sandbox: &Line, cell: &Cell<'_>) -> Command {
    let mut line: Vec<OsString> = words(&["/bin/sh", "-c", r#"exec 9<"$0"; exec "$@""#]);
    line.push(cell.secret.into());
    if let Some(group) = &sandbox.group {
        line.extend(group.enter());
    }
    if let Some(user) = cell.user {
        line.push("/usr/bin/setpriv".into());
        line.extend([format!("--reuid={user}"), format!("--regid={user}")].map(Into::into));
        line.push("--clear-groups".into());
    }
    line.extend(sandbox.words.iter().cloned());
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

impl Cell<'_> {
    /// The program, which says that it began: some sandboxes do not tell whether it ever did.
    fn announced(&self) -> Vec<OsString> {
        let mut line = words(&["/bin/sh", "-c", &format!(r#"echo {BEGAN}; exec "$@""#), "sh"]);
        line.extend(self.argv.iter().cloned());
        line
    }

    /// Its environment as `NAME=VALUE`, with what every program is given.
    fn environment(&self, home: &str) -> Vec<String> {
        let given = [("PATH".to_owned(), PATH.to_owned()), ("HOME".to_owned(), home.to_owned())];
        let all = given.iter().chain(&self.variables);
        all.map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// Symbolic links at the root that lead into `/usr`.
const USR_LINKS: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
/// What programs read of the host's `/etc`.
const ETC: [&str; 2] = ["/etc/alternatives", "/etc/ld.so.cache"];

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(Into::into).collect()
}

/// An option before each of these values.
fn each<T: AsRef<OsStr>>(option: &str, values: impl IntoIterator<Item = T>) -> Vec<OsString> {
    values.into_iter().flat_map(|value| [option.into(), value.as_ref().into()]).collect()
}

/// One line for a shell that means just these words.
fn quoted(words: &[OsString]) -> OsString {
    let quote = |word: &OsString| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
    words.iter().map(quote).collect::<Vec<_>>().join(" ").into()
}
