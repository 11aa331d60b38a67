//! A disk that is full, or can only be read.

use std::io;

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::{Uid, geteuid, setfsuid},
};

use super::*;

#[tokio::test]
async fn a_full_disk_is_told_and_passes() {
    let folder = Folder::new();
    let store = open(&folder);
    store.submit(job(), None, None).await.unwrap();
    let limit = |db: &Connection, pages: i64| {
        db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, i64>(0))
    };
    store.writer.call(move |db| limit(db, 1)).await.unwrap();
    let mut large = job();
    large.request.task.env.insert("A".into(), "x".repeat(1 << 20));
    let full = store.submit(large.clone(), None, None).await.unwrap_err();
    assert!(full.to_string().contains("full"), "{full}");
    assert_eq!(store.get(large.job_id).await.unwrap(), None);
    store.writer.call(move |db| limit(db, 1 << 30)).await.unwrap();
    store.probe().await.unwrap();
    store.submit(large.clone(), None, None).await.unwrap();
    assert!(store.get(large.job_id).await.unwrap().is_some());
}

/// On a small disk of its own, that nobody else sees, and that goes with this thread.
fn on_a_small_disk(work: impl AsyncFnOnce(&Path) + Send + 'static) {
    let folder = Folder::new();
    let path = folder.0.clone();
    let thread = std::thread::spawn(move || {
        let none = None::<&str>;
        unshare(CloneFlags::CLONE_NEWNS).expect("the tests are root's");
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("cloister"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=4m")).unwrap();
        // Whatever threads it makes see that disk too.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(work(&path));
    });
    thread.join().unwrap();
}

#[test]
fn a_term_goes_on_while_the_disk_is_full() {
    on_a_small_disk(async |disk| {
        let store = Sqlite::open(&disk.join("store.db"), None).unwrap();
        let me = Candidate { id: Uuid::new_v4(), name: "me".into() };
        let first = store.lead(me.clone(), LONG).await.unwrap();
        let known = job();
        store.submit(known.clone(), None, Some(first.epoch)).await.unwrap();
        let filler = disk.join("filler");
        let full = fs::write(&filler, vec![0; 8 << 20]).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        // There is a little room left in what the database's files have already.
        let failed = loop {
            match store.submit(job(), None, Some(first.epoch)).await {
                Ok(_) => {}
                Err(error) => break error.to_string(),
            }
        };
        assert!(failed.contains("writing the store") && failed.contains("full"), "{failed}");
        assert!(store.probe().await.unwrap_err().to_string().contains("full"));
        for _ in 0..3 {
            assert_eq!(store.lead(me.clone(), LONG).await.unwrap(), first);
        }
        assert!(store.get(known.job_id).await.unwrap().is_some(), "what there is can be read");
        // A new term has to be written down.
        store.resign(first.epoch).await.unwrap();
        assert!(store.lead(me.clone(), LONG).await.is_err());
        fs::remove_file(filler).unwrap();
        store.probe().await.unwrap();
        let next = store.lead(me, LONG).await.unwrap();
        assert!(next.epoch > first.epoch);
        let waiting = store.unfinished(None, 10_000).await.unwrap().jobs.len();
        drop(store);
        let store = Sqlite::open(&disk.join("store.db"), None).unwrap();
        assert_eq!(store.unfinished(None, 10_000).await.unwrap().jobs.len(), waiting);
        store.submit(job(), None, None).await.unwrap();
    });
}

#[test]
fn a_disk_that_can_only_be_read_is_told_at_once() {
    on_a_small_disk(async |disk| {
        drop(Sqlite::open(&disk.join("store.db"), None).unwrap());
        let again = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, disk, None::<&str>, again, None::<&str>).unwrap();
        let refused = Sqlite::open(&disk.join("store.db"), None).err().unwrap().to_string();
        assert!(refused.contains("Read-only file system"), "{refused}");
        assert!(refused.contains("can be written"), "{refused}");
    });
}

/// As an ordinary user on this thread, also where the tests are root's, whom no permission binds.
fn as_nobody<T>(work: impl FnOnce() -> T) -> T {
    let me = geteuid();
    if !me.is_root() {
        return work();
    }
    setfsuid(Uid::from_raw(65_534));
    let result = work();
    setfsuid(me);
    result
}

#[test]
fn what_can_not_be_written_is_told_at_once() {
    let folder = Folder::new();
    let path = folder.0.join("store.db");
    drop(Sqlite::open(&path, None).unwrap());
    let refused = |path: &Path| {
        let error = as_nobody(|| Sqlite::open(path, None).err()).expect("it can't be opened");
        let text = error.to_string();
        assert!(matches!(error, StoreError::File { .. }), "{text}");
        assert!(text.contains(&path.display().to_string()), "{text}");
        assert!(text.contains("Permission denied") && text.contains("can be written"), "{text}");
    };
    let mode = |path: &Path, mode| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&folder.0, 0o555);
    mode(&path, 0o444);
    refused(&path);
    refused(&folder.0.join("other.db"));
    refused(&folder.0.join("new/other.db"));
    mode(&folder.0, 0o755);
    mode(&path, 0o600);
}
