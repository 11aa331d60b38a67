//! Runs the attack suite outside of `cargo test`: in another sandbox, or with layers taken away, and
//! tells what came of it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use cloister_tests::{
    Scratch,
    attack::{
        Ending, Other, Record, Sandbox, Set, Suite,
        ablation::{self, Scope},
        attempt_measured, report,
    },
    cloister,
};

/// The attack suite; tests/attacks/README.md tells what it is.
#[derive(Parser)]
struct Arguments {
    /// Where the attacks are [default: those of the source tree]
    #[arg(long, global = true, value_name = "DIR")]
    attacks: Option<PathBuf>,
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run all attacks in a sandbox; fails when one got through or broke
    Run {
        /// What they run in
        #[arg(long, value_enum, default_value = "cloister")]
        sandbox: Kind,
        /// The program of that sandbox [default: the `cloister` built beside this program; others where Debian's
        /// package or their own makefile puts them]
        #[arg(long, value_name = "PATH")]
        bin: Option<PathBuf>,
        /// Start the sandbox as this user
        #[arg(long, value_name = "UID")]
        user: Option<u32>,
        /// Tell cloister to go on where it can't enforce everything
        #[arg(long)]
        allow_degraded: bool,
        /// Leave what came of them here, as JSON lines
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Only those whose name contains one of these
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Take layers away, and see whether each attack's claim holds; fails when one does not, or when a
    /// layer is not seen to stop anything
    Ablate {
        /// The folder of the binaries, as tests/ablation builds them
        #[arg(long, value_name = "DIR")]
        binaries: PathBuf,
        #[command(flatten)]
        which: Which,
        /// Leave what came of them here, as JSON lines
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Print the sets of layers without which `ablate` needs binaries, one a line
    Sets {
        #[command(flatten)]
        which: Which,
        /// Only for attacks that can be tried on this machine
        #[arg(long)]
        here: bool,
    },
    /// Make one table of what `ablate` left, on one machine or several
    Table {
        /// What it left
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Put sandboxes beside each other
    Compare {
        /// Say of attacks that were stopped only that
        #[arg(long)]
        brief: bool,
        /// What `run` left, for each of them
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// Which attacks layers are taken away for.
#[derive(clap::Args)]
struct Which {
    /// Only attacks that these stop, comma-separated [default: all layers that the machine has]
    #[arg(long, value_name = "LAYERS")]
    layers: Option<Set>,
    /// Only attacks that no more layers than this stop
    #[arg(long, value_name = "COUNT", default_value_t = ablation::MOST_LAYERS)]
    most: usize,
}

impl Which {
    fn scope(self, usual: Scope) -> Scope {
        Scope { most: self.most, ..self.layers.map_or(usual, Scope::of) }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Cloister,
    Bwrap,
    GoSandbox,
    Isolate,
    Nsjail,
    Runc,
}

impl Kind {
    /// Which other program it is, if it is not Cloister.
    fn other(self) -> Option<Other> {
        Some(match self {
            Self::Cloister => return None,
            Self::Bwrap => Other::Bwrap,
            Self::GoSandbox => Other::GoSandbox,
            Self::Isolate => Other::Isolate,
            Self::Nsjail => Other::Nsjail,
            Self::Runc => Other::Runc,
        })
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("attacks: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let suite = || Suite::read(&arguments.attacks.clone().unwrap_or_else(Suite::default_folder));
    match arguments.command {
        Task::Run { sandbox, bin, user, allow_degraded, json, names } => {
            let folder = Scratch::new("binary");
            let sandbox = match sandbox.other() {
                None => Sandbox::Cloister {
                    binary: for_anybody(&bin.unwrap_or_else(cloister), &folder)?,
                    options: allow_degraded
                        .then(|| "--allow-degraded".into())
                        .into_iter()
                        .collect(),
                },
                Some(kind) => {
                    let binary = bin.unwrap_or_else(|| kind.default_program().into());
                    let there = binary.is_file();
                    ensure!(
                        there,
                        "{} is missing: install it, or name it with --bin",
                        binary.display()
                    );
                    Sandbox::Other { kind, binary }
                }
            };
            let records = run_all(&suite()?, &sandbox, user, &names);
            ensure!(!records.is_empty(), "no attack has such a name: {}", names.join(", "));
            if let Some(json) = json {
                report::write(&json, &records)?;
            }
            println!("{}: {}", sandbox.name(), report::summary(&records));
            let failed =
                |record: &&Record| matches!(record.ending, Ending::Through(_) | Ending::Broken(_));
            let failed = records.iter().filter(failed).count();
            ensure!(failed == 0, "{failed} attacks got through or broke");
            Ok(())
        }
        Task::Ablate { binaries, which, json } => {
            let scope = which.scope(Scope::here());
            let told = |record: &Record| eprintln!("{}", report::line(record));
            let records = ablation::ablate(&suite()?, &scope, &binaries, told)?;
            if let Some(json) = json {
                report::write(&json, &records)?;
            }
            tell_ablation(&records, &scope.layers)
        }
        Task::Sets { which, here } => {
            let scope = Scope { only_here: here, ..which.scope(Scope::everywhere()) };
            for set in ablation::sets(&suite()?.cases, &scope) {
                println!("{set}");
            }
            Ok(())
        }
        Task::Table { files } => tell_ablation(&read_all(&files)?, &Scope::everywhere().layers),
        Task::Compare { brief, files } => {
            print!("{}", report::comparison(&read_all(&files)?, brief));
            Ok(())
        }
    }
}

/// A copy of a program in `folder` that any user may run, wherever it was built.
fn for_anybody(program: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let copy = folder.join("cloister");
    fs::copy(program, &copy).with_context(|| format!("{} cannot be copied", program.display()))?;
    for path in [folder, &copy] {
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
    }
    Ok(copy)
}

fn run_all(suite: &Suite, sandbox: &Sandbox, user: Option<u32>, names: &[String]) -> Vec<Record> {
    let chosen = |name: &str| names.is_empty() || names.iter().any(|part| name.contains(part));
    let cases = suite.cases.iter().filter(|case| chosen(&case.name));
    cases
        .map(|case| {
            let (ending, kernel_memory_growth) = attempt_measured(suite, case, sandbox, user);
            let record = Record {
                attack: case.name.clone(),
                about: case.about.clone(),
                layers: case.layers.clone(),
                sandbox: sandbox.name().into(),
                without: Set::default(),
                kernel_memory_growth,
                ending,
            };
            println!("{}", report::line(&record));
            record
        })
        .collect()
}

fn read_all(files: &[PathBuf]) -> anyhow::Result<Vec<Record>> {
    let records =
        files.iter().map(|file| report::read(file)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(records.concat())
}

/// Prints the tables; an error names what is wrong.
fn tell_ablation(records: &[Record], layers: &Set) -> anyhow::Result<()> {
    let rows = ablation::rows(records);
    print!("{}", report::ablation(&rows, layers));
    let faults = ablation::faults(&rows, layers);
    ensure!(faults.is_empty(), "the ablation failed:\n{}", faults.join("\n"));
    Ok(())
}
