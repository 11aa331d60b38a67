//! What others than the leader take in, and how it gets there.

use std::{collections::HashSet, pin::pin, time::Instant};

use futures_util::{FutureExt, future::join_all};
use tokio::time::timeout;

use super::*;

on_each_store! {
    comes_in_order_and_once
    tells_a_job_as_it_is_when_it_is_taken
    what_has_ended_is_not_told
    neither_loses_nor_doubles_what_many_submit_at_once
    a_call_that_is_given_up_loses_nothing
    what_was_not_taken_is_there_after_a_restart
    news_come_at_once
}

fn id(message: &Message) -> (Uuid, bool) {
    match message {
        Message::Submitted(found) => (found.job.job_id, true),
        Message::Cancel(job) => (*job, false),
        Message::Unreadable(found) => panic!("{found:?}"),
    }
}

async fn ids(store: &dyn Store, epoch: Epoch, limit: usize) -> Vec<(Uuid, bool)> {
    store.inbox(epoch, limit).await.unwrap().iter().map(id).collect()
}

async fn comes_in_order_and_once(place: Place) {
    let store = place.open().await;
    let epoch = term(&*store).await;
    let jobs: Vec<_> = (0..5).map(|_| job("a")).collect();
    for job in &jobs {
        submit(&*store, job).await;
    }
    for _ in 0..3 {
        assert!(!store.request_cancel(jobs[1].job_id, None).await.unwrap());
    }
    let new = |at: usize| (jobs[at].job_id, true);
    assert_eq!(ids(&*store, epoch, 2).await, [new(0), new(1)]);
    assert_eq!(ids(&*store, epoch, 2).await, [new(2), new(3)]);
    let rest = [new(4), (jobs[1].job_id, false)];
    assert_eq!(ids(&*store, epoch, 10).await, rest, "one wish is enough");
    assert_eq!(ids(&*store, epoch, 10).await, []);
    // A wish that is said again after it was taken is told again.
    store.request_cancel(jobs[1].job_id, None).await.unwrap();
    assert_eq!(ids(&*store, epoch, 10).await, [(jobs[1].job_id, false)]);
    assert_eq!(ids(&*store, epoch, 10).await, []);
}

async fn tells_a_job_as_it_is_when_it_is_taken(place: Place) {
    let store = place.open().await;
    let epoch = term(&*store).await;
    let mut sent = job("cat");
    sent.request.task.stdin.stdin = Some("in".into());
    submit(&*store, &sent).await;
    store.request_cancel(sent.job_id, Some(epoch)).await.unwrap();
    store.claim(epoch, sent.job_id, claim(1)).await.unwrap();
    let found = store.inbox(epoch, 10).await.unwrap();
    let [Message::Submitted(found)] = &found[..] else { panic!("{found:?}") };
    assert_eq!(found.job, sent.without_outputs(), "without its input");
    assert_eq!((&found.claim, found.cancel), (&Some(claim(1)), true));
}

async fn what_has_ended_is_not_told(place: Place) {
    let store = place.open().await;
    let epoch = term(&*store).await;
    let jobs: Vec<_> = (0..10).map(|_| job("a")).collect();
    for job in &jobs {
        submit(&*store, job).await;
        store.request_cancel(job.job_id, None).await.unwrap();
    }
    for job in &jobs[..9] {
        store.finish(epoch, ended(job.clone(), 2_000), Timestamp(2_000)).await.unwrap();
    }
    let keep = Keep { time: LONG, number: 4, size: u64::MAX };
    assert_eq!(store.expire(epoch, keep, Timestamp(2_000)).await.unwrap(), 5);
    // As many as were asked for, if there are.
    let last = jobs[9].job_id;
    assert_eq!(ids(&*store, epoch, 1).await, [(last, true)]);
    assert_eq!(ids(&*store, epoch, 1).await, [(last, false)]);
    assert_eq!(ids(&*store, epoch, 1).await, []);
}

