//! What all modes do: watch while something goes on, wait until nothing is under way, look at every
//! job in the end, and end everything.

use std::{
    ops::Range,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    check,
    cleanup::using,
    history::{Episode, What},
    http::Http,
    inject::SLACK,
    load::{Load, Submitted, submit},
    plan::Kind,
    process::{End, Process, Role},
    report::Report,
    watch::{list, observe, scrape, scrape_once, show, supervise},
    world::{GRACE, World},
};

/// Within this, every job has ended once nothing is in its way.
const SETTLED: Duration = Duration::from_secs(180);
/// Who looks at all jobs in the end.
const LOOKERS: usize = 8;
/// After everything has ended, nothing may be left that long.
const LEFT: Duration = Duration::from_secs(5);

/// Does something while observers look at jobs, scrapers at metrics, and a supervisor at services.
pub(super) fn watched<T>(world: &World, seed: u64, work: impl FnOnce() -> T) -> T {
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| supervise(world, stop));
        for coordinator in world.coordinators() {
            scope.spawn(move || observe(world, coordinator, seed, stop));
        }
        for process in world.processes.iter().filter(|process| process.role != Role::Postgres) {
            scope.spawn(move || scrape(world, process, stop));
        }
        let done = work();
        stop.store(true, Ordering::Relaxed);
        done
    })
}

/// Waits until no job waits or runs. Whether it came to that in time.
pub(super) fn settle(world: &World) -> bool {
    let until = Instant::now() + SETTLED;
    world.at_clients(|| {
        let http = world.client(Duration::from_secs(10));
        loop {
            let empty = |status: &str| {
                let query = format!("status={status}&limit=1");
                let page = list(world, world.coordinators()[0], &http, &query);
                page.is_some_and(|(jobs, _)| jobs.is_empty())
            };
            // Pending last: a job that is tried again goes from running to pending.
            if empty("pending") && empty("running") && empty("pending") {
                return true;
            }
            if Instant::now() > until {
                return false;
            }
            thread::sleep(Duration::from_millis(200));
        }
    })
}

/// Ends all services at once while jobs are submitted, and looks what is left.
pub(super) fn drain_under_load(world: &World, seed: u64, load: &Load, report: &mut Report) {
    let episode = world.history.open(Episode {
        kind: Kind::TermRunner,
        hit: world.processes.iter().map(|process| process.name.clone()).collect(),
        links: Vec::new(),
        detail: "(all are asked to end)".into(),
        from: world.history.now(),
        to: None,
    });
    thread::scope(|scope| {
        let submitting = scope.spawn(|| submit(world, seed, load));
        // Until the first third is in.
        let third = load.jobs.start..load.jobs.start + load.jobs.len() / 3;
        let until = Instant::now() + Duration::from_secs(60);
        while !third.clone().all(|index| world.history.job(index).id.is_some())
            && Instant::now() < until
        {
            thread::sleep(Duration::from_millis(20));
        }
        end_all(world, report);
        let _ = submitting.join();
    });
    let gone = world.recorder().quiet(LEFT);
    report.must("nothing of the jobs is left", gone, || "executions are still connected".into());
    world.history.close(episode);
}

/// Asks all services to end, the store's last; none of them, and nothing of theirs, may be left.
pub(super) fn end_all(world: &World, report: &mut Report) {
    let _hands: Vec<_> = world.processes.iter().map(Process::hands).collect();
    let (last, first): (Vec<&Process>, Vec<&Process>) =
        world.processes.iter().partition(|process| process.role == Role::Postgres);
    for group in [first, last] {
        thread::scope(|scope| {
            for process in &group {
                scope.spawn(|| process.ask_to_end(GRACE + SLACK, || world.history.now()));
            }
        });
    }
    for process in &world.processes {
        let end = process.lives().last().and_then(|life| life.how);
        let well = matches!(end, Some(End::Asked { status, .. }) if status.success());
        report.must("SIGTERM: ends well within the grace time", well, || {
            let end = end.map(|end| end.to_string()).unwrap_or_default();
            format!("{}: {end}", process.name)
        });
        let left = process.cgroups_left();
        report.must("SIGTERM: no cgroup is left", left.is_empty(), || {
            format!("{}: {left:?}", process.name)
        });
    }
    let until = Instant::now() + LEFT;
    while !using(&world.folder()).is_empty() && Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
    }
    let left = using(&world.folder());
    report.must("SIGTERM: no process is left", left.is_empty(), || format!("{left:?}"));
}

/// Looks at everything in the end, when nothing is under way, and checks it.
pub(super) fn conclude(world: &World, report: &mut Report) -> Vec<Option<Result<Value, String>>> {
    let last = last_look(world);
    all_listed(world, report);
    same_keys(world, report);
    world.at_clients(|| {
        let http = world.client(Duration::from_secs(10));
        for process in world.processes.iter().filter(|process| process.role != Role::Postgres) {
            let scraped = scrape_once(world, process, &http);
            report.must("metrics are answered in the end", scraped, || process.name.clone());
        }
    });
    check::jobs(world, &last, report);
    check::metrics(world, &last, report);
    last
}

