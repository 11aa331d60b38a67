//! `cloister backup`: a copy of a coordinator's jobs, made while it runs.

use std::{path::PathBuf, process::ExitCode};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to copy
    #[arg(
        long,
        value_name = "sqlite:PATH",
        env = "CLOISTER_STORE",
        hide_env_values = true,
        default_value = "sqlite:./cloister-data/cloister.db"
    )]
    store: String,
    /// The copy: a file that is not there yet
    file: PathBuf,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let at = cloister_coordinator::backup(&args.store, &args.file)?;
    println!(
        "{} is a copy from {at}; a coordinator that is started with it is paused until `cloister resume`",
        args.file.display()
    );
    Ok(ExitCode::SUCCESS)
}
