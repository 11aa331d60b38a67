//! Where the time of a launch goes: each step of making a cold cell and running `/bin/true` in it.
//!
//!     cargo bench -p cloister-sandbox --features steps --bench steps
//!
//! As root. Each measurement is of whole launches, of which one step is told: what a step costs depends
//! on those before it.

use std::time::Duration;

use cloister_sandbox::steps::{Steps, Times};
use criterion::Criterion;

type Step = fn(&Times) -> Duration;

fn main() {
    // Before anything could start a thread.
    let mut steps = Steps::start().expect("a launcher can be forked: this runs as root");
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("launch");
    let all: [(&str, Step); 10] = [
        ("cgroup", |times| times.cgroup),
        ("network", |times| times.network),
        ("clone", |times| times.clone),
        ("mounts", |times| times.mounts),
        ("filters", |times| times.filters),
        ("exec", |times| times.exec),
        ("run and reap", |times| times.reap),
        ("end of the cell", |times| times.end),
        ("cgroup removed", |times| times.removal),
        ("sum of these", |times| {
            times.cgroup
                + times.network
                + times.clone
                + times.mounts
                + times.filters
                + times.exec
                + times.reap
                + times.end
                + times.removal
        }),
    ];
    for (name, step) in all {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                (0..count).map(|_| step(&steps.launch().expect("the launcher goes on"))).sum()
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