/// Each job that was acknowledged, as each coordinator in turn shows it.
fn last_look(world: &World) -> Vec<Option<Result<Value, String>>> {
    each(world, |http, index| {
        let id = world.history.job(index).id.clone()?;
        let mut shown = Err("there is no coordinator".into());
        for coordinator in world.coordinators() {
            shown = show(world, coordinator, http, index, &id);
            if shown.is_err() {
                break;
            }
        }
        if let Ok(job) = &shown {
            let mut job = job.clone();
            for long in ["argv", "stdout", "stderr"] {
                job[long].take();
            }
            world.history.job(index).last = Some(job.to_string());
        }
        Some(shown)
    })
}

/// Does something for each job, several at once, from the clients' place.
fn each<T: Send>(world: &World, work: impl Fn(&Http, usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..LOOKERS {
            scope.spawn(|| {
                world.clients().enter();
                let http = world.client(Duration::from_secs(10));
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= world.history.len() {
                        return;
                    }
                    let one = (index, work(&http, index));
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, one)| one).collect()
}

/// All that any coordinator lists, it lists once, and by the id that was acknowledged.
fn all_listed(world: &World, report: &mut Report) {
    for coordinator in world.coordinators() {
        let listed = world.at_clients(|| {
            let http = world.client(Duration::from_secs(10));
            let mut all = Vec::new();
            let mut next = None;
            loop {
                let token = next.map(|token| format!("&next={token}")).unwrap_or_default();
                let (jobs, after) = list(world, coordinator, &http, &format!("limit=100{token}"))?;
                all.extend(jobs);
                next = after;
                if next.is_none() {
                    return Some(all);
                }
            }
        });
        let name = &coordinator.name;
        report.must("all jobs can be listed", listed.is_some(), || name.clone());
        let mut by_job = vec![Vec::new(); world.history.len()];
        for job in listed.unwrap_or_default() {
            let index = job["labels"]["key"].as_str().and_then(|key| world.jobs.index(key));
            let id = job["job_id"].as_str().unwrap_or_default().to_owned();
            match index.and_then(|index| by_job.get_mut(index)) {
                Some(ids) => ids.push(id),
                None => report.must("every job is one that was submitted", false, || id),
            }
        }
        for (index, ids) in by_job.iter().enumerate() {
            let known = world.history.job(index).id.clone();
            let right = match &known {
                Some(id) => ids.len() == 1 && ids[0] == *id,
                // It may have been taken all the same.
                None => ids.len() <= 1,
            };
            report.must_of("a key's job is listed, and no other", index, right, || {
                format!("job {index}: {name} lists {ids:?}, acknowledged was {known:?}")
            });
        }
    }
}

/// Every key still gives the same job: after all those restarts, at any coordinator.
fn same_keys(world: &World, report: &mut Report) {
    let answers = each(world, |http, index| {
        let id = world.history.job(index).id.clone()?;
        let coordinators = world.coordinators();
        let to = coordinators[index % coordinators.len()];
        let (key, body) = (world.jobs.key(index), world.jobs.request(index));
        let answer = http.submit(&to.base, &key, &body);
        let told = answer.and_then(|answer| Ok((answer.status, answer.json()?)));
        let right = matches!(&told, Ok((200, job)) if job["job_id"] == id.as_str());
        if let Ok((status, job)) = &told {
            let id = job["job_id"].as_str().unwrap_or_default().to_owned();
            world.tell(
                index,
                What::Accepted { by: to.name.clone(), life: None, status: *status, id },
            );
        }
        Some((index, right, format!("{told:?}")))
    });
    for (index, right, told) in answers.into_iter().flatten() {
        report.must_of("a key is known in the end, with its job", index, right, || {
            format!("job {index}: {told}")
        });
    }
}

/// What clients may not meet.
pub(super) fn submissions(what: &Submitted, report: &mut Report) {
    report.must("clients that retry are acknowledged", what.given_up.is_empty(), || {
        format!("{} clients gave up: jobs {:?}", what.given_up.len(), what.given_up)
    });
    for (index, why) in &what.refused {
        report.must_of("nothing is refused for good", *index, false, || {
            format!("job {index}: {why}")
        });
    }
}

/// Keeps the logs and tells histories, where something is broken.
pub(super) fn keep_evidence(world: &World, name: &str, report: &mut Report) {
    if !report.is_broken() {
        return;
    }
    report.add_histories(|index| world.history.tell(index));
    let to = PathBuf::from(format!("/var/tmp/cloister-{name}-logs"));
    match world.keep_logs(&to) {
        Ok(()) => report.keep_logs(to),
        Err(error) => report.say(&format!("the logs could not be kept: {error}")),
    }
}

/// So many of them, one after the other.
pub(super) fn load(jobs: Range<usize>, within: Duration, budget: Duration) -> Load {
    let count = u32::try_from(jobs.len()).unwrap_or(u32::MAX).max(1);
    Load { jobs, every: within / count, budget }
}
