//! Over real sockets: what only a connection can show.

use std::net::{SocketAddr, TcpListener};

use cloister_sandbox::Stream;
use cloister_web::{Secret, Shutdown};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

use super::bench::{PATIENCE, fake, task};
use crate::{Config, Lost, serve::run};

/// A client that opens a connection for each request.
#[derive(Clone, Copy)]
pub(super) struct Client(SocketAddr);

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self(address)
    }

    async fn send(self, head: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.0).await.unwrap();
        let request = format!(
            "{head}\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.0,
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn talk(self, head: String, body: String) -> String {
        let mut stream = self.send(&head, &body).await;
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer))
            .await
            .expect("an answer in time")
            .unwrap();
        answer
    }

    pub(super) fn post(self, body: &Value) -> JoinHandle<String> {
        tokio::spawn(self.talk("POST /execute HTTP/1.1".into(), body.to_string()))
    }

    pub(super) async fn get(self, path: &str) -> String {
        self.talk(format!("GET {path} HTTP/1.1"), String::new()).await
    }

    pub(super) async fn delete(self, path: &str) -> String {
        self.talk(format!("DELETE {path} HTTP/1.1"), String::new()).await
    }

    pub(super) async fn refused(self) -> bool {
        TcpStream::connect(self.0).await.is_err()
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_its_job() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::new(listener.local_addr().unwrap());
    let (cells, mut jobs) = fake();
    tokio::spawn(run(Config::default(), cells, Lost::new(), listener, Shutdown::new()));
    for head in ["POST /execute HTTP/1.1", "POST /execute HTTP/1.1\r\nAccept: application/x-ndjson"]
    {
        let mut stream = client.send(head, &task().to_string()).await;
        let mut job = timeout(PATIENCE, jobs.recv()).await.unwrap().unwrap();
        job.start();
        if head.contains("Accept") {
            // What happens is told while it happens.
            job.write(Stream::Stdout, "tick");
            let mut seen = String::new();
            while !seen.contains("tick") {
                let mut part = [0; 1024];
                let read = timeout(PATIENCE, stream.read(&mut part)).await.unwrap().unwrap();
                seen += std::str::from_utf8(&part[..read]).unwrap();
            }
            assert!(seen.contains("content-type: application/x-ndjson"), "{seen}");
        }
        drop(stream);
        job.cancelled().await;
        job.give_in();
    }
}

#[tokio::test]
async fn only_a_token_opens_execute() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = Client::new(([127, 0, 0, 1], port).into());
    let (cells, mut jobs) = fake();
    let token = "token-of-this-very-test";
    let config = Config {
        tokens: vec![Secret::new(token, "of the test").unwrap()].into(),
        ..Config::default()
    };
    tokio::spawn(run(config, cells, Lost::new(), listener, Shutdown::new()));
    let refused = client.post(&task()).await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
    assert!(client.get("/health").await.starts_with("HTTP/1.1 200 "));
    let head = format!("POST /execute HTTP/1.1\r\nAuthorization: Bearer {token}");
    let call = tokio::spawn(client.talk(head, task().to_string()));
    timeout(PATIENCE, jobs.recv()).await.unwrap().unwrap().complete();
    assert!(call.await.unwrap().starts_with("HTTP/1.1 200 "));
}
