//! Jobs that go in together.

use cloister_api::Stdin;
use futures_util::future::join_all;

use super::*;

on_each_store! {
    all_come_back_as_they_went_in_also_after_a_restart
    a_leader_has_them_and_others_tell_it
    all_go_in_or_none
    a_key_makes_them_together
    a_key_makes_them_once_also_from_two_coordinators_at_once
    a_key_is_known_as_long_as_one_of_its_jobs
}

fn jobs(count: usize) -> Vec<Job> {
    (0..count).map(|at| job(&at.to_string())).collect()
}

fn ids(jobs: &[Job]) -> Vec<Uuid> {
    jobs.iter().map(|job| job.job_id).collect()
}

async fn all_come_back_as_they_went_in_also_after_a_restart(place: Place) {
    let mut sent = jobs(1000);
    sent[1].request.task.stdin = Stdin { stdin: Some("in\0".into()), stdin_base64: None };
    for (at, name) in [(0, "k"), (1, "k"), (1, "l"), (999, "k")] {
        sent[at].request.labels.insert(name.into(), at.to_string());
    }
    {
        let store = place.open().await;
        let epoch = term(&*store).await;
        let made = store.submit_all(sent.clone(), None, Some(epoch)).await.unwrap();
        assert_eq!(made, Submitted::New { taken: true });
    }
    let store = place.open().await;
    let unfinished = store.unfinished(None, 2000).await.unwrap().jobs;
    assert_eq!(unfinished.iter().map(|found| found.job.job_id).collect::<Vec<_>>(), ids(&sent));
    for at in [0, 1, 500, 999] {
        assert_eq!(store.get(sent[at].job_id).await.unwrap().as_ref(), Some(&sent[at]));
    }
    for (name, value, at) in [("k", "0", 0), ("l", "1", 1), ("k", "999", 999)] {
        let labels = vec![(name.to_owned(), value.to_owned())];
        let found = list(&*store, Query { labels, limit: 10, ..Query::default() }).await.0;
        assert_eq!(found, [sent[at].job_id]);
    }
}

async fn a_leader_has_them_and_others_tell_it(place: Place) {
    let store = place.open().await;
    let epoch = term(&*store).await;
    store.submit_all(jobs(3), None, Some(epoch)).await.unwrap();
    assert!(store.inbox(epoch, 10).await.unwrap().is_empty());
    let told = jobs(5);
    let made = store.submit_all(told.clone(), None, None).await.unwrap();
    assert_eq!(made, Submitted::New { taken: false });
    let found = store.inbox(epoch, 10).await.unwrap();
    let found = found.iter().map(|message| match message {
        Message::Submitted(found) => found.job.job_id,
        Message::Cancel(job) => panic!("nobody cancelled {job}"),
        Message::Unreadable(found) => panic!("{found:?}"),
    });
    assert_eq!(found.collect::<Vec<_>>(), ids(&told), "in their order");
    // It has them once it asks for the next ones.
    assert!(store.inbox(epoch, 10).await.unwrap().is_empty());
    let later = next_term(&*store, epoch).await;
    let made = store.submit_all(jobs(2), None, Some(epoch)).await.unwrap();
    assert_eq!(made, Submitted::New { taken: false }, "of a term that is over");
    assert_eq!(store.inbox(later, 10).await.unwrap().len(), 2);
}

async fn all_go_in_or_none(place: Place) {
    let store = place.open().await;
    let known = job("known");
    submit(&*store, &known).await;
    let mut sent = jobs(4);
    sent[3].job_id = known.job_id;
    store.submit_all(sent.clone(), Some(key("k", 1)), None).await.unwrap_err();
    assert_eq!(list(&*store, Query { limit: 10, ..Query::default() }).await.0, [known.job_id]);
    assert_eq!(store.find_key(String::new(), "k".into()).await.unwrap(), None);
}

async fn a_key_makes_them_together(place: Place) {
    let first = jobs(3);
    {
        let store = place.open().await;
        let made = store.submit_all(first.clone(), Some(key("k", 1)), None).await.unwrap();
        assert_eq!(made, Submitted::New { taken: false });
    }
    let store = place.open().await;
    let again = store.submit_all(jobs(3), Some(key("k", 1)), None).await.unwrap();
    assert_eq!(again, Submitted::Same(ids(&first)));
    for count in [1, 3, 5] {
        let other = store.submit_all(jobs(count), Some(key("k", 2)), None).await.unwrap();
        assert_eq!(other, Submitted::Other);
    }
    let alone = store.submit(job("a"), Some(key("k", 2)), None).await.unwrap();
    assert_eq!(alone, Submitted::Other);
    let one = store.submit(job("a"), Some(key("one", 1)), None).await.unwrap();
    assert_eq!(one, Submitted::New { taken: false });
    let together = store.submit_all(jobs(2), Some(key("one", 2)), None).await.unwrap();
    assert_eq!(together, Submitted::Other);
    assert_eq!(list(&*store, Query { limit: 100, ..Query::default() }).await.0.len(), 4);
}

async fn a_key_makes_them_once_also_from_two_coordinators_at_once(place: Place) {
    let one = place.open().await;
    let two = place.open_beside(&one).await;
    for round in 0..5 {
        let calls = (0..20).map(|at| {
            let store = if at % 2 == 0 { &one } else { &two };
            // Requests that differ, and not only in what they are.
            let (count, digest) = if at % 4 < 2 { (3, 1) } else { (5, 2) };
            store.submit_all(jobs(count), Some(key(&round.to_string(), digest)), None)
        });
        let made: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
        let count = |wanted: fn(&Submitted<Vec<Uuid>>) -> bool| {
            made.iter().filter(|made| wanted(made)).count()
        };
        assert_eq!(count(|made| matches!(made, Submitted::New { .. })), 1);
        assert_eq!(count(|made| matches!(made, Submitted::Same(_))), 9);
        assert_eq!(count(|made| *made == Submitted::Other), 10);
    }
    let (all, _) = list(&*one, Query { limit: 100, ..Query::default() }).await;
    assert!((15..=25).contains(&all.len()) && all.len() % 2 == 1, "{}", all.len());
}

async fn a_key_is_known_as_long_as_one_of_its_jobs(place: Place) {
    let store = place.open().await;
    let epoch = term(&*store).await;
    let first = jobs(3);
    store.submit_all(first.clone(), Some(key("k", 1)), Some(epoch)).await.unwrap();
    let keep = Keep { time: Duration::from_secs(10), number: 100, size: u64::MAX };
    for (gone, left) in [(0, vec![first[1].job_id, first[2].job_id]), (2, vec![first[1].job_id])] {
        store.finish(epoch, ended(first[gone].clone(), 1_000), Timestamp(1_000)).await.unwrap();
        assert_eq!(store.expire(epoch, keep, Timestamp(60_000)).await.unwrap(), 1);
        let again = store.submit_all(jobs(3), Some(key("k", 1)), Some(epoch)).await.unwrap();
        assert_eq!(again, Submitted::Same(left));
    }
    store.finish(epoch, ended(first[1].clone(), 1_000), Timestamp(1_000)).await.unwrap();
    assert_eq!(store.expire(epoch, keep, Timestamp(60_000)).await.unwrap(), 1);
    let again = store.submit_all(jobs(3), Some(key("k", 1)), Some(epoch)).await.unwrap();
    assert_eq!(again, Submitted::New { taken: true });
}
