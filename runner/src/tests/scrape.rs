//! What a scrape tells of running jobs.

use std::time::Duration;

use cloister_api::Usage;
use cloister_sandbox::{Pressure, Stats};
use uuid::Uuid;

use super::bench::{Bench, task, task_with};

/// All that a host can tell, each number another one.
fn everything() -> Stats {
    let pressure = |us| Pressure {
        some: Some(Duration::from_micros(us)),
        full: Some(Duration::from_micros(us + 1)),
    };
    Stats {
        usage: Usage {
            cpu_ms: Some(1500.0),
            user_ms: Some(1250.0),
            system_ms: Some(250.0),
            throttled_ms: Some(705.355),
            memory_peak_bytes: Some(8192),
            pids_peak: Some(7),
            oom_kills: Some(2),
            io_read_bytes: Some(512),
            io_write_bytes: Some(1024),
        },
        memory_bytes: Some(4096),
        removed_cgroups: Some(9),
        pids: Some(3),
        cpu_pressure: pressure(1_764_706),
        memory_pressure: pressure(20),
        io_pressure: pressure(30),
        uncharged_bytes: Some(77),
        ended_for_kernel_memory: Some(6),
    }
}

/// The values of the cgroups' metrics.
async fn values(bench: &Bench) -> Vec<String> {
    let text = bench.get("/metrics").await.text;
    let ours =
        |line: &&str| line.starts_with("cloister_cells_") || line.starts_with("cloister_slot_");
    text.lines().filter(ours).map(String::from).collect()
}

#[tokio::test]
async fn running_jobs_are_told_together_and_by_slot() {
    let mut bench = Bench::new(2);
    *bench.counts.all.lock().unwrap() = Stats { pids: Some(5), ..everything() };
    *bench.counts.each.lock().unwrap() = everything();
    let calls = [bench.execute(&task()), bench.execute(&task())];
    let (first, mut second) = (bench.job().await, bench.job().await);
    let all = [
        "cloister_cells_memory_bytes 4096",
        "cloister_cells_pids 5",
        "cloister_cells_removed_cgroups 9",
        "cloister_cells_cpu_seconds_total{mode=\"user\"} 1.25",
        "cloister_cells_cpu_seconds_total{mode=\"system\"} 0.25",
        "cloister_cells_oom_kills_total 2",
        "cloister_cells_pressure_seconds_total{resource=\"cpu\",kind=\"some\"} 1.764706",
        "cloister_cells_pressure_seconds_total{resource=\"cpu\",kind=\"full\"} 1.764707",
        "cloister_cells_pressure_seconds_total{resource=\"memory\",kind=\"some\"} 0.00002",
        "cloister_cells_pressure_seconds_total{resource=\"memory\",kind=\"full\"} 0.000021",
        "cloister_cells_pressure_seconds_total{resource=\"io\",kind=\"some\"} 0.00003",
        "cloister_cells_pressure_seconds_total{resource=\"io\",kind=\"full\"} 0.000031",
        "cloister_cells_io_bytes_total{direction=\"read\"} 512",
        "cloister_cells_io_bytes_total{direction=\"write\"} 1024",
        "cloister_cells_ended_for_kernel_memory_total 6",
    ];
    let text = bench.get("/metrics").await.text;
    assert!(text.contains("\ncloister_uncharged_kernel_memory_bytes 77\n"), "{text}");
    assert_eq!(values(&bench).await, all, "neither has started");

    second.start();
    let slot = [
        "cloister_slot_memory_bytes{slot=\"1\"} 4096",
        "cloister_slot_memory_peak_bytes{slot=\"1\"} 8192",
        "cloister_slot_pids{slot=\"1\"} 3",
        "cloister_slot_cpu_seconds_total{slot=\"1\"} 1.5",
        "cloister_slot_throttled_seconds_total{slot=\"1\"} 0.705355",
        "cloister_slot_oom_kills_total{slot=\"1\"} 2",
        "cloister_slot_pressure_seconds_total{slot=\"1\",resource=\"cpu\",kind=\"some\"} 1.764706",
        "cloister_slot_pressure_seconds_total{slot=\"1\",resource=\"cpu\",kind=\"full\"} 1.764707",
        "cloister_slot_pressure_seconds_total{slot=\"1\",resource=\"memory\",kind=\"some\"} 0.00002",
        "cloister_slot_pressure_seconds_total{slot=\"1\",resource=\"memory\",kind=\"full\"} 0.000021",
        "cloister_slot_pressure_seconds_total{slot=\"1\",resource=\"io\",kind=\"some\"} 0.00003",
        "cloister_slot_pressure_seconds_total{slot=\"1\",resource=\"io\",kind=\"full\"} 0.000031",
        "cloister_slot_io_bytes_total{slot=\"1\",direction=\"read\"} 512",
        "cloister_slot_io_bytes_total{slot=\"1\",direction=\"write\"} 1024",
    ];
    assert_eq!(values(&bench).await, [&all[..], &slot].concat());

    first.complete();
    second.complete();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(values(&bench).await, all, "both have ended");
}

#[tokio::test]
async fn what_the_host_cannot_tell_is_absent() {
    let mut bench = Bench::new(1);
    let call = bench.execute(&task());
    let mut job = bench.job().await;
    job.start();
    assert_eq!(values(&bench).await, [""; 0]);
    let text = bench.get("/metrics").await.text;
    assert!(!text.contains("cloister_slot_") && !text.contains("cloister_cells_"), "{text}");
    let some = Some(Duration::ZERO);
    let stats = Stats { cpu_pressure: Pressure { some, full: None }, ..Stats::default() };
    *bench.counts.each.lock().unwrap() = stats;
    assert_eq!(
        values(&bench).await,
        ["cloister_slot_pressure_seconds_total{slot=\"0\",resource=\"cpu\",kind=\"some\"} 0"]
    );
    job.complete();
    call.await.unwrap();
}

#[tokio::test]
async fn no_slot_beyond_the_64th_is_told() {
    let mut bench = Bench::new(70);
    *bench.counts.each.lock().unwrap() = Stats { pids: Some(1), ..Stats::default() };
    let mut jobs = Vec::new();
    for _ in 0..70 {
        drop(bench.execute(&task_with(Uuid::new_v4())));
        let mut job = bench.job().await;
        job.start();
        jobs.push(job);
    }
    let expected: Vec<_> =
        (0..64).map(|slot| format!("cloister_slot_pids{{slot=\"{slot}\"}} 1")).collect();
    assert_eq!(values(&bench).await, expected);
}

#[tokio::test]
async fn a_cell_that_ends_while_it_is_read_is_left_out() {
    let mut bench = Bench::new(2);
    *bench.counts.each.lock().unwrap() = everything();
    let calls = [bench.execute(&task()), bench.execute(&task())];
    let (mut first, mut second) = (bench.job().await, bench.job().await);
    first.start();
    second.start();
    *bench.counts.meanwhile.lock().unwrap() = Some(Box::new(move || first.complete()));
    let found = values(&bench).await;
    assert!(found.iter().all(|line| line.contains("slot=\"1\"")), "{found:#?}");
    assert_eq!(found.len(), 14, "{found:#?}");
    second.complete();
    for call in calls {
        call.await.unwrap();
    }
}
