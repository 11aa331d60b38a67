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
        let error = Postgres::open(&url, None).await.err().unwrap();
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
    let store = Postgres::open(&url, None).await.unwrap();
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
    let other = Postgres::open(&url, None).await.unwrap();
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

/// It looks connected, and does not answer.
#[tokio::test]
async fn one_that_does_not_answer_is_told_of_in_time() {
    let server = Server::start();
    let url = server.database();
    let name = url.rsplit('/').next().unwrap().to_owned();
    let store = Postgres::open(&url, None).await.unwrap();
    let led = store.lead(candidate("me"), LONG).await.unwrap();
    store.submit(job(), None, Some(led.epoch)).await.unwrap();
    server.freeze();
    let begun = Instant::now();
    let (submitted, looked, renewed, probed, opened) = tokio::join!(
        store.submit(job(), None, Some(led.epoch)),
        store.get(Uuid::nil()),
        store.lead(led.leader.clone(), LONG),
        store.probe(),
        Postgres::open(&url, None),
    );
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
    let errors = [
        submitted.unwrap_err(),
        looked.unwrap_err(),
        renewed.unwrap_err(),
        probed.unwrap_err(),
        opened.err().unwrap(),
    ];
    for error in errors {
        told(&error, &server, &name);
        assert!(error.to_string().contains("no answer within 5 seconds"), "{error}");
    }
    server.thaw();
    store.probe().await.unwrap();
    assert_eq!(store.lead(led.leader.clone(), LONG).await.unwrap().epoch, led.epoch);
}

/// What has no answer is still in the server's sockets, and it would do it when it goes on: not after
/// somebody has looked at what there is.
#[tokio::test]
async fn what_was_given_up_does_not_happen_after_somebody_looked() {
    let server = Server::start();
    let url = server.database();
    let name = url.rsplit('/').next().unwrap().to_owned();
    let store = Arc::new(Postgres::open(&url, None).await.unwrap());
    let submit = || store.submit(job(), None, None);
    let all = || futures_util::future::join_all((0..4).map(|_| submit()));
    // Which makes as many connections.
    assert!(all().await.iter().all(Result::is_ok));
    assert!(server.freeze_connections(&name) >= 4);
    for error in all().await.into_iter().map(Result::unwrap_err) {
        assert!(error.to_string().contains("no answer"), "{error}");
    }
    let look = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.unfinished(None, 100).await })
    };
    // It waits for their end, or has been and gone.
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.thaw();
    let there = look.await.unwrap().unwrap().jobs.len();
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND state <> 'idle'"
    );
    let done = async {
        while server.admin("postgres", &sql) != "0" {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), done).await.unwrap();
    let later = store.unfinished(None, 100).await.unwrap().jobs.len();
    assert_eq!(there, later, "jobs came after somebody had looked");
}

/// A fail-over to a standby that had not heard of the last terms, as asynchronous replication allows.
#[tokio::test]
async fn no_term_is_given_twice_after_a_fail_over_that_loses_commits() {
    let mut server = Server::start();
    let url = server.database();
    let [first, second, third] = ["first", "second", "third"].map(candidate);
    let old = {
        let store = Postgres::open(&url, None).await.unwrap();
        store.lead(first.clone(), LONG).await.unwrap()
    };
    server.stop();
    let (data, standby) = (server.folder().join("data"), server.folder().join("standby"));
    let copied = std::process::Command::new("cp").arg("-a").args([&data, &standby]).status();
    assert!(copied.unwrap().success());
    server.start_again();
    let lost = {
        let store = Postgres::open(&url, None).await.unwrap();
        store.resign(old.epoch).await.unwrap();
        store.lead(second.clone(), LONG).await.unwrap()
    };
    assert_eq!(lost.epoch.0, old.epoch.0 + 1);
    server.stop();

    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&standby, &data).unwrap();
    // Which ends its recovery on a timeline of its own, as a promotion does.
    std::fs::write(data.join("recovery.signal"), "").unwrap();
    let settings = data.join("postgresql.auto.conf");
    std::fs::write(settings, "restore_command = 'false'\n").unwrap();
    server.start_again();
    let writable = async {
        while server.admin("postgres", "SELECT pg_is_in_recovery()") != "f" {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), writable).await.unwrap();
    let store = Postgres::open(&url, None).await.unwrap();
    // The one whose lease the standby knows goes on in no old term; nor does it hold up another one.
    let led = store.lead(third.clone(), LONG).await.unwrap();
    assert_eq!((led.cluster, &led.leader), (old.cluster, &third));
    assert!(led.epoch > lost.epoch, "{:?} after {:?}", led.epoch, lost.epoch);
    let told = store.lead(first, LONG).await.unwrap();
    assert_eq!((told.epoch, told.leader), (led.epoch, third.clone()));
    assert_eq!(store.lead(third, LONG).await.unwrap().epoch, led.epoch, "it renews");
    server.stop();
}
