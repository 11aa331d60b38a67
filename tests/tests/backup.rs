//! `cloister backup` of a coordinator that runs, and going back to what it made.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use cloister_tests::{COMPLETED, Scratch, Service, run, until, verdict};
use serde_json::json;

#[test]
fn a_restored_copy_runs_nothing_before_it_is_told_to() {
    let up = Service::up(&["--slots", "1"]);
    let post = |command: &str| {
        let job = up.client().post("/jobs", &json!({ "command": command }));
        job.json()["job_id"].as_str().unwrap().to_owned()
    };
    let done = post("echo done");
    let job = up.client().get(&format!("/jobs/{done}?wait=10")).json();
    assert_eq!(verdict(&job), COMPLETED);
    let runs = post("sleep 600");
    until(up.client(), &runs, |job| job["status"] == "running");
    let waits = post("echo ran");

    let folder = Scratch::new("restored");
    let copy = folder.join("cloister.db");
    let store = format!("sqlite:{}", up.data().join("cloister.db").display());
    let args = ["backup", "--store", &store, copy.to_str().unwrap()];
    let made = run(&args);
    assert!(made.status.success(), "{made:?}");
    let said = String::from_utf8_lossy(&made.stdout);
    assert!(said.contains("cloister.db is a copy from 20") && said.contains("resume"), "{said}");
    let again = run(&args);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(!again.status.success() && said.contains("exists"), "{said}");
    // Meanwhile the original goes on.
    up.client().delete(&format!("/jobs/{runs}"));
    let job = up.client().get(&format!("/jobs/{waits}?wait=10")).json();
    assert_eq!(verdict(&job), COMPLETED);
    drop(up);

    let restored = folder.join("data");
    fs::create_dir(&restored).unwrap();
    fs::copy(&copy, restored.join("cloister.db")).unwrap();
    let up = Service::up_again(&restored, &["--slots", "1"]);
    let client = up.client();
    let job = client.get(&format!("/jobs/{done}")).json();
    assert_eq!((verdict(&job), &job["stdout"]), (COMPLETED, &json!("done\n")));
    let began = Instant::now();
    let paused = loop {
        if let Some(why) = client.get("/health").json()["paused"].as_str() {
            break why.to_owned();
        }
        assert!(began.elapsed() < Duration::from_secs(20), "it is not paused");
        thread::sleep(Duration::from_millis(20));
    };
    assert!(paused.contains("this is a copy from 20"), "{paused}");
    let job = client.get(&format!("/jobs/{waits}?wait=2")).json();
    assert_eq!(job["status"], "pending", "{job}");
    let resumed = run(&["resume", "--server", client.base()]);
    assert!(resumed.status.success(), "{resumed:?}");
    let job = client.get(&format!("/jobs/{waits}?wait=20")).json();
    assert_eq!(verdict(&job), COMPLETED);
}

#[test]
fn a_shared_store_is_copied_by_its_own_means() {
    let folder = Scratch::new("none");
    let to = folder.join("copy");
    let refused = run(&["backup", "--store", "postgres://me:secret@db/jobs", to.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("pg_dump"), "{said}");
    assert!(!said.contains("secret") && !to.exists(), "{said}");
}
