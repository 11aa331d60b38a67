//! How fast old jobs are removed, and lists answered, where millions are kept. A measurement, that is run
//! by hand:
//!
//!     cargo test -p cloister-coordinator --lib scale -- --ignored --nocapture --test-threads 1
//!
//! `KEPT` in its environment is how many ended jobs there are at first.

use std::time::Instant;

use super::*;

const WANTED_REMOVALS: f64 = 2_000.0;
const WANTED_PAGE: Duration = Duration::from_millis(20);
const MEASURED: Duration = Duration::from_secs(10);

fn kept() -> usize {
    std::env::var("KEPT").map_or(3_000_000, |kept| kept.parse().expect("KEPT is a number"))
}

/// Fills the store as if so many jobs had ended, each of another millisecond.
fn fill(place: &Place, kept: usize) {
    let mut template = ended(job("true"), 2_000);
    template.job_id = Uuid::nil();
    template.attempts.clear();
    let record = serde_json::to_string(&template).unwrap();
    let record = record.replace('\'', "''");
    let nil = Uuid::nil();
    let size = record.len();
    let columns =
        "job_id, status, attempt, started_at, finished_at, size, ended_seq, stored_at, record";
    let sql = if place.shared {
        let id = "('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))";
        format!(
            "INSERT INTO jobs ({columns})
             SELECT {id}::uuid, 'completed', 1, n, n, {size}, n, n,
                 convert_to(replace('{record}', '{nil}', {id}), 'UTF8')
             FROM generate_series(1, {kept}) AS n;
             INSERT INTO outputs SELECT job_id, '{{}}' FROM jobs;
             SELECT setval('ends', {kept});
             ANALYZE"
        )
    } else {
        let id = "('01900000-0000-7000-8000-' || printf('%012x', n))";
        format!(
            "BEGIN;
             WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {kept})
             INSERT INTO jobs ({columns})
             SELECT unhex(replace({id}, '-', '')), 'completed', 1, n, n, {size}, n, n,
                 replace('{record}', '{nil}', {id}) FROM numbers;
             INSERT INTO outputs SELECT job_id, '{{}}' FROM jobs;
             COMMIT;"
        )
    };
    place.run(&sql);
    if place.shared {
        // As autovacuum leaves it.
        let name = place.url.rsplit('/').next().unwrap();
        Postgres::shared().admin(name, "VACUUM");
    }
}

async fn measure(place: Place) {
    let store = place.open().await;
    let (kept, begun) = (kept(), Instant::now());
    fill(&place, kept);
    println!("{kept} ended jobs, made in {:.0?}", begun.elapsed());
    let epoch = term(&*store).await;
    let query = Query { limit: 100, ..Query::default() };
    let mut times = Vec::new();
    let mut before = None;
    for _ in 0..200 {
        let begun = Instant::now();
        let page = store.list(Query { before, ..query.clone() }).await.unwrap();
        times.push(begun.elapsed());
        assert_eq!((page.jobs.len(), page.unreadable.len()), (100, 0));
        before = page.last;
    }
    times.sort();
    let page = times[times.len() / 2];
    println!("a page of 100 takes {page:.1?} (p50), {:.1?} (p99)", times[times.len() * 99 / 100]);

    let keep = |number| Keep { time: Duration::from_secs(1 << 40), number, size: u64::MAX };
    let begun = Instant::now();
    assert_eq!(store.expire(epoch, keep(kept), Timestamp(0)).await.unwrap(), 0);
    println!("the first look takes {:.1?}", begun.elapsed());
    let begun = Instant::now();
    assert_eq!(store.expire(epoch, keep(kept), Timestamp(0)).await.unwrap(), 0);
    println!("the next look takes {:.1?}", begun.elapsed());
    let (begun, mut removed) = (Instant::now(), 0_u32);
    while begun.elapsed() < MEASURED {
        let some = store.expire(epoch, keep(kept / 2), Timestamp(0)).await.unwrap();
        removed += u32::try_from(some).unwrap();
        if some == 0 {
            break;
        }
    }
    let rate = f64::from(removed) / begun.elapsed().as_secs_f64();
    println!("{removed} removed: {rate:.0} a second");
    assert!(page <= WANTED_PAGE, "{WANTED_PAGE:?} are wanted");
    assert!(rate >= WANTED_REMOVALS, "{WANTED_REMOVALS} are wanted");
}

#[tokio::test]
#[ignore = "a measurement of minutes"]
async fn on_sqlite() {
    measure(Place::sqlite()).await;
}

#[tokio::test]
#[ignore = "a measurement of minutes"]
async fn on_postgres() {
    measure(Place::postgres()).await;
}
