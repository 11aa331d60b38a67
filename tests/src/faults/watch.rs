//! Whoever looks while a run goes on: observers of jobs, scrapers of metrics, and the supervisor who
//! starts again what ended.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::Value;

use super::{
    history::Step,
    http::Http,
    process::{End, Process, Role},
    rng::Rng,
    world::World,
};

/// Between two looks at one coordinator.
const LOOK: Duration = Duration::from_millis(300);
/// Between two scrapes of one service.
const SCRAPE: Duration = Duration::from_millis(500);
/// How often the supervisor looks.
const SUPERVISE: Duration = Duration::from_millis(100);

/// Looks at the jobs of one coordinator, from the clients' place, until told to stop.
pub(super) fn observe(world: &World, coordinator: &Process, seed: u64, stop: &AtomicBool) {
    world.clients().enter();
    let http = world.client(Duration::from_secs(10));
    let mut rng = Rng::new(seed, &format!("observer of {}", coordinator.name));
    let pages = ["limit=100", "status=running&limit=100", "status=pending&limit=50"];
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        if turn % 2 == 0 {
            list(world, coordinator, &http, pages[turn / 2 % pages.len()]);
        } else {
            // Any job that was acknowledged, an old one too.
            let index = rng.below(world.history.len());
            let id = world.history.job(index).id.clone();
            if let Some(id) = id {
                let _ = show(world, coordinator, &http, index, &id);
            }
        }
        turn += 1;
        thread::sleep(LOOK);
    }
}

/// One page of a list; its jobs, with the token of the next page.
pub(super) fn list(
    world: &World,
    coordinator: &Process,
    http: &Http,
    query: &str,
) -> Option<(Vec<Value>, Option<String>)> {
    let asked = world.history.now();
    let page = http.look(&format!("{}/jobs?{query}", coordinator.base)).ok()?;
    let jobs = page["jobs"].as_array()?.clone();
    for job in &jobs {
        let index = job["labels"]["key"].as_str().and_then(|key| world.jobs.index(key));
        if let Some((index, stand)) = index.zip(stand(job)) {
            world.history.saw(index, &coordinator.name, stand, asked);
        }
    }
    Some((jobs, page["next"].as_str().map(String::from)))
}

/// One job as one coordinator shows it.
pub(super) fn show(
    world: &World,
    coordinator: &Process,
    http: &Http,
    index: usize,
    id: &str,
) -> Result<Value, String> {
    let asked = world.history.now();
    let job = http.look(&format!("{}/jobs/{id}", coordinator.base))?;
    let stand = stand(&job).ok_or("it has no status")?;
    world.history.saw(index, &coordinator.name, stand, asked);
    Ok(job)
}

/// Where a job stands.
pub(super) fn stand(job: &Value) -> Option<(u64, Step)> {
    Some((job["attempt"].as_u64()?, Step::of(job["status"].as_str()?)?))
}

/// Reads a service's metrics, from the clients' place, until told to stop.
pub(super) fn scrape(world: &World, process: &Process, stop: &AtomicBool) {
    world.clients().enter();
    let http = world.client(Duration::from_secs(2));
    while !stop.load(Ordering::Relaxed) {
        scrape_once(world, process, &http);
        thread::sleep(SCRAPE);
    }
}

/// Reads a service's metrics once, and notes the cgroups of its cells. Whether it answered.
pub(super) fn scrape_once(world: &World, process: &Process, http: &Http) -> bool {
    let (life, asked) = (process.life(), world.history.now());
    if matches!(process.role, Role::Runner | Role::Up) {
        process.note_cgroups();
    }
    if let (Some(life), Ok(metrics)) = (life, http.metrics(&process.base))
        // Else it may be another life's.
        && process.life() == Some(life)
    {
        process.keep(life, asked, metrics);
        process.answered(life);
        return true;
    }
    false
}

/// Starts again what ended by itself, until told to stop.
pub(super) fn supervise(world: &World, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for process in &world.processes {
            // Whoever has its hands on it deals with its end too.
            if let Some(_hands) = process.idle_hands()
                && process.pid().is_some()
                && process.await_end(Duration::ZERO, End::Itself, || world.history.now())
            {
                world.history.note(format!("{} ended by itself", process.name));
                world.start(process);
            }
        }
        thread::sleep(SUPERVISE);
    }
}
