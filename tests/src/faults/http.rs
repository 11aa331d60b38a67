//! HTTP as a client does it that expects trouble: with time-outs, and every failure told.

use std::{collections::BTreeMap, io::Read, time::Duration};

use serde_json::Value;
use ureq::{Agent, http};

use crate::client::samples;

/// Speaks to any service, from the thread's place in the network.
#[derive(Clone)]
pub(super) struct Http {
    agent: Agent,
    token: String,
}

/// An answer: its status and body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// Its body, where it is JSON.
    pub(super) fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body).map_err(|error| format!("no JSON: {error}"))
    }

    /// Its body as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Http {
    /// A client that shows this token and waits so long for each answer.
    pub(super) fn new(token: &str, patience: Duration) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(patience))
            // A place may be a stranger's after a fault; what was connected before it says nothing.
            .max_idle_connections(0)
            .build();
        Self { agent: config.into(), token: format!("Bearer {token}") }
    }

    /// GET of a URL.
    pub(super) fn get(&self, url: &str) -> Result<Answer, String> {
        read(self.agent.get(url).header("authorization", &self.token).call())
    }

    /// GET, where only 200 with JSON will do.
    pub(super) fn look(&self, url: &str) -> Result<Value, String> {
        let answer = self.get(url)?;
        match answer.status {
            200 => answer.json(),
            status => Err(format!("{status}: {}", answer.text())),
        }
    }

    /// DELETE of a URL.
    pub(super) fn delete(&self, url: &str) -> Result<Answer, String> {
        read(self.agent.delete(url).header("authorization", &self.token).call())
    }

    /// POST of a job.
    pub(super) fn submit(&self, base: &str, key: &str, body: &Value) -> Result<Answer, String> {
        let request = self.agent.post(format!("{base}/jobs"));
        let request = request.header("authorization", &self.token);
        let request = request.header("idempotency-key", key);
        let request = request.header("content-type", "application/json");
        read(request.send(body.to_string().as_bytes()))
    }

    /// What `/metrics` says, by name with labels.
    pub(super) fn metrics(&self, base: &str) -> Result<BTreeMap<String, f64>, String> {
        let answer = self.get(&format!("{base}/metrics"))?;
        if answer.status != 200 {
            return Err(format!("{}: {}", answer.status, answer.text()));
        }
        Ok(samples(&answer.text()))
    }
}

fn read(result: Result<http::Response<ureq::Body>, ureq::Error>) -> Result<Answer, String> {
    let (parts, body) = result.map_err(|error| error.to_string())?.into_parts();
    let mut bytes = Vec::new();
    body.into_reader().read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(Answer { status: parts.status.as_u16(), body: bytes })
}
