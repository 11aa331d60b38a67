//! Many jobs in one request.

use crate::{Bounds, JobRequest, Problem, request::parse};

/// Jobs that one batch may hold.
pub const MAX_BATCH: usize = 1000;

/// The body of `POST /jobs/batch`.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchRequest {
    /// From 1 to [`MAX_BATCH`], each as in `POST /jobs`.
    pub jobs: Vec<JobRequest>,
}

impl BatchRequest {
    /// Reads a body, or says what is wrong with it: at pointers such as `/jobs/3/timeout`.
    pub fn parse(body: &[u8], max: &Bounds) -> Result<Self, Problem> {
        parse(body, |fields| Self {
            jobs: fields.objects("jobs", 1..=MAX_BATCH, |fields| JobRequest::read(fields, max)),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn faults(body: &str) -> Vec<(String, String)> {
        let problem = BatchRequest::parse(body.as_bytes(), &Bounds::default()).unwrap_err();
        assert_eq!(problem.status, 400);
        problem.errors.into_iter().map(|e| (e.pointer, e.detail)).collect()
    }

    fn of(count: usize) -> String {
        format!(r#"{{"jobs": [{}]}}"#, vec![r#"{"command": "true"}"#; count].join(","))
    }

    #[test]
    fn each_is_read_as_it_would_be_alone() {
        let alone = [r#"{"command": "a", "timeout": "5s"}"#, r#"{"argv": ["b"], "priority": 3}"#];
        let body = format!(r#"{{"jobs": [{}]}}"#, alone.join(", "));
        let batch = BatchRequest::parse(body.as_bytes(), &Bounds::default()).unwrap();
        let alone = alone.map(|one| JobRequest::parse(one.as_bytes(), &Bounds::default()).unwrap());
        assert_eq!(batch.jobs, alone);
        let most = BatchRequest::parse(of(MAX_BATCH).as_bytes(), &Bounds::default()).unwrap();
        assert_eq!(most.jobs.len(), MAX_BATCH);
    }

    #[test]
    fn a_fault_is_named_with_the_job_that_has_it() {
        for (body, pointer) in [
            (r"{}", "/jobs"),
            (r#"{"jobs": null}"#, "/jobs"),
            (r#"{"jobs": {}}"#, "/jobs"),
            (r#"{"jobs": []}"#, "/jobs"),
            (&of(MAX_BATCH + 1), "/jobs"),
            (r#"{"jobs": [{"command": "a"}], "job": 1}"#, "/job"),
            (r#"{"jobs": ["a"]}"#, "/jobs/0"),
            (r#"{"jobs": [{"command": "a"}, null]}"#, "/jobs/1"),
            (r#"{"jobs": [{"command": "a"}, {"command": "b", "timeout": 0}]}"#, "/jobs/1/timeout"),
            (r#"{"jobs": [{"command": "a"}, {"command": "b", "tiemout": 1}]}"#, "/jobs/1/tiemout"),
            (r#"{"jobs": [{"command": "a", "limits": {"cpus": 0}}]}"#, "/jobs/0/limits/cpus"),
            (r#"{"jobs": [{"command": "a", "labels": {"a/b": 1}}]}"#, "/jobs/0/labels/a~1b"),
            (
                r#"{"jobs": [{"command": "a"}, {"command": "b", "command": "c"}]}"#,
                "/jobs/1/command",
            ),
            (r"[]", ""),
            ("", ""),
        ] {
            let found = faults(body);
            assert_eq!(found.len(), 1, "{body}: {found:?}");
            assert_eq!(found[0].0, pointer, "{body}: {found:?}");
        }
        let two = faults(r#"{"jobs": [{}, {"command": "a"}, {"argv": []}]}"#);
        let pointers: Vec<_> = two.iter().map(|(pointer, _)| &**pointer).collect();
        assert_eq!(pointers, ["/jobs/0/command", "/jobs/2/argv"]);
    }

    #[test]
    fn a_thousand_faulty_jobs_are_not_each_told() {
        let found = faults(&of(MAX_BATCH).replace("command", "comand"));
        // The first sixteen, which lack a command and have a field that nobody knows.
        assert_eq!(found.len(), 32);
        assert!(found.last().unwrap().0.starts_with("/jobs/15/"), "{found:?}");
    }

    proptest! {
        #[test]
        fn nothing_panics(body in "\\PC{0,200}", one in "\\PC{0,100}") {
            let _ = BatchRequest::parse(body.as_bytes(), &Bounds::default());
            let within = format!(r#"{{"jobs": [{one}]}}"#);
            let _ = BatchRequest::parse(within.as_bytes(), &Bounds::default());
        }
    }
}
