//! `--plot`: how long a launch takes, by how many are made at once.

use std::{path::Path, time::Duration};

use serde_json::json;

use crate::{
    Options,
    child::{Handle, Limit, Order},
    load::Until,
    plot::{self, Line},
    report::Report,
    services::{self, Reference, address, execute},
    stats::{count, p50, p99},
};

const AT_ONCE: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const TURN: Duration = Duration::from_secs(1);

/// Launches by so many at once.
type Measure<'a> = &'a mut dyn FnMut(usize) -> anyhow::Result<Vec<Duration>>;

/// Measures it, and draws it to this file.
pub(crate) fn measure(options: &Options, file: &Path, report: &mut Report) -> anyhow::Result<()> {
    let warm = services::runner(64, None);
    let cold = services::runner(64, Some(0));
    let (warm_at, cold_at) = (address(warm.client())?, address(cold.client())?);
    let reference = Reference::start(options.reference.as_ref())?;
    let mut spawn = Handle::spawn()?;
    let mut spawned = |clients| {
        let order =
            Order { until: Limit::Time(TURN), at_once: clients, ..Order::of(&["/bin/true"], 0) };
        Ok(spawn.launch(&order)?.times)
    };
    let until = Until::Passed(TURN);
    let sides: [(&str, Measure<'_>); 4] = [
        ("Cloister", &mut |clients| Ok(execute(clients, until, warm_at)?.times)),
        ("Cloister, no cells ahead", &mut |clients| Ok(execute(clients, until, cold_at)?.times)),
        ("posix_spawn", &mut spawned),
        ("the reference", &mut |clients| Ok(reference.execute(clients, until)?.times)),
    ];
    let mut lines = Vec::new();
    for (name, measure) in sides {
        let (mut middle, mut tail) = (Vec::new(), Vec::new());
        for clients in AT_ONCE {
            let times = measure(clients)?;
            middle.push((count(clients), p50(&times)));
            tail.push((count(clients), p99(&times)));
        }
        let number = json!({ "p50_ms": middle, "p99_ms": tail });
        report.number(format!("latency_by_concurrency.{name}"), number);
        lines.push(Line { name: format!("{name}, p50"), points: middle });
        lines.push(Line { name: format!("{name}, p99"), points: tail });
    }
    plot::concurrency(file, &lines)
}
