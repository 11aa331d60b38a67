//! What a scrape tells of jobs while they run, against what they do and what their results say.

use std::{
    collections::BTreeMap,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use cloister_tests::{Client, Scratch, Service, execute, killed, python, verdict};
use serde_json::{Value, json};
use uuid::Uuid;

const MIB: f64 = 1_048_576.0;
/// For what takes a moment, on an emulated processor too.
const PATIENCE: Duration = Duration::from_secs(60);

type Samples = BTreeMap<String, f64>;

fn scrape(runner: &Service) -> Samples {
    let response = runner.client().get("/metrics");
    assert_eq!(response.status, 200, "{}", response.text());
    response.samples()
}

/// The first scrape that is as it should be.
fn until(runner: &Service, good: impl Fn(&Samples) -> bool) -> Samples {
    let end = Instant::now() + PATIENCE;
    loop {
        let samples = scrape(runner);
        if good(&samples) {
            return samples;
        }
        assert!(Instant::now() < end, "{samples:#?}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn slot(samples: &Samples, name: &str) -> Option<f64> {
    samples.get(&format!("cloister_slot_{name}{{slot=\"0\"}}")).copied()
}

fn cpu_of_all(samples: &Samples) -> f64 {
    let of = |mode| samples[&format!("cloister_cells_cpu_seconds_total{{mode=\"{mode}\"}}")];
    of("user") + of("system")
}

/// A runner of an operator whose files nobody else may read.
fn runner() -> Service {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "umask 077; exec \"$0\" \"$@\""]);
    Service::by(command, "runner", &Scratch::new("unused"), &["--slots", "1", "--cells-ahead", "0"])
}

/// Starts a job and comes back at once.
fn start(runner: &Service, mut task: Value) -> Uuid {
    let id = Uuid::new_v4();
    task["execution_id"] = json!(id);
    task["attempt"] = json!(1);
    let client: Client = runner.client().anew();
    // Its answer is fetched by id.
    thread::spawn(move || client.post("/execute", &task));
    id
}

/// Ends it, and comes back with its result.
fn end(runner: &Service, id: Uuid) -> Value {
    runner.client().delete(&format!("/executions/{id}"));
    runner.client().get(&format!("/executions/{id}?wait=60")).json()
}

#[test]
fn a_running_job_is_measured_and_an_ended_one_is_not() {
    let runner = runner();
    let began = Instant::now();
    // Pages that are only asked for are not held: these are written to.
    let program = "held = b'x' * (50 << 20)\nwhile True: pass";
    let id = start(&runner, python(program, &json!({"memory": "128MiB"}), 600.0));

    let held = |samples: &Samples| slot(samples, "memory_bytes").is_some_and(|m| m > 50.0 * MIB);
    let first = until(&runner, held);
    let before = slot(&first, "cpu_seconds_total").expect("CPU time is counted");
    let spun = |samples: &Samples| {
        slot(samples, "cpu_seconds_total").is_some_and(|cpu| cpu > before + 0.2)
    };
    let now = until(&runner, spun);
    let value = |name| slot(&now, name).unwrap_or_else(|| panic!("{name} is not in {now:#?}"));
    let (memory, peak) = (value("memory_bytes"), value("memory_peak_bytes"));
    assert!((50.0 * MIB..100.0 * MIB).contains(&memory), "{memory}");
    assert!((slot(&first, "memory_bytes").unwrap()..128.0 * MIB).contains(&peak), "{peak}");
    assert_eq!((value("pids"), value("oom_kills_total")), (1.0, 0.0));
    // It may use one core.
    let cpu = value("cpu_seconds_total");
    assert!(cpu < began.elapsed().as_secs_f64() + 0.2, "{cpu}");
    assert!((0.0..PATIENCE.as_secs_f64()).contains(&value("throttled_seconds_total")));

    assert!(now["cloister_cells_memory_bytes"] >= 50.0 * MIB);
    assert_eq!(now.get("cloister_cells_pids"), Some(&2.0), "the job, and PID 1 of its cell");
    assert!(cpu_of_all(&now) >= cpu, "{now:#?}");
    for kind in ["some", "full"] {
        for resource in ["cpu", "memory", "io"] {
            let labels = format!("resource=\"{resource}\",kind=\"{kind}\"");
            let all = now.get(&format!("cloister_cells_pressure_seconds_total{{{labels}}}"));
            let one =
                now.get(&format!("cloister_slot_pressure_seconds_total{{slot=\"0\",{labels}}}"));
            assert_eq!(all.is_some(), one.is_some(), "{labels}");
            assert!(kind == "full" || all.is_some(), "{labels} is not in {now:#?}");
            let bound = began.elapsed().as_secs_f64();
            assert!(one.is_none_or(|time| (0.0..bound).contains(time)), "{labels}: {one:?}");
        }
    }

    let result = end(&runner, id);
    let usage = &result["usage"];
    // Both are told of one count of the kernel's, in units of their own: compared as whole microseconds and bytes, for
    // 4.249 / 1000 is less than 0.004249 to a floating-point number.
    let whole = |value: f64, unit: f64| (value * unit).round();
    for (field, in_result, name, in_metric) in [
        ("cpu_ms", 1e3, "cpu_seconds_total", 1e6),
        ("throttled_ms", 1e3, "throttled_seconds_total", 1e6),
        ("memory_peak_bytes", 1.0, "memory_peak_bytes", 1.0),
        ("oom_kills", 1.0, "oom_kills_total", 1.0),
    ] {
        let told = slot(&now, name).map(|value| whole(value, in_metric));
        let at_last = usage[field].as_f64().map(|value| whole(value, in_result));
        assert!(told.is_some() && told <= at_last, "{field}: {told:?}, then {at_last:?}");
    }
    for (direction, field) in [("read", "io_read_bytes"), ("write", "io_write_bytes")] {
        let labels = format!("slot=\"0\",direction=\"{direction}\"");
        let told = now.get(&format!("cloister_slot_io_bytes_total{{{labels}}}"));
        assert_eq!(told.is_some(), usage.get(field).is_some(), "{labels}: {usage}");
    }

    let after = scrape(&runner);
    assert!(!after.keys().any(|name| name.starts_with("cloister_slot_")), "{after:#?}");
    let cpu = usage["cpu_ms"].as_f64().unwrap() / 1000.0;
    assert!(cpu_of_all(&after) >= cpu - 0.001, "what has ended is still counted in all");
    until(&runner, |samples| {
        samples["cloister_cells_memory_bytes"] < 40.0 * MIB && samples["cloister_cells_pids"] == 0.0
    });
}

#[test]
fn kills_for_want_of_memory_are_counted_where_the_kernel_counts_them() {
    let runner = runner();
    let health = runner.client().get("/health").json();
    let enforcement = health["enforcement"].as_array().unwrap();
    let memory = enforcement.iter().find(|line| line["name"] == "memory").unwrap();
    let hierarchical = memory["detail"].as_str().unwrap().contains("v2");

    let kills = |samples: &Samples| samples.get("cloister_cells_oom_kills_total").copied();
    let before = kills(&scrape(&runner));
    assert_eq!(before, hierarchical.then_some(0.0), "v1 counts none of those below");
    let hog = python("bytearray(1 << 28)", &json!({"memory": "32MiB"}), 60.0);
    assert_eq!(verdict(&execute(&runner, &hog)), killed("out_of_memory"));
    let after = kills(&scrape(&runner));
    assert_eq!(after.is_some(), hierarchical);
    assert!(after.is_none_or(|kills| kills >= 1.0), "{after:?}");
}
