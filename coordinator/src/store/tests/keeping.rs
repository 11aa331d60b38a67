//! How long a store keeps jobs, and whom it lets open it.

use super::*;

on_each_store! {
    how_much_waits_is_known_to_the_byte
    ended_jobs_are_kept_for_a_time_and_a_number
    ended_jobs_are_kept_up_to_a_size
    a_runners_clock_makes_no_job_old
    ended_jobs_go_in_the_order_of_their_ends
    the_clock_is_remembered_and_fenced
}

async fn ended_jobs_are_kept_for_a_time_and_a_number(place: Place) {
    let store = place.open().await;
    let epoch = term(&*store).await;
    let mut ids = Vec::new();
    for at in 0..300 {
        let mut job = job("a");
        job.request.labels.insert("k".into(), "v".into());
        job.request.task.stdin.stdin = Some("in".into());
        ids.push(job.job_id);
        store.submit(job.clone(), Some(key(&at.to_string(), 1)), Some(epoch)).await.unwrap();
        store.finish(epoch, ended(job, 10_000 + at), Timestamp(10_000 + at)).await.unwrap();
    }
    let waits = job("waits");
    submit(&*store, &waits).await;
    let keep =
        |seconds, number| Keep { time: Duration::from_secs(seconds), number, size: u64::MAX };

    let nothing = store.expire(epoch, keep(3_600, 300), Timestamp(20_000)).await.unwrap();
    assert_eq!(nothing, 0);
    let old = store.expire(epoch, keep(10, 300), Timestamp(20_010)).await.unwrap();
    assert_eq!(old, 10);
    assert_eq!(store.get(ids[9]).await.unwrap(), None);
    assert!(store.get(ids[10]).await.unwrap().is_some());
    let mut removed = Vec::new();
    loop {
        let count = store.expire(epoch, keep(3_600, 50), Timestamp(20_000)).await.unwrap();
        removed.push(count);
        if count == 0 {
            break;
        }
    }
    assert_eq!(removed, [200, 40, 0], "in batches");
    let query = || Query { limit: 100, ..Query::default() };
    let (left, _) = list(&*store, query()).await;
    assert_eq!(left.len(), 51);
    assert!(left.contains(&waits.job_id) && left.contains(&ids[299]) && left.contains(&ids[250]));
    let labels = vec![("k".to_owned(), "v".to_owned())];
    assert_eq!(list(&*store, Query { labels, ..query() }).await.0.len(), 50);
    // The key went with its job, and is free again.
    let again = store.submit(job("b"), Some(key("0", 2)), None).await.unwrap();
    assert_eq!(again, Submitted::New { taken: false });
    let kept = store.submit(job("b"), Some(key("299", 1)), None).await.unwrap();
    assert_eq!(kept, Submitted::Same(ids[299]));
}

async fn how_much_waits_is_known_to_the_byte(place: Place) {
    let store = place.open().await;
    let epoch = term(&*store).await;
    let mut job = job("a \u{1F980}");
    job.request.labels.insert("k".into(), "v".into());
    job.request.task.stdin.stdin = Some("in\n\"\u{7}".repeat(1_000));
    let before = job.clone();
    let size = size_of(&mut job).unwrap();
    assert_eq!(job, before, "it is looked at only");
    assert!(size > 8_000, "{size}");
    submit(&*store, &job).await;
    let other = self::job("b");
    store.submit_all(vec![other.clone()], None, Some(epoch)).await.unwrap();
    let other = size_of(&mut other.clone()).unwrap();
    let waiting = async || {
        let figures = store.figures().await.unwrap();
        (figures.pending, figures.pending_size)
    };
    assert_eq!(waiting().await, (2, size + other));
    let sizes = async || -> Vec<u64> {
        let found = store.unfinished(None, 10).await.unwrap();
        found.jobs.iter().map(|found| found.size).collect()
    };
    assert_eq!(sizes().await, [size, other]);

    // A runner has it: it does not wait. Then it waits again, with what the attempt printed.
    store.claim(epoch, job.job_id, claim(1)).await.unwrap();
    assert_eq!(waiting().await, (1, other));
    let mut second = job.clone();
    second.attempt = 2;
    let mut outcome = Outcome::never_ran(Status::Failed, Some(Reason::RunnerLost), "gone");
    outcome.stdout = Some("o".repeat(10_000));
    second.attempts.push(cloister_api::Past { attempt: 1, runner: None, outcome });
    let retried = store.retry(epoch, second.clone(), Timestamp(0)).await.unwrap().unwrap();
    assert!(retried > size + 10_000, "{retried}");
    assert_eq!(waiting().await, (2, retried + other));
    assert_eq!(sizes().await, [retried, other]);
    assert_eq!(store.retry(epoch, second.clone(), Timestamp(0)).await.unwrap(), None);
    store.finish(epoch, ended(second, 10_000), Timestamp(10_000)).await.unwrap();
    assert_eq!(waiting().await, (1, other));
}

