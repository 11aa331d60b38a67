//! The two requests: a job for the coordinator, an execution for a runner.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    Bounds, MAX_LEASE, Problem, Reason, Seconds, Task,
    fields::{Fields, escape, integer, text},
    json, lease,
    limits::positive_duration,
};

const MAX_LABELS: usize = 64;
const MAX_LABEL: usize = 1024;

/// The body of `POST /jobs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRequest {
    /// What to run.
    #[serde(flatten)]
    pub task: Task,
    /// −100 to 100, higher first.
    pub priority: i32,
    /// Further attempts.
    pub retries: u32,
    /// For which reasons.
    pub retry_on: Vec<Reason>,
    /// The user's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl JobRequest {
    /// A job with every default.
    pub fn new(task: Task) -> Self {
        Self {
            task,
            priority: 0,
            retries: 0,
            retry_on: vec![Reason::RunnerLost],
            labels: BTreeMap::new(),
        }
    }

    /// Reads a body, or says everything that is wrong with it.
    pub fn parse(body: &[u8], max: &Bounds) -> Result<Self, Problem> {
        parse(body, |fields| Self::read(fields, max))
    }

    pub(crate) fn read(fields: &mut Fields<'_>, max: &Bounds) -> Self {
        let default = Self::new(Task::read(fields, max));
        Self {
            priority: fields
                .read("priority", |v| integer(v, -100..=100))
                .and_then(|n| i32::try_from(n).ok())
                .unwrap_or(default.priority),
            retries: fields
                .read("retries", |v| integer(v, 0..=10))
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(default.retries),
            retry_on: fields.read("retry_on", reasons).unwrap_or(default.retry_on),
            labels: read_labels(fields),
            task: default.task,
        }
    }
}

/// The body of `POST /execute`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecuteRequest {
    /// What to run.
    #[serde(flatten)]
    pub task: Task,
    /// With it a second call joins the first, and the result is kept until acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<Uuid>,
    /// Which attempt of the job this is, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The term of the coordinator that sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Whose term that is: the coordinators that share a store. Terms of several of them are not
    /// compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Uuid>,
    /// How long the runner may go on without hearing of it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Seconds>,
    /// The runner's clock (its health's `clock_ms`) when it was heard of last: the lease counts from
    /// then, however long this is on its way; without it, from when the runner reads this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<u64>,
}

impl ExecuteRequest {
    /// Reads a body, or says everything that is wrong with it.
    pub fn parse(body: &[u8], max: &Bounds) -> Result<Self, Problem> {
        parse(body, |fields| Self {
            task: Task::read(fields, max),
            execution_id: fields.read("execution_id", lease::uuid),
            attempt: fields
                .read("attempt", |v| integer(v, 1..=i64::from(u32::MAX)))
                .and_then(|n| u32::try_from(n).ok()),
            epoch: fields.read("epoch", lease::epoch),
            cluster: fields.read("cluster", lease::uuid),
            lease: fields.read("lease", |v| positive_duration(v, MAX_LEASE, "")),
            as_of: fields.read("as_of", lease::clock),
        })
    }
}

/// Reads a body as one JSON object whose fields `read` asks for.
pub(crate) fn parse<T>(body: &[u8], read: impl FnOnce(&mut Fields<'_>) -> T) -> Result<T, Problem> {
    let (value, mut faults) = json::read(body)?;
    let result = Fields::of(&value, "", &mut faults).map(|mut fields| {
        let result = read(&mut fields);
        fields.finish();
        result
    });
    match result {
        Some(result) if faults.is_empty() => Ok(result),
        _ => Err(Problem::invalid(faults)),
    }
}

fn reasons(value: &Value) -> Result<Vec<Reason>, String> {
    let known = Reason::ALL.map(Reason::as_str).join(", ");
    let items = value.as_array().ok_or("must be an array of reasons")?;
    let mut reasons = items
        .iter()
        .map(|item| Reason::ALL.into_iter().find(|r| item.as_str() == Some(r.as_str())))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| format!("must hold only reasons: {known}"))?;
    reasons.sort_unstable();
    reasons.dedup();
    Ok(reasons)
}

