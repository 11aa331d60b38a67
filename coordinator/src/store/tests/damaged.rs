//! Records that cannot be read: each is left out and told of, and hides no other.

use super::*;

on_each_store! {
    one_unreadable_record_hides_no_other
    an_unreadable_record_is_told_of_where_it_is_asked_for
    a_page_of_unreadable_records_is_followed_by_the_next
    the_inbox_goes_on_behind_an_unreadable_record
    a_key_whose_digest_is_damaged_stays_taken
}

const GARBAGE: &[u8] = b"{\"job_id\": 7";
const NO_TEXT: &[u8] = b"\xff\xfe{}";

fn ids(unreadable: &[Unreadable]) -> Vec<Uuid> {
    unreadable.iter().map(|found| found.job).collect()
}

async fn one_unreadable_record_hides_no_other(place: Place) {
    let store = place.open().await;
    let epoch = term(&*store).await;
    let jobs: Vec<_> = (0..8).map(|_| job("a")).collect();
    for job in &jobs {
        store.submit(job.clone(), None, Some(epoch)).await.unwrap();
    }
    let [garbage, no_text, number, other, good, over, bad_over, bad_output] = &jobs[..] else {
        unreachable!("they are eight")
    };
    for job in [over, bad_over, bad_output] {
        store.finish(epoch, ended(job.clone(), 2_000), Timestamp(2_000)).await.unwrap();
    }
    place.set(garbage.job_id, "jobs", "record", GARBAGE);
    place.set(no_text.job_id, "jobs", "record", NO_TEXT);
    place.run(&format!("UPDATE jobs SET attempt = -1 WHERE job_id = {}", place.id(number.job_id)));
    let of_another = serde_json::to_vec(&job("b")).unwrap();
    place.set(other.job_id, "jobs", "record", &of_another);
    place.set(bad_over.job_id, "jobs", "record", GARBAGE);
    place.run(&format!("DELETE FROM printed WHERE job_id = {}", place.id(bad_output.job_id)));

    let backlog = store.unfinished(None, 100).await.unwrap();
    assert_eq!(backlog.jobs.len(), 1);
    assert_eq!(backlog.jobs[0].job, *good);
    let bad = [garbage, no_text, number, other].map(|job| job.job_id);
    assert_eq!(ids(&backlog.unreadable), bad);
    assert_eq!(backlog.last, Some(good.job_id));
    for (found, why) in backlog.unreadable.iter().zip(["record: ", "utf-8", "", "one of job"]) {
        assert!(!found.why.is_empty() && found.why.contains(why), "{found:?}");
    }

    let page = store.list(Query { limit: 100, ..Query::default() }).await.unwrap();
    let listed: Vec<_> = page.jobs.iter().map(|job| job.job_id).collect();
    // A list shows no outputs.
    assert_eq!(listed, [bad_output.job_id, over.job_id, good.job_id]);
    let bad = [bad_over, other, number, no_text, garbage].map(|job| job.job_id);
    assert_eq!(ids(&page.unreadable), bad);

    // They are kept as they are: whoever repairs one has it back.
    let repaired = serde_json::to_vec(garbage).unwrap();
    place.set(garbage.job_id, "jobs", "record", &repaired);
    assert_eq!(store.get(garbage.job_id).await.unwrap().as_ref(), Some(garbage));
}

async fn an_unreadable_record_is_told_of_where_it_is_asked_for(place: Place) {
    let store = place.open().await;
    let epoch = term(&*store).await;
    let [waits, reads, over] = [(); 3].map(|()| {
        let mut job = job("cat");
        job.request.task.stdin.stdin = Some("in".into());
        job
    });
    for job in [&waits, &reads, &over] {
        store.submit(job.clone(), None, Some(epoch)).await.unwrap();
    }
    store.finish(epoch, ended(over.clone(), 2_000), Timestamp(2_000)).await.unwrap();
    place.set(waits.job_id, "jobs", "record", GARBAGE);
    place.set(reads.job_id, "inputs", "stdin", NO_TEXT);
    place.run(&format!("DELETE FROM printed WHERE job_id = {}", place.id(over.job_id)));
    for id in [&waits, &reads, &over].map(|job| job.job_id) {
        let error = store.get(id).await.unwrap_err();
        assert!(matches!(&error, StoreError::Record { job, .. } if *job == id), "{error:?}");
        assert!(error.to_string().contains(&id.to_string()), "{error}");
    }
    for id in [&waits, &reads].map(|job| job.job_id) {
        let error = store.claim(epoch, id, claim(1)).await.unwrap_err();
        assert!(matches!(&error, StoreError::Record { job, .. } if *job == id), "{error:?}");
    }
}

async fn a_page_of_unreadable_records_is_followed_by_the_next(place: Place) {
    let store = place.open().await;
    let jobs: Vec<_> = (0..5).map(|_| job("a")).collect();
    for job in &jobs {
        submit(&*store, job).await;
    }
    for job in &jobs[1..4] {
        place.set(job.job_id, "jobs", "record", GARBAGE);
    }
    let (mut after, mut good, mut bad) = (None, Vec::new(), Vec::new());
    loop {
        let backlog = store.unfinished(after, 2).await.unwrap();
        good.extend(backlog.jobs.iter().map(|found| found.job.job_id));
        bad.extend(ids(&backlog.unreadable));
        let Some(last) = backlog.last else { break };
        after = Some(last);
    }
    assert_eq!(good, [jobs[0].job_id, jobs[4].job_id]);
    assert_eq!(bad, [1, 2, 3].map(|at: usize| jobs[at].job_id));

    let (mut before, mut seen) = (None, 0);
    loop {
        let page = store.list(Query { before, limit: 2, ..Query::default() }).await.unwrap();
        seen += page.jobs.len() + page.unreadable.len();
        before = page.last;
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, 5);
}

async fn the_inbox_goes_on_behind_an_unreadable_record(place: Place) {
    let store = place.open().await;
    let epoch = term(&*store).await;
    let (bad, good) = (job("a"), job("b"));
    submit(&*store, &bad).await;
    submit(&*store, &good).await;
    place.set(bad.job_id, "jobs", "record", GARBAGE);
    let found = store.inbox(epoch, 10).await.unwrap();
    assert_eq!(found.len(), 2);
    assert!(matches!(&found[0], Message::Unreadable(found) if found.job == bad.job_id));
    assert!(matches!(&found[1], Message::Submitted(found) if found.job == good));
    assert!(store.inbox(epoch, 10).await.unwrap().is_empty(), "each is told of once");
}

async fn a_key_whose_digest_is_damaged_stays_taken(place: Place) {
    let store = place.open().await;
    store.submit(job("a"), Some(key("k", 1)), None).await.unwrap();
    let blob = if place.shared { "'\\x01'" } else { "x'01'" };
    place.run(&format!("UPDATE keys SET digest = {blob}"));
    let again = store.submit(job("a"), Some(key("k", 1)), None).await.unwrap();
    assert_eq!(again, Submitted::Other, "what it made may have run");
    let again = store.submit_all(vec![job("a"), job("b")], Some(key("k", 1)), None).await.unwrap();
    assert_eq!(again, Submitted::Other);
}
