//! The units of deploy/systemd, installed as docs/operating.md says.

use std::{
    fs,
    time::{Duration, Instant},
};

use cloister_tests::{Client, census, cloister, finished, killed, python, shell, verdict};
use serde_json::{Value, json};

use super::{all_gone, systemd::Machine};

const SERVICES: [(&str, &str); 3] = [
    ("cloister-runner", include_str!("../../../deploy/systemd/cloister-runner.service")),
    ("cloister-coordinator", include_str!("../../../deploy/systemd/cloister-coordinator.service")),
    ("cloister-up", include_str!("../../../deploy/systemd/cloister-up.service")),
];
const ENVIRONMENTS: [(&str, &str); 3] = [
    ("runner", include_str!("../../../deploy/systemd/runner.env")),
    ("coordinator", include_str!("../../../deploy/systemd/coordinator.env")),
    ("up", include_str!("../../../deploy/systemd/up.env")),
];
const USERS: &str = include_str!("../../../deploy/systemd/cloister.sysusers.conf");
const AS_ROOT: &str = include_str!("../../../deploy/systemd/cloister-runner-as-root.conf");

/// Where the program and the users are; both are outside of what a machine has to itself.
fn install(machine: &Machine) {
    let program = "/usr/local/bin/cloister";
    if !fs::exists(program).unwrap() {
        fs::copy(cloister(), program).unwrap();
    }
    for (name, text) in SERVICES {
        machine.write(&format!("/etc/systemd/system/{name}.service"), text);
    }
    for (name, text) in ENVIRONMENTS {
        machine.write(&format!("/etc/cloister/{name}.env"), text);
    }
    machine.write("/etc/sysusers.d/cloister.conf", USERS);
    machine.does("systemd-sysusers && systemctl daemon-reload");
}

/// Asks again until it answers.
fn up(port: u16) -> Client {
    let client = Client::new(format!("http://127.0.0.1:{port}"));
    let until = Instant::now() + Duration::from_secs(120);
    while client.try_get("/ready").is_err() {
        assert!(Instant::now() < until, "nothing answers at port {port}");
        std::thread::sleep(Duration::from_millis(200));
    }
    client
}

fn main_pid(machine: &Machine, unit: &str) -> String {
    machine.does(&format!("systemctl show --property=MainPID --value {unit}")).trim().into()
}

/// What a job's limits come to, exactly as for root.
fn limits_hold(client: &Client) {
    let none = json!({});
    let hog = python("bytearray(1 << 28)", &json!({"memory": "32MiB"}), 30.0);
    let job = finished(client, &hog);
    assert_eq!(verdict(&job), killed("out_of_memory"), "{job}");
    let job = finished(client, &shell("setsid sleep 98764 & sleep 98764", &none, 1.0));
    assert_eq!(verdict(&job), killed("timeout"), "{job}");
    assert!(census::gone("sleep 98764", Duration::from_secs(2)));
    assert!(job.get("not_enforced").is_none(), "{job}");
}

/// Stops a unit while a job runs, which may end.
fn drains(machine: &Machine, units: &str, client: &Client) {
    let job = client.post("/jobs", &json!({"command": "sleep 3; echo of the drain"})).json();
    cloister_tests::until(client, job["job_id"].as_str().unwrap(), |job| {
        job["status"] == "running"
    });
    machine.does(&format!("systemctl stop {units}"));
    all_gone();
    machine.does(&format!("systemctl start {units}"));
}

#[test]
fn the_units_run_all_of_it_and_the_runner_is_an_ordinary_user() {
    let machine = Machine::boot();
    install(&machine);
    machine.does("systemctl start cloister-runner cloister-coordinator");
    let (runner, coordinator) = (up(8080), up(8000));
    let health = runner.get("/health").json();
    let lines = health["enforcement"].as_array().expect("what this host enforces");
    assert!(
        lines.iter().all(|line| line["enforced"] == true || line["optional"] == true),
        "{health}"
    );
    limits_hold(&coordinator);
    // Not root outside either.
    let uid = machine.does("id -u cloister-runner").trim().to_owned();
    let pid = main_pid(&machine, "cloister-runner");
    assert_eq!(machine.does(&format!("stat -c %u /proc/{pid}")).trim(), uid);

    // It is back after a crash, and its jobs' cgroups are not left.
    machine.does(&format!("kill -KILL {pid}"));
    let until = Instant::now() + Duration::from_secs(60);
    while [String::from("0"), pid.clone()].contains(&main_pid(&machine, "cloister-runner")) {
        assert!(Instant::now() < until, "the runner is not started again");
        std::thread::sleep(Duration::from_millis(200));
    }
    up(8080);
    let job = finished(&coordinator, &shell("echo again", &json!({}), 30.0));
    assert_eq!(job["stdout"], "again\n", "{job}");

    drains(&machine, "cloister-runner cloister-coordinator", &coordinator);
    up(8080);
    let listed: Value = up(8000).get("/jobs?limit=100").json();
    let drained = listed["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .find(|job| job["command"] == "sleep 3; echo of the drain");
    assert_eq!(drained.expect("it is kept")["status"], "completed", "{listed}");
    machine.does("systemctl stop cloister-runner cloister-coordinator");
    all_gone();
}

#[test]
fn the_units_that_start_as_root_give_each_job_a_user() {
    let machine = Machine::boot();
    install(&machine);
    machine.write("/etc/systemd/system/cloister-runner.service.d/as-root.conf", AS_ROOT);
    machine.does("systemctl daemon-reload && systemctl start cloister-runner");
    let runner = up(8080);
    let job = runner.post("/execute", &shell("sleep 98765", &json!({}), 1.0)).json();
    assert_eq!(verdict(&job), killed("timeout"), "{job}");
    let pid = main_pid(&machine, "cloister-runner");
    assert_eq!(machine.does(&format!("stat -c %u /proc/{pid}")).trim(), "61840");
    let users = &runner.get("/health").json()["enforcement"][0];
    assert!(
        users["detail"].as_str().unwrap().starts_with("each job has a uid of its own"),
        "{users}"
    );
    machine.does("systemctl stop cloister-runner");
    all_gone();

    machine.does("systemctl start cloister-up");
    limits_hold(&up(8000));
    machine.does("systemctl stop cloister-up");
    all_gone();
}
