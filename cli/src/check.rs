//! `cloister check`: what this host can enforce and what not. It is not guessed from version numbers:
//! a launcher is set up and a cell is made, and this tells what came of it.

use std::{
    io::{IsTerminal, stdout},
    process::ExitCode,
    sync::mpsc::channel,
};

use cloister_api::{Enforcement, Outcome, Program, Status, Task};
use cloister_sandbox::{Config, Engine, Launcher, Observer, Stdio};

use crate::log;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print it as JSON
    #[arg(long, env = "CLOISTER_JSON")]
    json: bool,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    log::for_command();
    let lines = examine();
    let fit = lines.iter().all(|line| line.enforced);
    if args.json {
        let report = serde_json::json!({ "ready": fit, "enforcement": lines });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&lines, fit);
    }
    Ok(if fit {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn line(
    name: &str,
    enforced: bool,
    detail: impl Into<String>,
    remedy: Option<&str>,
) -> Enforcement {
    Enforcement {
        name: name.into(),
        enforced,
        detail: detail.into(),
        remedy: remedy.map(Into::into),
    }
}

/// Sets up a launcher, makes a cell, and runs `true` in it.
fn examine() -> Vec<Enforcement> {
    let started = Launcher::fork(&Config {
        max_cells: 1,
        ..Config::default()
    })
    .and_then(|launcher| Engine::start(launcher, || {}));
    let engine = match started {
        Ok(engine) => engine,
        Err(error) => {
            return vec![line(
                "cell",
                false,
                format!("{:#}", anyhow::Error::from(error)),
                Some("see the reason"),
            )];
        }
    };
    let mut lines = engine.host().enforcement.clone();
    let (teller, told) = channel();
    let trial = Task::new(Program::Command("true".into()));
    engine.run(trial, Stdio::Captured, Box::new(Teller(teller)));
    let outcome = told.recv();
    engine.stop();
    lines.push(match outcome {
        Ok(outcome) if outcome.status == Status::Completed => {
            line("cell", true, "a cell was made, a command ran in it, and it was taken away", None)
        }
        Ok(outcome) => {
            let detail = format!("{} {}", outcome.message.unwrap_or_default(), outcome.stderr);
            line("cell", false, detail.trim(), Some(
                "in a container, run it privileged, or with systempaths=unconfined (procMount: Unmasked) \
                 and CAP_SYS_ADMIN",
            ))
        }
        Err(_) => line("cell", false, "the launcher ended without a word", None),
    });
    lines
}

struct Teller(std::sync::mpsc::Sender<Outcome>);

impl Observer for Teller {
    fn ended(self: Box<Self>, outcome: Outcome) {
        let _ = self.0.send(outcome);
    }
}

fn print(lines: &[Enforcement], fit: bool) {
    let colour = stdout().is_terminal();
    let paint = |code: &str, text: &str| match colour {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    let width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
    for line in lines {
        let mark = if line.enforced {
            paint("32", "ok")
        } else {
            paint("31", "no")
        };
        println!("{mark}  {:width$}  {}", line.name, line.detail);
        if let Some(remedy) = line.remedy.as_ref().filter(|_| !line.enforced) {
            println!("    {:width$}  → {remedy}", "");
        }
    }
    println!();
    println!(
        "{}",
        if fit {
            "everything holds: a runner starts here"
        } else {
            "a runner refuses to start here, unless told --allow-degraded"
        }
    );
}
