//! Submitting jobs and waiting for what becomes of them.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::Client;

/// Submits a job and comes back with it when it has ended.
pub fn finished(client: &Client, request: &Value) -> Value {
    let response = client.post("/jobs?wait=60", request);
    assert_eq!(response.status, 201, "{}", response.text());
    let mut job = response.json();
    let until = Instant::now() + Duration::from_secs(120);
    while matches!(job["status"].as_str(), Some("pending" | "running")) {
        assert!(Instant::now() < until, "{job}");
        job = client.get(&format!("/jobs/{}?wait=60", job["job_id"].as_str().unwrap())).json();
    }
    job
}

/// Waits until a job is as it should be.
pub fn until(client: &Client, id: &str, good: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let job = client.get(&format!("/jobs/{id}")).json();
        if good(&job) {
            return job;
        }
        assert!(Instant::now() < end, "{job}");
        thread::sleep(Duration::from_millis(20));
    }
}
