//! What an operator finds in the log of an execution.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use cloister_api::Reason;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::DefaultGuard,
};
use uuid::Uuid;

use super::bench::{Bench, failed, task_with};

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
async fn the_end_of_an_execution_names_it_and_its_attempt() {
    for reason in [None, Some(Reason::Timeout)] {
        let (lines, _guard) = Lines::listen();
        let mut bench = Bench::new(1);
        let id = Uuid::new_v4();
        let call = bench.execute(&task_with(id));
        let job = bench.job().await;
        match reason {
            None => job.complete(),
            Some(reason) => job.end(failed(reason)),
        }
        call.await.unwrap();
        // Its keeper says it, in a task of its own.
        tokio::task::yield_now().await;
        let line = lines.line("an execution ended");
        assert_eq!((&line["execution_id"], &line["attempt"]), (&id.to_string(), &"1".into()));
        assert_eq!(line.get("reason").map(String::as_str), reason.map(Reason::as_str));
    }
}
