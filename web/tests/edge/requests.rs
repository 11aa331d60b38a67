//! Single requests, good and bad, as clients send them.

use std::time::{Duration, Instant};

use cloister_api::ByteSize;
use cloister_web::{BodyLimits, ServerLimits};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{interval, timeout},
};

use crate::service::{PATIENCE, parse, read_answer, start, start_default};

#[tokio::test]
async fn unknown_addresses_and_methods_are_problems() {
    let service = start_default();
    let missing = service.get("/nothing").await;
    assert!(missing.problem().detail.contains("/nothing"));
    assert_eq!(missing.status, 404);
    assert_eq!(service.get("/jobs/42").await.problem().status, 404);

    let with = |method: &str| {
        format!(
            "{method} /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
    };
    let delete = service.talk(with("DELETE")).await;
    assert_eq!(delete.problem().status, 405);
    assert!(delete.head.contains("allow: get,head"), "{}", delete.head);
    let options = service.talk(with("OPTIONS")).await;
    assert_eq!((options.status, options.body.as_str()), (204, ""));
    assert!(options.head.contains("allow: get,head"), "{}", options.head);
    let head = service.talk(with("HEAD")).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.head.contains("content-length: 4"), "{}", head.head);
}

#[tokio::test]
async fn strangers_pages_are_kept_out() {
    let service = start_default();
    let from =
        |headers: &str| format!("GET /wait HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n");
    let own = "Host: localhost:1\r\nOrigin: http://localhost:1";
    assert_eq!(service.talk(from(own)).await.status, 200);
    let rebound = service.talk(from("Host: evil.example")).await;
    assert_eq!(rebound.problem().status, 403);
    let foreign = service.talk(from("Host: localhost\r\nOrigin: https://evil.example")).await;
    assert_eq!(foreign.problem().status, 403);
    // A page can't find out what exists either.
    let probe = "GET /nothing HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(service.talk(probe).await.status, 403);
}

#[tokio::test]
async fn queries_and_metrics_are_as_documented() {
    let service = start_default();
    assert_eq!(service.get("/wait?wait=500ms").await.body, "Some(500ms)");
    assert_eq!(service.get("/wait?wait=100").await.body, "Some(60s)");
    assert_eq!(service.get("/wait").await.body, "None");
    assert_eq!(service.get("/wait?timeout=5").await.problem().status, 400);
    let metrics = service.get("/metrics").await;
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
    assert!(metrics.body.contains("\njobs_total 0\n"), "{}", metrics.body);
}

#[tokio::test]
async fn a_body_of_17_mib_is_refused_before_it_is_read() {
    let service = start_default();
    let length = 17 << 20;
    // As curl does it: the body waits for a word of the service.
    let head = service.post_head(length).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    let asked = service.talk(head).await;
    assert_eq!(asked.problem().status, 413);
    // As a simpler client does it: everything is sent, and then the answer is read. Without
    // lingering the write or the read would fail with a reset.
    let answer =
        service.talk([service.post_head(length).into_bytes(), vec![b' '; length]].concat()).await;
    assert!(answer.problem().detail.contains("16MiB"));
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
    assert_eq!(service.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_chunked_body_is_refused_when_it_passes_the_limit() {
    let service = start_default();
    let mut stream = service.connect().await;
    let head = service.post_head(0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = [b"100000\r\n".to_vec(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat();
    for _ in 0..17 {
        stream.write_all(&chunk).await.unwrap();
    }
    assert_eq!(read_answer(&mut stream).await.problem().status, 413);
}

#[tokio::test]
async fn a_full_body_is_read_and_the_connection_goes_on() {
    let service = start_default();
    let mut stream = service.connect().await;
    for _ in 0..2 {
        let length = 16 << 20;
        stream.write_all(service.post_head(length).as_bytes()).await.unwrap();
        stream.write_all(&vec![b' '; length]).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = stream.read(&mut answer).await.unwrap();
        assert!(parse(&answer[..read]).body.ends_with("16777216 bytes"));
    }
}

#[tokio::test]
async fn other_media_types_are_refused() {
    let service = start_default();
    let text = service.post_head(2).replace("application/json", "text/plain") + "{}";
    let mut stream = service.connect().await;
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = stream.read(&mut answer).await.unwrap();
    assert_eq!(parse(&answer[..read]).problem().status, 415);
}

#[tokio::test]
async fn a_client_that_sends_a_byte_at_a_time_is_told() {
    let bodies = BodyLimits { grace: Duration::from_millis(200), ..BodyLimits::default() };
    let service = start(bodies, ServerLimits::default());
    let stream = service.connect().await;
    let (mut read, mut write) = stream.into_split();
    let head = service.post_head(1000);
    let drip = tokio::spawn(async move {
        write.write_all(head.as_bytes()).await.unwrap();
        let mut pace = interval(Duration::from_millis(10));
        while write.write_all(b" ").await.is_ok() {
            pace.tick().await;
        }
    });
    let start = Instant::now();
    let mut bytes = Vec::new();
    timeout(PATIENCE, read.read_to_end(&mut bytes)).await.unwrap().unwrap();
    let took = start.elapsed();
    let answer = parse(&bytes);
    assert!(answer.problem().detail.contains("0.2 s"), "{}", answer.body);
    assert_eq!(answer.status, 408);
    assert!(took >= bodies.grace && took < Duration::from_secs(5), "{took:?}");
    // The sender notices in the end: the service does not linger for ever.
    timeout(PATIENCE, drip).await.unwrap().unwrap();
    assert_eq!(service.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_truncated_body_is_refused() {
    let service = start_default();
    let mut stream = service.connect().await;
    stream.write_all((service.post_head(100) + "{\"command\":").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert!(answer.problem().detail.contains("after 11 bytes"), "{}", answer.body);
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn bodies_share_their_memory() {
    let bodies = BodyLimits { total: ByteSize(4096), ..BodyLimits::default() };
    let service = start(bodies, ServerLimits::default());
    let length = 5000;
    let head = service.post_head(length).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let answer = service.talk(head + &" ".repeat(length)).await;
    assert_eq!(answer.problem().status, 503);
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
}
