//! L6 and L7: jobs, from their submission to their end, beside the reference.

use std::{net::SocketAddr, str, thread, time::Duration};

use anyhow::{Context, bail};
use cloister_tests::Service;
use serde_json::json;

use crate::{
    Options,
    http::{Connection, request},
    load::{Load, Until, clients_alone, drive},
    report::{Goal, Report},
    services::{Reference, address, completed},
    stats::{Spread, p50, p99},
};

const JOB: &str = r#"{"command":"true"}"#;
const TURN: Duration = Duration::from_secs(3);
/// Between two looks of a client of the reference, which has nothing to wait by.
const POLL: Duration = Duration::from_millis(10);

/// Measures those of L6 and L7 that are wanted.
pub(crate) fn measure(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let reference = Reference::start(options.reference.as_ref())?;
    let up = Service::up(&[]);
    let ours = address(up.client())?;
    let wanted = [("L6", 16), ("L7", 64)].into_iter().filter(|(id, _)| options.wants(id));
    for (id, clients) in wanted {
        waited(ours, clients, Until::Done(100))?;
        polled(reference.coordinator, clients, Until::Done(100))?;
        let (mut rates, mut tails, mut loads) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..options.rounds() {
            let ours = waited(ours, clients, Until::Passed(TURN))?;
            let base = polled(reference.coordinator, clients, Until::Passed(TURN))?;
            rates.push(ours.rate() / base.rate());
            tails.push(p99(&ours.times) / p99(&base.times));
            loads.push((ours, base));
        }
        let what = format!("`POST /jobs` to ended, durable, {clients} at once");
        if id == "L6" {
            let what = format!("{what}: jobs/s over the reference's");
            report.ratio(id, what, &rates, Some(Goal::AtLeast(6.0)));
        } else {
            let what = format!("{what}: p99 over the reference's");
            report.ratio(id, what, &tails, Some(Goal::AtMost(0.1)));
        }
        tell(clients, &loads, report)?;
    }
    Ok(())
}

fn tell(clients: usize, loads: &[(Load, Load)], report: &mut Report) -> anyhow::Result<()> {
    let alone = clients_alone(clients, Duration::from_secs(1))?;
    let sides: [(&str, Vec<&Load>); 2] = [
        ("Cloister", loads.iter().map(|pair| &pair.0).collect()),
        ("the reference", loads.iter().map(|pair| &pair.1).collect()),
    ];
    let mut words = Vec::new();
    for (name, loads) in sides {
        let of = |measure: fn(&Load) -> f64| {
            Spread::of(&loads.iter().map(|load| measure(load)).collect::<Vec<_>>())
        };
        let (rate, share) = (of(Load::rate), of(Load::share));
        let (middle, tail) = (of(|load| p50(&load.times)), of(|load| p99(&load.times)));
        words.push(format!(
            "{name} {:.0} jobs/s, p50 {:.1} ms, p99 {:.1} ms (clients: {:.0} % of the machine)",
            rate.median,
            middle.median,
            tail.median,
            share.median * 100.0
        ));
        report.number(
            format!("jobs_{clients}.{name}"),
            json!({
                "jobs_per_s": rate, "p50_ms": middle, "p99_ms": tail, "clients_share": share,
            }),
        );
    }
    report.note(format!(
        "{clients} at once: {}. The clients alone: {:.0} requests/s.",
        words.join("; "),
        alone.rate()
    ));
    Ok(())
}

/// Of ours: the answer comes when the job has ended.
fn waited(to: SocketAddr, clients: usize, until: Until) -> anyhow::Result<Load> {
    let request = request("POST", "/jobs?wait=60", to, JOB);
    drive(clients, until, || {
        let mut connection = Connection::open(to)?;
        let request = &request;
        Ok(move || {
            let answer = connection.call(request)?;
            answer.must_be(201)?;
            completed(answer.body)
        })
    })
}

/// Of the reference: asked again and again, as its own client does.
fn polled(to: SocketAddr, clients: usize, until: Until) -> anyhow::Result<Load> {
    let submit = request("POST", "/jobs", to, JOB);
    drive(clients, until, || {
        let mut connection = Connection::open(to)?;
        let submit = &submit;
        Ok(move || {
            let answer = connection.call(submit)?;
            answer.must_be(200)?;
            let look = request("GET", &format!("/jobs/{}", id(answer.body)?), to, "");
            loop {
                let answer = connection.call(&look)?;
                answer.must_be(200)?;
                match word(answer.body, "status")? {
                    "completed" => return Ok(()),
                    "failed" => bail!("a job of the reference failed"),
                    _ => thread::sleep(POLL),
                }
            }
        })
    })
}

fn id(body: &[u8]) -> anyhow::Result<&str> {
    word(body, "job_id")
}

/// A string of a JSON object, found without reading all of that.
fn word<'a>(body: &'a [u8], name: &str) -> anyhow::Result<&'a str> {
    let text = str::from_utf8(body).context("an answer is not text")?;
    let (_, rest) = text
        .split_once(&format!("\"{name}\":\""))
        .with_context(|| format!("no {name} stands in {text}"))?;
    Ok(rest.split('"').next().unwrap_or_default())
}
