//! What a job may not do, tried: one test for each attack in `attacks/`, which passes when the attack was
//! stopped. Those that make no sense on this machine are ignored, with the reason.

use std::{process::ExitCode, sync::Arc};

use cloister_tests::{
    attack::{Ending, Sandbox, Suite, attempt},
    cloister,
};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let suite = match Suite::read(&Suite::default_folder()) {
        Ok(suite) => Arc::new(suite),
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let sandbox = Sandbox::cloister(cloister());
    let trials = suite.cases.iter().cloned().map(|case| {
        let (suite, sandbox) = (Arc::clone(&suite), sandbox.clone());
        Trial::ignorable_test(case.name.clone(), move || {
            judge(attempt(&suite, &case, &sandbox, None))
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn judge(ending: Ending) -> Result<Completion, Failed> {
    match ending {
        Ending::Stopped(_) => Ok(Completion::Completed),
        Ending::Absent(what) => Ok(Completion::ignored_with(format!("nothing to attack: {what}"))),
        Ending::Skipped(why) => Ok(Completion::ignored_with(why)),
        Ending::Through(evidence) => Err(format!("it got through: {evidence}").into()),
        Ending::Broken(output) => Err(output.into()),
    }
}
