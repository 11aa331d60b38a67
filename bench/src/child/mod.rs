//! Small processes that launch: each does so by one means alone, on orders that come as lines of JSON.
//!
//! They are processes of their own since a launcher must be forked before there is a second thread, and
//! since what is compared with it should be called by a process that is as small.

mod handle;
mod library;
mod namespaces;
mod spawn;

use std::{
    io::{BufRead, Write, stdin, stdout},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

pub(crate) use handle::Handle;

/// By what means.
#[derive(clap::Subcommand, Clone, Debug)]
pub(crate) enum Means {
    /// posix_spawn(3) and waitpid(2)
    Spawn,
    /// The same in new namespaces, and nothing else: the kernel's part of a launch
    Namespaces,
    /// The library, in this process
    Library {
        /// Cells that may be made ahead; 0 for none
        ahead: usize,
    },
}

/// What to launch, and how often.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The program, by its path, and its arguments; by the library a command of a cell.
    pub(crate) argv: Vec<String>,
    /// How long to go on.
    pub(crate) until: Limit,
    /// To pause for after each launch.
    pub(crate) pause: Duration,
    /// How many launch at once; the library's child has one.
    pub(crate) at_once: usize,
}

/// How long to go on.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Limit {
    /// So many launches of each that launches.
    Launches(usize),
    /// For so long.
    Time(Duration),
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Launched {
    /// How long each launch took, to the end of what was launched.
    pub(crate) times: Vec<Duration>,
    /// From the beginning to the end, cells that are made for the next ones included.
    pub(crate) elapsed: Duration,
    /// CPU time of all that took part.
    pub(crate) cpu: Duration,
}

impl Order {
    /// Launches as often as was asked.
    fn launch(&self, mut one: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Vec<Duration>> {
        let (began, mut times) = (Instant::now(), Vec::new());
        while match self.until {
            Limit::Launches(count) => times.len() < count,
            Limit::Time(time) => began.elapsed() < time,
        } {
            let start = Instant::now();
            one()?;
            times.push(start.elapsed());
            if !self.pause.is_zero() {
                thread::sleep(self.pause);
            }
        }
        Ok(times)
    }
}

/// Obeys until nobody orders any more.
pub(crate) fn main(means: &Means) -> ExitCode {
    let end = match means {
        Means::Spawn => obey(|order| spawn::launch(order, || Ok(()))),
        Means::Namespaces => namespaces::Origin::find()
            .and_then(|origin| obey(|order| spawn::launch(order, || origin.leave()))),
        Means::Library { ahead } => library::Cells::start(*ahead).and_then(|cells| {
            let end = obey(|order| cells.launch(order));
            cells.stop();
            end
        }),
    };
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {means:?}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn obey(launch: impl Fn(&Order) -> anyhow::Result<Launched>) -> anyhow::Result<()> {
    // Ready: what comes before is no part of any launch.
    println!("{{}}");
    for line in stdin().lock().lines() {
        let order = serde_json::from_str(&line.context("orders cannot be read")?)
            .context("an order cannot be read")?;
        let launched = launch(&order).map_err(|error| format!("{error:#}"));
        let mut answer = serde_json::to_string(&launched).context("an answer cannot be written")?;
        answer.push('\n');
        stdout().write_all(answer.as_bytes()).context("an answer cannot be sent")?;
    }
    Ok(())
}
