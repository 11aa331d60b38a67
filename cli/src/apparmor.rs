//! `cloister apparmor`: the profiles, for hosts that have only the program.

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use cloister_sandbox::{CELL_PROFILE, USER_NAMESPACE_PROFILE};

/// What the profile of user namespaces is attached to, as it stands in the file.
const INSTALLED: &str = "/{usr/,usr/local/,}bin/cloister";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which profile
    #[arg(value_enum)]
    profile: Profile,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Profile {
    /// What jobs are confined to
    Cell,
    /// Lets this program make user namespaces where only programs with a profile may
    Userns,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    match args.profile {
        Profile::Cell => print!("{CELL_PROFILE}"),
        Profile::Userns => {
            let program = std::env::current_exe().context("finding this program's own path")?;
            print!("{}", user_namespace_profile(&program)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn user_namespace_profile(program: &Path) -> anyhow::Result<String> {
    if ["/bin", "/usr/bin", "/usr/local/bin"]
        .iter()
        .any(|folder| program.parent() == Some(Path::new(folder)))
    {
        return Ok(USER_NAMESPACE_PROFILE.into());
    }
    let path = program.to_str().with_context(|| format!("{} is not UTF-8", program.display()))?;
    // In a profile these are patterns, or end the name.
    let special = |c: char| "\"\\*?[]{}^".contains(c) || c.is_control();
    anyhow::ensure!(
        !path.contains(special),
        "no AppArmor profile can name {path}: move the program"
    );
    Ok(USER_NAMESPACE_PROFILE.replace(INSTALLED, &format!("\"{path}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_attached_to_where_the_program_is() {
        let installed = user_namespace_profile(Path::new("/usr/local/bin/cloister")).unwrap();
        assert!(installed.contains(&format!("profile cloister {INSTALLED} ")), "{installed}");
        let own = user_namespace_profile(Path::new("/home/a b/cloister")).unwrap();
        assert!(own.contains("profile cloister \"/home/a b/cloister\" flags"), "{own}");
        assert!(user_namespace_profile(Path::new("/home/{a,b}/cloister")).is_err());
    }
}
