//! A write-ahead log that is damaged, and one that only looks so.

use std::path::PathBuf;

use super::{super::super::backup, *};

const HEADER: usize = 32;
const FRAME: usize = 24 + 4096;
const JOBS: usize = 12;

/// What a coordinator left that was killed.
struct Left(Folder);

impl Left {
    /// With so many jobs, each of a commit of its own; then `more`.
    async fn by(more: impl AsyncFnOnce(&Sqlite)) -> Self {
        let (folder, left) = (Folder::new(), Folder::new());
        let store = open(&folder);
        for _ in 0..JOBS {
            store.submit(job(), None, None).await.unwrap();
        }
        more(&store).await;
        for ending in ["", "-wal", "-shm"] {
            let name = format!("store.db{ending}");
            fs::copy(folder.0.join(&name), left.0.join(&name)).unwrap();
        }
        Self(left)
    }

    async fn new() -> Self {
        Self::by(async |_| ()).await
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.0.0.join(format!("store.db{ending}"))
    }

    /// Where the frames of this log are that end a transaction.
    fn commits(&self) -> Vec<usize> {
        let log = fs::read(self.path("-wal")).unwrap();
        let frames = log[HEADER..].chunks_exact(FRAME).enumerate();
        let own = frames.filter(|(_, frame)| frame[8..16] == log[16..24] && frame[4..8] != [0; 4]);
        own.map(|(at, _)| HEADER + at * FRAME).collect()
    }

    fn flip(&self, at: usize) {
        let mut log = fs::read(self.path("-wal")).unwrap();
        log[at] ^= 0x10;
        fs::write(self.path("-wal"), log).unwrap();
    }

    fn without_index(&self) {
        fs::remove_file(self.path("-shm")).unwrap();
    }

    fn open(&self) -> Result<Sqlite, StoreError> {
        Sqlite::open(&self.path(""), None)
    }

    /// It is refused; answers by what it can be accepted.
    fn refused(&self) -> String {
        let refused = self.open().err().expect("the log is damaged");
        let StoreError::Damaged { id, .. } = &refused else { panic!("{refused}") };
        let text = refused.to_string();
        assert!(text.contains("would be lost") && text.contains("restore a backup"), "{text}");
        assert!(text.contains(&format!("--accept-damage {id}:")), "{text}");
        id.clone()
    }

    /// It is used, and has so many jobs.
    async fn has(&self, jobs: usize) {
        let store = self.open().unwrap_or_else(|refused| panic!("{refused}"));
        assert_eq!(store.unfinished(None, 1_000).await.unwrap().jobs.len(), jobs);
    }
}

#[tokio::test]
async fn damage_in_the_middle_is_refused_whatever_it_hits() {
    Left::new().await.has(JOBS).await;
    for indexed in [true, false] {
        let left = Left::new().await;
        if !indexed {
            left.without_index();
        }
        let all = left.commits();
        let commit = all[all.len() / 2];
        // Number, size, salt and checksum of a frame that ends a transaction; its page; that of the next.
        for at in [3, 7, 9, 18, 1_000, FRAME + 1_000] {
            left.flip(commit + at);
            left.refused();
            left.flip(commit + at);
        }
        // The magic number, the page's size, a salt, the checksum.
        for at in [2, 10, 17, 25] {
            left.flip(at);
            left.refused();
            left.flip(at);
        }
        left.has(JOBS).await;
    }
}

/// What was not synced when the power failed was not acknowledged. Unlike a process's, a machine's end
/// leaves no index of what is in memory.
#[tokio::test]
async fn a_torn_last_transaction_is_none() {
    let all = Left::new().await.commits();
    let [.., before, last] = all[..] else { panic!("{all:?}") };
    let first = before + FRAME;
    assert!(first < last, "it has several frames");
    for indexed in [false, true] {
        for tear in [first + 1_000, first + 9, last + 1_000, last + 9] {
            let left = Left::new().await;
            left.flip(tear);
            if indexed {
                // The commit was synced, or it would not be in there.
                left.refused();
            } else {
                left.without_index();
                left.has(JOBS - 1).await;
            }
        }
    }
    for length in [first, first + 100, last, last + FRAME - 1] {
        let left = Left::new().await;
        left.without_index();
        let log = fs::OpenOptions::new().write(true).open(left.path("-wal")).unwrap();
        log.set_len(length as u64).unwrap();
        left.has(JOBS - 1).await;
    }
}

#[tokio::test]
async fn frames_of_an_earlier_log_are_none() {
    for indexed in [true, false] {
        let left = Left::by(async |store| {
            let db = Connection::open(&store.path).unwrap();
            let restart = "PRAGMA wal_checkpoint(RESTART)";
            assert_eq!(db.query_row(restart, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
            store.submit(job(), None, None).await.unwrap();
        })
        .await;
        assert_eq!(left.commits().len(), 1);
        assert!(fs::metadata(left.path("-wal")).unwrap().len() > 20 * FRAME as u64);
        if !indexed {
            left.without_index();
        }
        left.has(JOBS + 1).await;
    }
}

/// It was larger than what is kept in memory, and so was in the log before it ended.
#[tokio::test]
async fn frames_of_a_transaction_that_was_rolled_back_are_none() {
    let tear = async |torn: bool| {
        let left = Left::by(async |store| {
            let fails = |db: &Connection| {
                db.execute("INSERT INTO labels VALUES ('n', hex(zeroblob(3000000)), x'00')", [])?;
                db.execute_batch("INSERT INTO nowhere VALUES (1)")
            };
            store.writer.call(fails).await.unwrap_err();
            store.submit(job(), None, None).await.unwrap();
        })
        .await;
        let last = *left.commits().last().unwrap();
        let length = fs::metadata(left.path("-wal")).unwrap().len();
        assert!(length > (last + 100 * FRAME) as u64, "it left no frames behind the last commit");
        left.without_index();
        if torn {
            left.flip(last - FRAME + 1_000);
        }
        left.has(JOBS + usize::from(!torn)).await;
    };
    tear(false).await;
    tear(true).await;
}

#[tokio::test]
async fn damage_that_is_accepted_is_kept_and_pauses() {
    let left = Left::new().await;
    let cluster = {
        let whole = Left(Folder::new());
        for ending in ["", "-wal", "-shm"] {
            fs::copy(left.path(ending), whole.path(ending)).unwrap();
        }
        lead(&whole.open().unwrap(), "me", LONG).await.unwrap().cluster
    };
    let all = left.commits();
    left.flip(all[all.len() - 4] + 1_000);
    let (damaged, id) = (fs::read(left.path("-wal")).unwrap(), left.refused());
    let copied = backup(&format!("sqlite:{}", left.path("").display()), &left.path(".copy"));
    assert!(matches!(copied, Err(StoreError::Damaged { .. })), "{copied:?}");
    let other = Sqlite::open(&left.path(""), Some("00000000")).err().unwrap();
    assert!(matches!(other, StoreError::Damaged { .. }), "{other}");

    let store = Sqlite::open(&left.path(""), Some(&id)).unwrap();
    assert_eq!(store.unfinished(None, 1_000).await.unwrap().jobs.len(), JOBS - 4);
    let paused = store.orders().await.unwrap().paused.expect("nothing is dispatched");
    assert!(paused.contains("damaged") && paused.contains("`cloister resume`"), "{paused}");
    assert_ne!(lead(&store, "me", LONG).await.unwrap().cluster, cluster);
    assert_eq!(fs::read(left.path(&format!("-wal.damaged-{id}"))).unwrap(), damaged);
    drop(store);
    left.has(JOBS - 4).await;
}
