//! A server that is not there, is killed, or does not answer.

use super::*;

/// Says where it was tried, and never the password.
fn told(error: &StoreError, server: &Server, database: &str) {
    let text = error.to_string();
    assert!(text.contains("postgres://127.0.0.1:") && text.contains(database), "{text}");
    assert!(!text.contains(server.password()), "{text}");
}

#[tokio::test]
async fn one_that_can_not_be_used_is_named() {
    let server = Server::shared();
    let url = server.database();
    let name = url.rsplit('/').next().unwrap();
    for (url, why) in [
        (url.replace(server.password(), "wrong"), "password authentication failed"),
        (url.replace(name, "nowhere"), "\"nowhere\" does not exist"),
        // A port that nobody listens on (RFC 6335: reserved).
        (format!("postgres://me:{}@127.0.0.1:1/{name}", server.password()), "refused"),
    ] {
        let error = Postgres::open(&url).await.err().unwrap();
        told(&error, server, if why.contains("nowhere") { "nowhere" } else { name });
        assert!(error.to_string().contains(why), "{error}");
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
}

#[tokio::test]
async fn one_that_is_killed_and_started_again_has_all_that_was_answered() {
    let mut server = Server::start();
    let url = server.database();
    let name = url.rsplit('/').next().unwrap().to_owned();
    let store = Postgres::open(&url).await.unwrap();
    let led = store.lead(candidate("me"), LONG).await.unwrap();
    let jobs = [job(), job()];
    store.submit(jobs[0].clone(), None, None).await.unwrap();
    server.kill();
    for _ in 0..2 {
        let begun = Instant::now();
        let error = store.submit(job(), None, None).await.unwrap_err();
        told(&error, &server, &name);
        assert!(begun.elapsed() < Duration::from_secs(6));
    }
    assert!(store.lead(led.leader.clone(), LONG).await.is_err());
    server.start_again();
    let again = store.lead(led.leader.clone(), LONG).await.unwrap();
    assert_eq!((again.cluster, again.epoch), (led.cluster, led.epoch));
    assert!(store.get(jobs[0].job_id).await.unwrap().is_some());
    store.submit(jobs[1].clone(), None, None).await.unwrap();
    assert_eq!(store.inbox(led.epoch, 10).await.unwrap().len(), 2);

    // Others are heard of again.
    let other = Postgres::open(&url).await.unwrap();
    let heard = async {
        loop {
            other.submit(job(), None, None).await.unwrap();
            let begun = Instant::now();
            store.news(LONG).await;
            if begun.elapsed() < Duration::from_secs(1) {
                break;
            }
        }
    };
    timeout(Duration::from_secs(20), heard).await.expect("nothing is heard of others");
    server.stop();
}

/// It looks connected, and what it was asked waits in its sockets: it must be told of in time, and must
/// not happen after somebody has looked at what there is.
#[tokio::test]
async fn one_that_does_not_answer_is_told_of_and_does_nothing_later() {
    let server = Server::start();
    let url = server.database();
    let name = url.rsplit('/').next().unwrap().to_owned();
    let store = Postgres::open(&url).await.unwrap();
    let led = store.lead(candidate("me"), LONG).await.unwrap();
    for _ in 0..5 {
        store.submit(job(), None, Some(led.epoch)).await.unwrap();
    }
    for _ in 0..3 {
        server.freeze();
        let begun = Instant::now();
        let submits = (0..8).map(|_| store.submit(job(), None, Some(led.epoch)));
        let (submitted, renewed, probed) = tokio::join!(
            futures_util::future::join_all(submits),
            store.lead(led.leader.clone(), LONG),
            store.probe(),
        );
        assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
        for error in submitted.into_iter().map(Result::unwrap_err) {
            told(&error, &server, &name);
            assert!(error.to_string().contains("no answer within 5 seconds"), "{error}");
        }
        assert!(renewed.is_err() && probed.is_err());
        server.thaw();
        let there = store.unfinished(None, 100).await.unwrap();
        // Whoever had to wait has gone on long since.
        for _ in 0..20 {
            store.probe().await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let later = store.unfinished(None, 100).await.unwrap();
        assert_eq!(there.len(), later.len(), "jobs came after somebody had looked");
        assert_eq!(store.lead(led.leader.clone(), LONG).await.unwrap().epoch, led.epoch);
    }
}
