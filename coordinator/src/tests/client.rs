//! A client that says what it got.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::SOON;

#[derive(Clone)]
pub(super) struct Client {
    http: Http<HttpConnector, Full<Bytes>>,
    base: String,
    headers: Vec<(&'static str, String)>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
    pub(super) body: Value,
}

impl Answer {
    /// The job's id in it.
    pub(super) fn id(&self) -> String {
        self.body["job_id"].as_str().unwrap_or_else(|| panic!("{self:?}")).into()
    }

    #[track_caller]
    pub(super) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        if status >= 400 {
            assert_eq!(self.headers["content-type"], "application/problem+json");
            assert_eq!(self.body["status"], status);
        }
        self
    }
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            http: Http::builder(TokioExecutor::new()).build_http(),
            base: format!("http://{address}"),
            headers: vec![("content-type", "application/json".into())],
        }
    }

    /// The same with a header set.
    pub(super) fn with(&self, name: &'static str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.retain(|(known, _)| *known != name);
        client.headers.push((name, value.into()));
        client
    }

    pub(super) async fn send(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let answer = timeout(SOON, self.http.request(request)).await;
        let response = answer.expect("an answer in time").unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        Answer {
            status: head.status,
            headers: head.headers,
            body: serde_json::from_slice(&body).unwrap_or_default(),
            text,
        }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "").await
    }

    pub(super) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, "").await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, body.to_string()).await
    }

    /// Submits a command and answers the job's id.
    pub(super) async fn submit(&self, command: &str) -> String {
        self.post("/jobs", &json!({ "command": command })).await.expect(201).id()
    }

    /// The job when it has ended.
    pub(super) async fn end(&self, id: &str) -> Value {
        let job = self.get(&format!("/jobs/{id}?wait=20")).await.expect(200).body;
        assert!(job.get("finished_at").is_some(), "{job}");
        job
    }

    /// Asks until what comes is as wanted: for what the service offers no waiting.
    pub(super) async fn until(
        &self,
        path: &str,
        wanted: impl Fn(StatusCode, &Value) -> bool,
    ) -> Value {
        let asking = async {
            loop {
                let answer = self.get(path).await;
                if wanted(answer.status, &answer.body) {
                    return answer.body;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        if let Ok(body) = timeout(SOON, asking).await {
            return body;
        }
        panic!("{path} stays {}", self.get(path).await.text)
    }

    /// Asks until the job is pending for a reason that holds this.
    pub(super) async fn until_pending(&self, id: &str, why: &str) -> Value {
        let holds = |job: &Value| job["pending_reason"].as_str().is_some_and(|r| r.contains(why));
        self.until(&format!("/jobs/{id}"), |_, job| job["status"] == "pending" && holds(job)).await
    }

    /// Asks until the command of the job runs.
    pub(super) async fn until_running(&self, id: &str) -> Value {
        self.until(&format!("/jobs/{id}"), |_, job| job["status"] == "running").await
    }
}
