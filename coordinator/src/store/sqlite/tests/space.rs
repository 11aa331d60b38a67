//! What the file takes of the disk.

use std::sync::atomic::AtomicBool;

use cloister_api::{Outcome, Status};

use super::{super::space, *};

const MIB: usize = 1 << 20;

/// Fills a store with jobs that have ended.
async fn fill(store: &Sqlite, epoch: Epoch, mib: usize) {
    for _ in 0..mib {
        let mut job = job();
        job.request.task.stdin.stdin = Some("x".repeat(MIB));
        store.submit(job.clone(), None, Some(epoch)).await.unwrap();
        job.finish(Outcome::never_ran(Status::Cancelled, None, "over"));
        store.finish(epoch, job, Timestamp::now()).await.unwrap();
    }
}

fn size(folder: &Folder) -> usize {
    fs::metadata(folder.0.join("store.db")).unwrap().len().try_into().unwrap()
}

async fn pages(store: &Sqlite) -> i64 {
    let count = |db: &Connection| db.query_row("PRAGMA page_count", [], |row| row.get(0));
    store.readers.call(count).await.unwrap()
}

const NOTHING: Keep = Keep { time: LONG, number: 0, size: 0 };

#[tokio::test]
async fn the_file_shrinks_in_small_steps_that_hold_up_nobody() {
    let folder = Folder::new();
    let store = open(&folder);
    let epoch = lead(&store, "me", LONG).await.unwrap().epoch;
    fill(&store, epoch, 24).await;
    let now = Timestamp::now();
    assert_eq!(store.expire(epoch, NOTHING, now).await.unwrap(), 24);
    let full = pages(&store).await;
    store.writer.call(|db| space::give_back(db, space::STEP)).await.unwrap();
    assert_eq!(pages(&store).await, full - space::STEP);

    // Who writes meanwhile is answered before it is over.
    let over = AtomicBool::new(false);
    let shrinking = async {
        assert_eq!(store.expire(epoch, NOTHING, now).await.unwrap(), 0);
        over.store(true, Ordering::Relaxed);
    };
    let writing = async {
        store.submit(job(), None, Some(epoch)).await.unwrap();
        assert!(!over.load(Ordering::Relaxed), "it waited for all of it");
    };
    tokio::join!(shrinking, writing);
    let spare = space::SPARE / 4096;
    let left = pages(&store).await;
    assert!((spare..spare + space::STEP).contains(&left), "{left} pages are left of {full}");
    drop(store);
    assert!(size(&folder) < 17 * MIB, "{}", size(&folder));
    let db = Connection::open(folder.0.join("store.db")).unwrap();
    let check = db.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
    assert_eq!(check.unwrap(), "ok");
}

#[tokio::test]
async fn a_file_that_could_not_shrink_is_rewritten_if_that_is_cheap() {
    let folder = Folder::new();
    let path = folder.0.join("store.db");
    let kept = {
        let store = open(&folder);
        let kept = job();
        store.submit(kept.clone(), None, None).await.unwrap();
        kept
    };
    let mode = |db: &Connection| db.query_row("PRAGMA auto_vacuum", [], |row| row.get::<_, i64>(0));
    {
        let db = Connection::open(&path).unwrap();
        // As versions before made it.
        db.pragma_update(None, "auto_vacuum", 0).unwrap();
        db.execute_batch("VACUUM").unwrap();
        assert_eq!(mode(&db).unwrap(), 0);
        // Too much is in use: it stays as it is, and nothing of it is given back.
        space::convert(&db, &path, 4096);
        assert_eq!((mode(&db).unwrap(), space::excess(&db).unwrap()), (0, 0));
        // What is copied from it can shrink, however large it is.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let source = Connection::open_with_flags(&path, flags).unwrap();
        space::set_mode(&source).unwrap();
        let copy = folder.0.join("copy.db");
        source.execute("VACUUM INTO ?", [copy.to_str().unwrap()]).unwrap();
        assert_eq!(mode(&Connection::open(copy).unwrap()).unwrap(), 2);
    }
    let store = open(&folder);
    assert_eq!(store.readers.call(mode).await.unwrap(), 2);
    assert_eq!(store.get(kept.job_id).await.unwrap(), Some(kept));
}
