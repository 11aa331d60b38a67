//! `cloister check`: what this host can enforce and what not. It is not guessed from version numbers:
//! a launcher is set up and a cell is made, and this tells what came of it.

use std::{
    io::{IsTerminal, stdout},
    process::ExitCode,
};

use clap::builder::BoolishValueParser;
use cloister_api::Enforcement;
use cloister_sandbox::{Config, Engine, Launcher, service_enforcement};

use crate::{log, trial::trial};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print it as JSON
    #[arg(long, env = "CLOISTER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    log::for_command();
    let lines = examine();
    let fit = !lines.iter().any(Enforcement::lacking);
    if args.json {
        let report = serde_json::json!({ "ready": fit, "enforcement": lines });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&lines, fit);
    }
    Ok(if fit { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
        optional: false,
    }
}

/// Sets up a launcher, makes a cell, and runs `true` in it.
fn examine() -> Vec<Enforcement> {
    let started = Launcher::fork(&Config { max_cells: Some(1), ..Config::default() })
        .and_then(|launcher| Engine::start(launcher, || {}));
    let engine = match started {
        Ok(engine) => engine,
        Err(error) => {
            return vec![line("cell", false, format!("{:#}", anyhow::Error::from(error)), None)];
        }
    };
    let mut lines = engine.host().enforcement.clone();
    lines.extend(service_enforcement());
    let tried = trial(&engine);
    engine.stop();
    lines.push(match tried {
        Ok(()) => line("cell", true, "a cell was made, a command ran in it, and it was taken away", None),
        Err(error) => line("cell", false, format!("{error:#}"), Some(
            "in a container, run it privileged, or with systempaths=unconfined (procMount: Unmasked) \
             and CAP_SYS_ADMIN",
        )),
    });
    lines
}

fn print(lines: &[Enforcement], fit: bool) {
    let colour = stdout().is_terminal();
    let paint = |code: &str, text: &str| {
        if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    };
    let width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
    for line in lines {
        let mark = match (line.enforced, line.optional) {
            (true, _) => paint("32", "ok"),
            (false, true) => paint("33", "--"),
            (false, false) => paint("31", "no"),
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
