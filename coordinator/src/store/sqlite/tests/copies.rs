//! Copies that are made while a coordinator writes.

use std::os::unix::fs::PermissionsExt;

use tokio::task::spawn_blocking;

use super::{super::super::backup, *};

fn url(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

async fn copy(store: &Path, to: &Path) -> Result<Timestamp, StoreError> {
    let (url, to) = (url(store), to.to_owned());
    spawn_blocking(move || backup(&url, &to)).await.unwrap()
}

/// The names in a folder, and none else of them is left.
fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_has_all_that_was_answered_and_starts_paused_once() {
    let folder = Folder::new();
    let copies = Folder::new();
    let store = Arc::new(open(&folder));
    let original = lead(&store, "me", LONG).await.unwrap();
    let mut large = job();
    large.request.task.stdin.stdin = Some("x".repeat(4 << 20));
    store.submit(large.clone(), None, Some(original.epoch)).await.unwrap();
    let out = Claim { attempt: 1, execution_id: Uuid::nil(), runner: "a".into(), boot_id: None };
    store.claim(original.epoch, large.job_id, out).await.unwrap();

    // Writes all the while, and says what was answered.
    let (answered, heard) = tokio::sync::watch::channel(Vec::new());
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            while !answered.is_closed() {
                let job = job();
                let made = store.submit(job.clone(), None, None).await;
                assert_eq!(made.unwrap(), Submitted::New { taken: false });
                answered.send_modify(|ids| ids.push(job.job_id));
            }
        })
    };
    let enough = |count: usize| {
        let mut heard = heard.clone();
        async move { heard.wait_for(|ids| ids.len() >= count).await.unwrap().clone() }
    };
    let before = enough(50).await;
    let to = copies.0.join("copy.db");
    let begun = Timestamp::now();
    let at = copy(&folder.0.join("store.db"), &to).await.unwrap();
    assert!(begun <= at && at <= Timestamp::now());
    let after = enough(before.len() + 50).await;
    drop(heard);
    writer.await.unwrap();

    assert_eq!(names(&copies.0), ["copy.db"], "all of it is in one file");
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    let opened = Sqlite::open(&to, None).unwrap();
    for id in &before {
        assert!(opened.get(*id).await.unwrap().is_some(), "{id} was answered before");
    }
    assert_eq!(opened.get(large.job_id).await.unwrap(), store.get(large.job_id).await.unwrap());
    let there = opened.unfinished(None, 1_000_000).await.unwrap().jobs;
    assert!(there.iter().any(|found| found.claim.is_some()));
    assert!(there.len() <= after.len() + 100, "it has what was there at one moment");
    let paused = opened.orders().await.unwrap().paused.unwrap();
    assert!(paused.contains(&at.to_string()) && paused.contains("`cloister resume`"), "{paused}");
    let led = lead(&opened, "me", LONG).await.unwrap();
    assert_ne!(led.cluster, original.cluster);
    // A restart does not make it go on, and resuming is for good.
    drop(opened);
    let opened = Sqlite::open(&to, None).unwrap();
    assert_eq!(opened.orders().await.unwrap().paused, Some(paused));
    opened.order(Order::Pause(None)).await.unwrap();
    drop(opened);
    let opened = Sqlite::open(&to, None).unwrap();
    assert_eq!(opened.orders().await.unwrap(), Orders::default());
    assert_eq!(lead(&opened, "me", LONG).await.unwrap().cluster, led.cluster);

    // Nothing of that has come to the original.
    assert_eq!(store.orders().await.unwrap(), Orders::default());
    let again = lead(&store, "other", LONG).await.unwrap();
    assert_eq!((again.cluster, again.epoch), (original.cluster, original.epoch));
}

#[tokio::test]
async fn a_copy_takes_nobodys_place() {
    let folder = Folder::new();
    let path = folder.0.join("store.db");
    let store = open(&folder);
    let other = folder.0.join("other");
    fs::write(&other, "precious").unwrap();
    let refused = copy(&path, &other).await.unwrap_err().to_string();
    assert!(refused.contains("exists") && refused.contains("other"), "{refused}");
    assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
    for (from, to, why) in [
        ("none.db", "copy.db", "unable to open"),
        ("other", "copy.db", "not a database"),
        ("store.db", "nowhere/copy.db", "No such file"),
    ] {
        let refused = copy(&folder.0.join(from), &folder.0.join(to)).await.unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
    drop(store);
    assert_eq!(names(&folder.0), ["other", "store.db", "store.db.lock"], "nothing is left");

    let refused = backup("postgres://me:secret@db/jobs", &other).unwrap_err().to_string();
    assert!(refused.contains("pg_dump") && !refused.contains("secret"), "{refused}");
    let refused = backup("mysql://me:secret@db/jobs", &other).unwrap_err().to_string();
    assert!(refused.contains("not known") && !refused.contains("secret"), "{refused}");
}

/// None of them sees the file of another before it has its name.
#[tokio::test]
async fn of_copies_with_one_name_one_is_made() {
    let folder = Folder::new();
    let _store = open(&folder);
    let to = folder.0.join("copy.db");
    let path = folder.0.join("store.db");
    let made = join_all((0..4).map(|_| copy(&path, &to))).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1, "{made:?}");
}

#[tokio::test]
async fn a_damaged_store_makes_no_copy() {
    let folder = Folder::new();
    let path = folder.0.join("store.db");
    {
        let store = open(&folder);
        for _ in 0..200 {
            store.submit(job(), None, None).await.unwrap();
        }
    }
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8_192].fill(0xaa);
    fs::write(&path, bytes).unwrap();
    let refused = copy(&path, &folder.0.join("copy.db")).await.unwrap_err().to_string();
    assert!(refused.contains("malformed") || refused.contains("damaged"), "{refused}");
    assert!(!folder.0.join("copy.db").exists());
}