const LONG: Duration = Duration::from_secs(600);

async fn neither_loses_nor_doubles_what_many_submit_at_once(place: Place) {
    let leader = place.open().await;
    let (one, two) = (place.open_beside(&leader).await, place.open_beside(&leader).await);
    let epoch = term(&*leader).await;
    let calls = (0..200).map(|at| {
        let store = Arc::clone(if at % 2 == 0 { &one } else { &two });
        tokio::spawn(async move {
            let job = job("a");
            submit(&*store, &job).await;
            store.request_cancel(job.job_id, None).await.unwrap();
            job.job_id
        })
    });
    let calls: Vec<_> = calls.collect();
    let mut told = HashSet::new();
    let all = async {
        while told.len() < 400 {
            for found in ids(&*leader, epoch, 7).await {
                assert!(found.1 || told.contains(&(found.0, true)), "its end before itself");
                assert!(told.insert(found), "{found:?} came twice");
            }
            leader.news(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(60), all).await.unwrap();
    for job in join_all(calls).await {
        let job = job.unwrap();
        assert!(told.contains(&(job, true)) && told.contains(&(job, false)));
    }
    assert_eq!(ids(&*leader, epoch, 10).await, []);
}

/// Wherever it is given up: before it was asked, while it is done, before its answer was read.
async fn a_call_that_is_given_up_loses_nothing(place: Place) {
    let store = place.open().await;
    let epoch = term(&*store).await;
    let mut expected = HashSet::new();
    for round in 0..40_u64 {
        let job = job("a");
        expected.insert((job.job_id, true));
        submit(&*store, &job).await;
        let given_up = timeout(Duration::from_micros(round * 50), store.inbox(epoch, 10)).await;
        for message in given_up.into_iter().flat_map(Result::unwrap) {
            assert!(expected.remove(&id(&message)), "{message:?} came twice");
        }
    }
    for found in ids(&*store, epoch, 100).await {
        assert!(expected.remove(&found), "{found:?} came twice");
    }
    assert_eq!(expected, HashSet::new());
}

async fn what_was_not_taken_is_there_after_a_restart(place: Place) {
    let sent = job("a");
    let old = {
        let store = place.open().await;
        submit(&*store, &sent).await;
        term(&*store).await
    };
    let store = place.open().await;
    let epoch = next_term(&*store, old).await;
    assert_eq!(ids(&*store, epoch, 10).await, [(sent.job_id, true)]);
}

async fn news_come_at_once(place: Place) {
    let leader = place.open().await;
    let other = place.open_beside(&leader).await;
    let epoch = term(&*leader).await;
    let known = job("known");
    leader.submit(known.clone(), None, Some(epoch)).await.unwrap();
    // Until there are none left of what came before.
    let quiet = async || {
        loop {
            let begun = Instant::now();
            leader.news(Duration::from_millis(200)).await;
            if begun.elapsed() >= Duration::from_millis(200) {
                break;
            }
        }
    };
    quiet().await;
    // While it waits, and before it does.
    for waits in [true, false] {
        let mut news = pin!(leader.news(LONG));
        if waits {
            assert!(news.as_mut().now_or_never().is_none());
        }
        submit(&*other, &job("a")).await;
        timeout(Duration::from_secs(10), news).await.expect("a job is news");
        quiet().await;
        let news = leader.news(LONG);
        other.request_cancel(known.job_id, None).await.unwrap();
        timeout(Duration::from_secs(10), news).await.expect("a wish is news");
        quiet().await;
        let news = leader.news(LONG);
        other.order(Order::Pause(Some("x".into()))).await.unwrap();
        timeout(Duration::from_secs(10), news).await.expect("an order is news");
        quiet().await;
    }
    let begun = Instant::now();
    leader.news(Duration::from_millis(50)).await;
    assert!(begun.elapsed() >= Duration::from_millis(50), "nothing is no news");
}
