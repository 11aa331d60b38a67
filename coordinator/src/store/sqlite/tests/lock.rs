//! One coordinator at a time, in the files that the next one will find.

use std::{
    fs::{File, TryLockError},
    os::unix::fs::MetadataExt,
};

use super::*;

fn beside(folder: &Folder) -> std::path::PathBuf {
    folder.0.join("store.db.lock")
}

fn in_use(folder: &Folder) {
    let refused = Sqlite::open(&folder.0.join("store.db"), None).err().expect("it is in use");
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
}

/// SQLite's own locks on the database, as the kernel tells.
fn locks_of_sqlite(folder: &Folder) -> usize {
    let inode = fs::metadata(folder.0.join("store.db")).unwrap().ino();
    let all = fs::read_to_string("/proc/locks").unwrap();
    let own = |line: &&str| line.contains("POSIX") && line.contains(&format!(":{inode} "));
    all.lines().filter(own).count()
}

#[test]
fn a_deleted_lock_file_lets_nobody_in() {
    let folder = Folder::new();
    let store = open(&folder);
    fs::remove_file(beside(&folder)).unwrap();
    let before = locks_of_sqlite(&folder);
    assert!(before > 0, "SQLite has locked its database");
    in_use(&folder);
    assert_eq!(locks_of_sqlite(&folder), before, "SQLite's locks ended with a descriptor of ours");
    drop(store);
    open(&folder);
}

/// Versions before lock only that one.
#[test]
fn the_lock_of_earlier_versions_is_respected_and_held() {
    let folder = Folder::new();
    let store = open(&folder);
    let other = File::open(beside(&folder)).unwrap();
    assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
    drop(store);
    other.try_lock().unwrap();
    in_use(&folder);
    other.unlock().unwrap();
    open(&folder);
}

#[tokio::test]
async fn nothing_is_acknowledged_that_is_in_a_replaced_file() {
    let folder = Folder::new();
    let away = folder.0.join("away");
    for name in ["store.db", "store.db-wal"] {
        let path = folder.0.join(name);
        let store = open(&folder);
        store.probe().await.unwrap();
        fs::rename(&path, &away).unwrap();
        for another in [false, true] {
            if another {
                fs::copy(&away, &path).unwrap();
            }
            let refused = store.submit(job(), None, None).await.unwrap_err();
            assert!(matches!(&refused, StoreError::Replaced { path: told } if *told == path));
            assert!(refused.to_string().contains("restart the coordinator"), "{refused}");
        }
        fs::rename(&away, &path).unwrap();
        store.probe().await.unwrap();
    }
}

/// A query that outlasts the store keeps the database locked until it ends.
#[tokio::test]
async fn the_lock_outlasts_every_connection() {
    let folder = Folder::new();
    let store = open(&folder);
    let (entered, is_held) = tokio::sync::oneshot::channel();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let ended = Arc::new(tokio::sync::Notify::new());
    let end = Arc::clone(&ended);
    let slow = store.readers.call(move |db| {
        entered.send(()).unwrap();
        wait.recv().unwrap();
        let count = db.query_row("SELECT count(*) FROM jobs", [], |row| row.get::<_, i64>(0));
        end.notify_one();
        count
    });
    let given_up = async {
        tokio::select! { _ = slow => false, _ = is_held => true }
    };
    assert!(given_up.await);
    drop(store);
    in_use(&folder);
    go.send(()).unwrap();
    ended.notified().await;
    // Its connection is closed a moment later, within the time that a start waits.
    open(&folder);
}
