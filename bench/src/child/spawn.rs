//! By posix_spawn(3), which is what a program without any isolation would do.

use std::{
    ffi::CString,
    fs::File,
    os::fd::AsRawFd,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, ensure};
use nix::{
    spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn},
    sys::{
        resource::{UsageWho, getrusage},
        wait::{WaitStatus, waitpid},
    },
};

use super::{Launched, Order};

const ENVIRONMENT: [&str; 2] =
    ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"];

/// Does something `before` each, which counts.
pub(super) fn launch(
    order: &Order,
    before: impl Fn() -> anyhow::Result<()> + Sync,
) -> anyhow::Result<Launched> {
    let strings = |all: Vec<&str>| all.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
    let argv = strings(order.argv.iter().map(String::as_str).collect())
        .context("an argument has a NUL in it")?;
    let environment = strings(ENVIRONMENT.into()).context("a variable has a NUL in it")?;
    let program = argv.first().context("there is nothing to launch")?;
    let nothing = File::open("/dev/null").context("/dev/null cannot be opened")?;
    let one = || {
        before()?;
        let mut files = PosixSpawnFileActions::init().context("making file actions failed")?;
        files.add_dup2(nothing.as_raw_fd(), 0).context("naming its standard input failed")?;
        let attributes = PosixSpawnAttr::init().context("making attributes failed")?;
        let pid = posix_spawn(program.as_c_str(), &files, &attributes, &argv, &environment)
            .with_context(|| format!("spawning {} failed", order.argv[0]))?;
        let status = waitpid(pid, None).context("waiting for what was spawned failed")?;
        ensure!(
            status == WaitStatus::Exited(pid, 0),
            "{} ended with {status:?}",
            order.argv.join(" ")
        );
        Ok(())
    };
    let (began, busy) = (Instant::now(), cpu()?);
    let times = if order.at_once <= 1 {
        order.launch(one)?
    } else {
        thread::scope(|scope| {
            let threads: Vec<_> =
                (0..order.at_once).map(|_| scope.spawn(|| order.launch(one))).collect();
            let ends = threads.into_iter().map(|thread| {
                thread.join().map_err(|_| anyhow!("a thread that spawns panicked")).flatten()
            });
            anyhow::Ok(ends.collect::<anyhow::Result<Vec<_>>>()?.concat())
        })?
    };
    Ok(Launched { times, elapsed: began.elapsed(), cpu: cpu()?.saturating_sub(busy) })
}

/// CPU time of this process and of what it has waited for.
pub(super) fn cpu() -> anyhow::Result<Duration> {
    let mut sum = Duration::ZERO;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who).context("the use of the processor cannot be read")?;
        for time in [usage.user_time(), usage.system_time()] {
            let micros = u64::try_from(time.tv_sec())? * 1_000_000 + u64::try_from(time.tv_usec())?;
            sum += Duration::from_micros(micros);
        }
    }
    Ok(sum)
}