fn read_labels(fields: &mut Fields<'_>) -> BTreeMap<String, String> {
    let Some(value) = fields.raw("labels") else {
        return BTreeMap::new();
    };
    let Value::Object(map) = value else {
        fields.fault("labels", "must be an object of strings");
        return BTreeMap::new();
    };
    if map.len() > MAX_LABELS {
        fields.fault("labels", format!("must hold at most {MAX_LABELS} labels"));
        return BTreeMap::new();
    }
    let mut labels = BTreeMap::new();
    for (name, value) in map {
        match text(value) {
            Ok(value) if name.len().max(value.len()) <= MAX_LABEL => {
                labels.insert(name.clone(), value);
            }
            Ok(_) => fields.fault_within(
                "labels",
                &escape(name),
                format!("is longer than {MAX_LABEL} bytes"),
            ),
            Err(detail) => fields.fault_within("labels", &escape(name), detail),
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{ByteSize, Network, Program};

    fn faults(body: &str) -> Vec<(String, String)> {
        let problem = JobRequest::parse(body.as_bytes(), &Bounds::default()).unwrap_err();
        assert_eq!(problem.status, 400);
        problem.errors.into_iter().map(|e| (e.pointer, e.detail)).collect()
    }

    #[test]
    fn the_defaults_are_the_contracts() {
        let job = JobRequest::parse(br#"{"command": "true"}"#, &Bounds::default()).unwrap();
        assert_eq!(job, JobRequest::new(Task::new(Program::Command("true".into()))));
        let json = serde_json::to_value(&job).unwrap();
        assert_eq!(json["command"], "true");
        assert_eq!(json["timeout"], 30);
        assert_eq!(json["cwd"], "/job");
        assert_eq!(json["network"], "none");
        assert_eq!(json["retry_on"], serde_json::json!(["runner_lost"]));
        assert_eq!(json["limits"]["memory"], 512 << 20);
        assert_eq!(json["limits"]["cpus"], 1.0);
        assert_eq!(json["limits"].get("cpu_time"), None);
    }

    #[test]
    fn every_field_is_read() {
        let body = r#"{"argv": ["cat", ""], "timeout": "500ms", "stdin_base64": "/w==",
            "env": {"A": ""}, "cwd": "/tmp", "network": "host", "priority": -100, "retries": 10,
            "retry_on": ["timeout", "signal", "timeout"], "labels": {"k": "v"},
            "limits": {"cpus": 0.5, "memory": "64MiB", "pids": 1, "disk": 4096, "output": 0,
                       "cpu_time": 0.5, "open_files": 3}}"#;
        let job = JobRequest::parse(body.as_bytes(), &Bounds::default()).unwrap();
        assert_eq!(job.task.stdin.bytes(), [0xff]);
        assert_eq!(job.task.network, Network::Host);
        assert_eq!(job.task.limits.memory, ByteSize::mib(64));
        assert_eq!(job.retry_on, [Reason::Signal, Reason::Timeout]);
        let stored = serde_json::to_vec(&job).unwrap();
        assert_eq!(serde_json::from_slice::<JobRequest>(&stored).unwrap(), job);
        assert_eq!(JobRequest::parse(&stored, &Bounds::default()).unwrap(), job);
    }

    #[test]
    fn each_fault_is_named_where_it_stands() {
        for (body, pointer) in [
            (r"{}", "/command"),
            (r#"{"command": ""}"#, "/command"),
            (r#"{"command": 7}"#, "/command"),
            (r#"{"command": null}"#, "/command"),
            (r#"{"argv": null}"#, "/argv"),
            (r#"{"command": "a", "command": "b"}"#, "/command"),
            (r#"{"command": "a", "limits": {"pids": 1, "pids": 2}}"#, "/limits/pids"),
            (r#"{"command": "a", "env": {"A": "1", "A": "1"}}"#, "/env/A"),
            ("", ""),
            (r#"{"command": "a\u0000b"}"#, "/command"),
            (r#"{"argv": []}"#, "/argv"),
            (r#"{"argv": [""]}"#, "/argv"),
            (r#"{"argv": ["a", 1]}"#, "/argv"),
            (r#"{"command": "a", "argv": ["a"]}"#, "/argv"),
            (r#"{"command": "a", "timeout": 0}"#, "/timeout"),
            (r#"{"command": "a", "timeout": -1}"#, "/timeout"),
            (r#"{"command": "a", "timeout": "NaN"}"#, "/timeout"),
            (r#"{"command": "a", "timeout": 3601}"#, "/timeout"),
            (r#"{"command": "a", "env": {"A=B": "c"}}"#, "/env/A=B"),
            (r#"{"command": "a", "env": {"a/b": 1}}"#, "/env/a~1b"),
            (r#"{"command": "a", "env": []}"#, "/env"),
            (r#"{"command": "a", "cwd": ""}"#, "/cwd"),
            (r#"{"command": "a", "network": "bridge"}"#, "/network"),
            (r#"{"command": "a", "stdin_base64": "*"}"#, "/stdin_base64"),
            (r#"{"command": "a", "stdin": "", "stdin_base64": ""}"#, "/stdin_base64"),
            (r#"{"command": "a", "limits": 5}"#, "/limits"),
            (r#"{"command": "a", "limits": {"cpus": 0}}"#, "/limits/cpus"),
            (r#"{"command": "a", "limits": {"cpus": 1e300}}"#, "/limits/cpus"),
            (r#"{"command": "a", "limits": {"memory": "64M"}}"#, "/limits/memory"),
            (r#"{"command": "a", "limits": {"memory": 1000}}"#, "/limits/memory"),
            (r#"{"command": "a", "limits": {"pids": 0}}"#, "/limits/pids"),
            (r#"{"command": "a", "limits": {"pids": 1.5}}"#, "/limits/pids"),
            (r#"{"command": "a", "limits": {"disk": 0}}"#, "/limits/disk"),
            (r#"{"command": "a", "limits": {"cpu_time": 0}}"#, "/limits/cpu_time"),
            (r#"{"command": "a", "priority": 101}"#, "/priority"),
            (r#"{"command": "a", "retries": -1}"#, "/retries"),
            (r#"{"command": "a", "retry_on": ["boredom"]}"#, "/retry_on"),
            (r#"{"command": "a", "labels": {"a": 1}}"#, "/labels/a"),
            (r"[]", ""),
            (r#"{"command": "#, ""),
            (r#"{"command": 1e400}"#, ""),
        ] {
            let found = faults(body);
            assert_eq!(found.len(), 1, "{body}: {found:?}");
            assert_eq!(found[0].0, pointer, "{body}: {found:?}");
        }
    }

    #[test]
    fn what_has_no_default_is_not_told_to_be_left_out() {
        for body in [r#"{"command": null}"#, r#"{"argv": null}"#] {
            let found = faults(body);
            assert!(!found[0].1.contains("default"), "{found:?}");
        }
        assert!(faults(r#"{"command": "a", "cwd": null}"#)[0].1.contains("default"));
    }

    #[test]
    fn more_arguments_than_the_kernel_takes_are_refused_where_most_of_them_are() {
        let long = |count: usize| vec!["x".repeat(100_000 - 9); count];
        let vars = |count: usize| {
            let vars = long(count).into_iter().enumerate();
            vars.map(|(i, v)| (format!("V{i}"), v)).collect::<BTreeMap<_, _>>()
        };
        let parse = |body: serde_json::Value| {
            JobRequest::parse(body.to_string().as_bytes(), &Bounds::default())
        };
        assert!(parse(serde_json::json!({"argv": long(20)})).is_ok());
        assert!(parse(serde_json::json!({"command": "a", "env": vars(20)})).is_ok());
        for (body, pointer) in [
            (serde_json::json!({"argv": long(22)}), "/argv"),
            (serde_json::json!({"argv": vec![""; 300_000]}), "/argv"),
            (serde_json::json!({"command": "a", "env": vars(21)}), "/env"),
            (serde_json::json!({"argv": long(12), "env": vars(10)}), "/argv"),
        ] {
            let mut body = body;
            if let Some(first) = body.pointer_mut("/argv/0") {
                *first = "a".into();
            }
            let problem = parse(body).unwrap_err();
            assert_eq!(problem.errors.len(), 1);
            assert_eq!(problem.errors[0].pointer, pointer);
            assert!(problem.detail.contains("stdin"), "{}", problem.detail);
        }
    }

    #[test]
    fn a_misspelt_field_is_named_with_what_was_meant() {
        let found = faults(r#"{"command": "a", "tiemout": 1, "limits": {"memmory": 1}}"#);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found.iter().any(|(p, d)| p == "/tiemout" && d.contains("\"timeout\"")),
            "{found:?}"
        );
        assert!(
            found.iter().any(|(p, d)| p == "/limits/memmory" && d.contains("\"memory\"")),
            "{found:?}"
        );
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        let body = format!("{{\"command\": {}", "[".repeat(10_000));
        assert_eq!(faults(&body).len(), 1);
    }

    #[test]
    fn a_runner_takes_no_scheduling_fields() {
        let problem =
            ExecuteRequest::parse(br#"{"command": "a", "priority": 1}"#, &Bounds::default())
                .unwrap_err();
        assert_eq!(problem.errors[0].pointer, "/priority");
    }

    proptest! {
        /// Whatever comes in is read or refused, and what was read reads the same when it comes
        /// back from a store.
        #[test]
        fn nothing_panics(body in "\\PC{0,200}") {
            let _ = JobRequest::parse(body.as_bytes(), &Bounds::default());
        }

        #[test]
        fn what_was_read_survives_a_store(
            command in "[^\\x00]{1,40}", timeout in 0.001f64..3600.0, cpus in 0.01f64..64.0,
            stdin in proptest::option::of("\\PC{0,40}"), priority in -100i32..=100,
        ) {
            let mut body = serde_json::json!({
                "command": command, "timeout": timeout, "priority": priority, "limits": {"cpus": cpus},
            });
            if let Some(stdin) = stdin {
                body["stdin"] = stdin.into();
            }
            let job = JobRequest::parse(body.to_string().as_bytes(), &Bounds::default()).unwrap();
            let stored = serde_json::to_vec(&job).unwrap();
            prop_assert_eq!(serde_json::from_slice::<JobRequest>(&stored).unwrap(), job);
        }
    }
}
