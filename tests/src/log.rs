//! What a service logs, heard within the test that makes it log.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, OnceLock},
};

use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::DefaultGuard,
};

/// The lines of this thread, as long as the guard lives.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<BTreeMap<String, String>>>>);

impl Lines {
    /// Listens from now on.
    pub fn listen() -> (Self, DefaultGuard) {
        // Where there is one subscriber only, a thread that comes first to a place that logs asks its own
        // whether anybody listens there, and what it finds, nobody, holds for all threads
        // (tracing-core, `Dispatchers::rebuilder`). With a second one it asks all of them.
        static SECOND: OnceLock<Dispatch> = OnceLock::new();
        SECOND.get_or_init(|| Dispatch::new(Self::default()));
        let lines = Self::default();
        let guard = tracing::subscriber::set_default(lines.clone());
        (lines, guard)
    }

    /// The first one with this message.
    pub fn line(&self, message: &str) -> BTreeMap<String, String> {
        let found = self.all(message).into_iter().next();
        found.unwrap_or_else(|| panic!("{message:?} is not in {:#?}", self.0.lock().unwrap()))
    }

    /// All with this message.
    pub fn all(&self, message: &str) -> Vec<BTreeMap<String, String>> {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|line| line["message"] == message).cloned().collect()
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