/// What they read counts, and what they print, in each attempt.
async fn ended_jobs_are_kept_up_to_a_size(place: Place) {
    const MIB: usize = 1 << 20;
    let store = place.open().await;
    let epoch = term(&*store).await;
    let keep = |size| Keep { time: Duration::from_secs(3_600), number: 100, size };
    let now = Timestamp(20_000);
    let mut ids = Vec::new();
    for at in 0..4 {
        let mut job = job("a");
        ids.push(job.job_id);
        job.request.task.stdin.stdin = Some("i".repeat(MIB));
        submit(&*store, &job).await;
        store.claim(epoch, job.job_id, claim(1)).await.unwrap();
        let mut second = job.clone();
        second.attempt = 2;
        let mut outcome = Outcome::never_ran(Status::Failed, Some(Reason::RunnerLost), "gone");
        outcome.stdout = Some("o".repeat(MIB));
        second.attempts.push(cloister_api::Past { attempt: 1, runner: None, outcome });
        store.retry(epoch, second.clone(), Timestamp(0)).await.unwrap();
        if at < 3 {
            let mut over = ended(second, 10_000 + at);
            over.stderr = Some("e".repeat(MIB));
            store.finish(epoch, over, Timestamp(10_000 + at)).await.unwrap();
        }
    }
    // Each is three MiB and little more.
    let mib = |count: u64| count << 20;
    assert_eq!(store.expire(epoch, keep(mib(10)), now).await.unwrap(), 0);
    assert_eq!(store.expire(epoch, keep(mib(9)), now).await.unwrap(), 1);
    assert_eq!(store.get(ids[0]).await.unwrap(), None);
    assert_eq!(store.expire(epoch, keep(mib(6) + 8_192), now).await.unwrap(), 0);
    assert_eq!(store.expire(epoch, keep(mib(6)), now).await.unwrap(), 1);
    assert!(store.get(ids[2]).await.unwrap().is_some());
    assert_eq!(store.expire(epoch, keep(0), now).await.unwrap(), 1);
    // What has not ended is kept whatever it takes.
    assert!(store.get(ids[3]).await.unwrap().is_some());
}

/// A runner that is eight days behind, and one as much ahead.
async fn a_runners_clock_makes_no_job_old(place: Place) {
    const DAY: i64 = 86_400_000;
    let store = place.open().await;
    let epoch = term(&*store).await;
    let now = Timestamp(1_000 * DAY);
    let keep = Keep { time: Duration::from_secs(7 * 86_400), number: 100, size: u64::MAX };
    let mut ids = Vec::new();
    for at in [-8_i64, 8] {
        let job = job("a");
        ids.push(job.job_id);
        let key = key(&at.to_string(), 1);
        store.submit(job.clone(), Some(key), Some(epoch)).await.unwrap();
        store.finish(epoch, ended(job, now.0 + at * DAY), now).await.unwrap();
    }
    let later = |days: i64| Timestamp(now.0 + days * DAY);
    for passed in [0, 6] {
        assert_eq!(store.expire(epoch, keep, later(passed)).await.unwrap(), 0);
    }
    let again = store.submit(job("a"), Some(key("-8", 1)), Some(epoch)).await.unwrap();
    assert_eq!(again, Submitted::Same(ids[0]), "it would run twice");
    assert_eq!(store.expire(epoch, keep, later(8)).await.unwrap(), 2);
}

