//! What an operator finds in the log of a job: by whom, where and as what it was run.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::DefaultGuard,
};

use super::{Coordinator, FakeRunner};

/// The lines of this thread, as long as the guard lives.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<BTreeMap<String, String>>>>);

impl Lines {
    fn listen() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let guard = tracing::subscriber::set_default(lines.clone());
        (lines, guard)
    }

    /// The one with this message.
    fn line(&self, message: &str) -> BTreeMap<String, String> {
        let lines = self.0.lock().unwrap();
        let found = lines.iter().find(|line| line["message"] == message);
        found.unwrap_or_else(|| panic!("{message:?} is not in {lines:#?}")).clone()
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        // Those of libraries have no message.
        if fields.0.contains_key("message") {
            self.0.lock().unwrap().push(fields.0);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}"));
    }
}

#[tokio::test]
async fn the_lines_of_a_job_name_its_runner_and_its_execution() {
    let (lines, _guard) = Lines::listen();
    let runner = FakeRunner::new(1).await;
    let coordinator = Coordinator::with(&[&runner]).await;
    let client = &coordinator.client;
    let id = client.submit("echo x").await;
    client.end(&id).await;
    let execution = runner.lock().taken[0].0.to_string();
    for message in ["job is handed to a runner", "job ended"] {
        let line = lines.line(message);
        assert_eq!((&line["job_id"], &line["attempt"]), (&id, &"1".into()), "{line:?}");
        assert_eq!((&line["runner"], &line["execution_id"]), (&runner.url(), &execution));
        assert!(!line.contains_key("reason") && line.values().all(|v| !v.is_empty()), "{line:?}");
    }
}

#[tokio::test]
async fn a_job_that_no_runner_had_names_none() {
    let (lines, _guard) = Lines::listen();
    let coordinator = Coordinator::with(&[]).await;
    let client = &coordinator.client;
    let id = client.submit("true").await;
    client.delete(&format!("/jobs/{id}")).await.expect(200);
    let line = lines.line("job ended");
    assert_eq!(line["status"], "cancelled");
    for absent in ["runner", "execution_id", "reason", "runtime_ms"] {
        assert!(!line.contains_key(absent), "{line:?}");
    }
}
