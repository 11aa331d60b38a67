//! How long a store keeps jobs, and whom it lets open it.

use super::*;

#[tokio::test]
async fn ended_jobs_are_kept_for_a_time_and_a_number() {
    let folder = Folder::new();
    let store = open(&folder.url()).await.unwrap();
    let mut ids = Vec::new();
    for at in 0..300 {
        let job = job("a");
        ids.push(job.job_id);
        store.submit(job.clone(), Some(key(&at.to_string(), 1)), None).await.unwrap();
        store.finish(E, ended(job, 10_000 + at)).await.unwrap();
    }
    let waits = job("waits");
    store.submit(waits.clone(), None, None).await.unwrap();
    let keep =
        |seconds, number| Keep { time: Duration::from_secs(seconds), number, size: u64::MAX };

    let nothing = store.expire(E, keep(3_600, 300), Timestamp(20_000)).await.unwrap();
    assert_eq!(nothing, 0);
    let old = store.expire(E, keep(10, 300), Timestamp(20_010)).await.unwrap();
    assert_eq!(old, 10);
    assert_eq!(store.get(ids[9]).await.unwrap(), None);
    assert!(store.get(ids[10]).await.unwrap().is_some());
    let mut removed = Vec::new();
    loop {
        let count = store.expire(E, keep(3_600, 50), Timestamp(20_000)).await.unwrap();
        removed.push(count);
        if count == 0 {
            break;
        }
    }
    assert_eq!(removed, [200, 40, 0], "in batches");
    let (left, _) = list(&*store, Query { limit: 100, ..Query::default() }).await;
    assert_eq!(left.len(), 51);
    assert!(left.contains(&waits.job_id) && left.contains(&ids[299]));
    // The key went with its job, and is free again.
    let again = store.submit(job("b"), Some(key("0", 2)), None).await.unwrap();
    assert_eq!(again, Submitted::New { taken: false });
}

#[tokio::test]
async fn an_embedded_store_has_one_owner_and_a_known_schema() {
    let folder = Folder::new();
    let store = open(&folder.url()).await.unwrap();
    let taken = open(&folder.url()).await.err().unwrap();
    assert!(matches!(taken, StoreError::InUse { .. }), "{taken}");
    drop(store);

    let path = folder.0.join("new/store.db");
    let set = |sql: &str| {
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    };
    set("PRAGMA user_version = 99");
    let newer = open(&folder.url()).await.err().unwrap();
    assert!(matches!(newer, StoreError::Newer { found: 99, .. }), "{newer}");
    set("PRAGMA application_id = 1");
    let foreign = open(&folder.url()).await.err().unwrap();
    assert!(matches!(foreign, StoreError::Foreign { .. }), "{foreign}");

    for url in ["sqlite:", "postgres://x", "/path"] {
        let unknown = open(url).await.err().unwrap();
        assert!(matches!(unknown, StoreError::Url { .. }), "{unknown}");
    }
    std::fs::write(folder.0.join("text"), "this is not a database, but long enough").unwrap();
    let text = open(&format!("sqlite:{}", folder.0.join("text").display())).await;
    assert!(matches!(text.err().unwrap(), StoreError::Sqlite { .. }));
}
