//! A dump that was restored.

use super::*;

#[tokio::test]
async fn a_restored_dump_is_another_cluster_and_starts_paused_once() {
    let server = Server::shared();
    let url = server.database();
    let store = Postgres::open(&url, None).await.unwrap();
    let original = store.lead(candidate("me"), LONG).await.unwrap();
    let (known, told) = (job(), job());
    store.submit(known.clone(), None, Some(original.epoch)).await.unwrap();
    store.claim(original.epoch, known.job_id, claim()).await.unwrap();
    store.submit(told.clone(), None, None).await.unwrap();
    store.order(Order::DrainRunner { runner: "a".into(), drained: true }).await.unwrap();
    assert_eq!(store.orders().await.unwrap().paused, None);

    let name = url.rsplit('/').next().unwrap();
    let copied = format!("{name}_restored");
    let file = server.folder().join(format!("{name}.sql")).display().to_string();
    server.client("pg_dump", &["--file", &file, name]);
    let user = name.replace("jobs", "user");
    server.admin("postgres", &format!("CREATE DATABASE {copied} OWNER {user}"));
    server.client("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &file, &copied]);

    let copied = server.url(&user, &copied);
    let restored = Postgres::open(&copied, None).await.unwrap();
    let orders = restored.orders().await.unwrap();
    let paused = orders.paused.unwrap();
    assert!(paused.contains("copied") && paused.contains("`cloister resume`"), "{paused}");
    assert_eq!(orders.drained, ["a"]);
    // Its leader is not there.
    let led = timeout(LONG, restored.lead(candidate("new"), LONG)).await.unwrap().unwrap();
    assert_eq!(led.leader.name, "new");
    assert_ne!(led.cluster, original.cluster);
    assert!(led.epoch > original.epoch);
    assert_eq!(led.others, 0);
    let found = restored.unfinished(None, 10).await.unwrap().jobs;
    let ids: Vec<_> = found.iter().map(|found| found.job.job_id).collect();
    assert_eq!(ids, [known.job_id, told.job_id]);
    // A restart does not make it go on, and resuming is for good.
    drop(restored);
    let restored = Postgres::open(&copied, None).await.unwrap();
    assert_eq!(restored.orders().await.unwrap().paused, Some(paused));
    restored.order(Order::Pause(None)).await.unwrap();
    drop(restored);
    let restored = Postgres::open(&copied, None).await.unwrap();
    assert_eq!(restored.orders().await.unwrap().paused, None);
    assert_eq!(restored.lead(candidate("x"), LONG).await.unwrap().cluster, led.cluster);

    assert_eq!(store.orders().await.unwrap().paused, None);
    let again = Postgres::open(&url, None).await.unwrap();
    assert_eq!(again.orders().await.unwrap().paused, None);
    assert_eq!(again.lead(candidate("x"), LONG).await.unwrap().cluster, original.cluster);
}

/// The same server's number for the database tells too where the server's own may not be asked for.
#[tokio::test]
async fn a_copy_is_recognised_without_the_servers_own_number() {
    let server = Server::shared();
    let url = server.database();
    let name = url.rsplit('/').next().unwrap();
    let forbid = "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_control_system() FROM PUBLIC";
    server.admin(name, forbid);
    drop(Postgres::open(&url, None).await.unwrap());
    drop(Postgres::open(&url, None).await.unwrap());
    let copied = format!("{name}_copy");
    // The server copies what nobody uses, and hears of closed connections a little later.
    let users = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'");
    while server.admin("postgres", &users) != "0" {
        tokio::task::yield_now().await;
    }
    server.admin("postgres", &format!("CREATE DATABASE {copied} TEMPLATE {name}"));
    let user = name.replace("jobs", "user");
    server.admin(&copied, &format!("ALTER DATABASE {copied} OWNER TO {user}"));
    let copy = Postgres::open(&server.url(&user, &copied), None).await.unwrap();
    assert!(copy.orders().await.unwrap().paused.is_some());
    let original = Postgres::open(&url, None).await.unwrap();
    assert_eq!(original.orders().await.unwrap().paused, None);
    let allow = "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO PUBLIC";
    server.admin(name, allow);
    let original = Postgres::open(&url, None).await.unwrap();
    assert_eq!(
        original.orders().await.unwrap().paused,
        None,
        "what is newly known is no difference"
    );
}