/// Also where the clock was set back meanwhile.
async fn ended_jobs_go_in_the_order_of_their_ends(place: Place) {
    let store = place.open().await;
    let epoch = term(&*store).await;
    let keep = |number| Keep { time: Duration::from_secs(3_600), number, size: u64::MAX };
    // Submitted in another order than they end in.
    let mut jobs: Vec<_> = (0..4).map(|_| job("a")).collect();
    jobs.reverse();
    for (at, job) in jobs.iter().enumerate() {
        submit(&*store, job).await;
        let at = 10_000 - i64::try_from(at).unwrap();
        store.finish(epoch, ended(job.clone(), at), Timestamp(at)).await.unwrap();
    }
    for left in [3, 2, 1] {
        assert_eq!(store.expire(epoch, keep(left), Timestamp(10_000)).await.unwrap(), 1);
        let (ids, _) = list(&*store, Query { limit: 100, ..Query::default() }).await;
        assert_eq!(ids.len(), left);
        assert!(jobs[4 - left..].iter().all(|job| ids.contains(&job.job_id)), "{ids:?}");
    }
    // The next one is the last still, though nothing is left to compare it with.
    assert_eq!(store.expire(epoch, keep(0), Timestamp(10_000)).await.unwrap(), 1);
    for _ in 0..2 {
        let job = job("a");
        submit(&*store, &job).await;
        store.finish(epoch, ended(job, 1), Timestamp(9_000)).await.unwrap();
    }
    assert_eq!(store.expire(epoch, keep(1), Timestamp(10_000)).await.unwrap(), 1);
}

async fn the_clock_is_remembered_and_fenced(place: Place) {
    let clock = StoreClock { seen_at: Some(Timestamp(5)), ahead: 6, until: Timestamp(7) };
    {
        let store = place.open().await;
        assert_eq!(store.clock().await.unwrap(), StoreClock::default());
        let epoch = term(&*store).await;
        store.set_clock(epoch, clock).await.unwrap();
        let next = next_term(&*store, epoch).await;
        let stale = store.set_clock(epoch, StoreClock::default()).await;
        assert!(matches!(stale, Err(StoreError::Stale { .. })), "{stale:?}");
        store.set_clock(next, clock).await.unwrap();
    }
    let store = place.open().await;
    assert_eq!(store.clock().await.unwrap(), clock);
    store.order(Order::TrustClock).await.unwrap();
    assert_eq!(store.clock().await.unwrap(), StoreClock { ahead: 0, ..clock });
    assert_eq!(store.orders().await.unwrap(), Orders::default(), "it is no order that stays");
}

#[tokio::test]
async fn an_embedded_store_has_one_owner_and_a_known_schema() {
    let folder = Folder::new();
    let store = open(&folder.url(), None, None).await.unwrap();
    let taken = open(&folder.url(), None, None).await.err().unwrap();
    assert!(matches!(taken, StoreError::InUse { .. }), "{taken}");
    drop(store);

    let path = folder.0.join("new/store.db");
    let set = |sql: &str| {
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    };
    set("PRAGMA user_version = 99");
    let newer = open(&folder.url(), None, None).await.err().unwrap();
    assert!(matches!(newer, StoreError::Newer { found: 99, .. }), "{newer}");
    set("PRAGMA application_id = 1");
    let foreign = open(&folder.url(), None, None).await.err().unwrap();
    assert!(matches!(foreign, StoreError::Foreign { .. }), "{foreign}");

    for url in ["sqlite:", "mysql://x", "/path"] {
        let unknown = open(url, None, None).await.err().unwrap();
        assert!(matches!(unknown, StoreError::Url { .. }), "{unknown}");
    }
    std::fs::write(folder.0.join("text"), "this is not a database, but long enough").unwrap();
    let text = open(&format!("sqlite:{}", folder.0.join("text").display()), None, None).await;
    assert!(matches!(text.err().unwrap(), StoreError::Sqlite { .. }));
}
