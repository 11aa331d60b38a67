//! Jobs as they go in, move forward, and are read.

use std::collections::BTreeSet;

use cloister_api::{OutputBytes, Past, Stdin};
use futures_util::future::join_all;

use super::*;

on_each_store! {
    a_job_comes_back_as_it_went_in_also_after_a_restart
    what_a_runner_has_is_known_after_a_restart
    a_retry_keeps_what_the_earlier_attempt_printed
    status_only_moves_forward
    a_key_makes_one_job
    a_key_makes_one_job_also_from_two_coordinators_at_once
    pages_neither_skip_nor_repeat_while_jobs_come
    lists_by_status_reason_and_labels_without_outputs
    a_page_of_large_jobs_ends_early
    tells_which_jobs_have_ended
    orders_outlive_whoever_leads
    figures_count_what_waits_and_what_is_out
}

async fn a_job_comes_back_as_it_went_in_also_after_a_restart(place: Place) {
    let mut waits = job("cat");
    waits.request.task.stdin = Stdin { stdin: Some("in".into()), stdin_base64: None };
    waits.request.labels.insert("k".into(), "v".into());
    let over = job("true");
    {
        let store = place.open().await;
        let epoch = term(&*store).await;
        for job in [&waits, &over] {
            let made = store.submit(job.clone(), None, Some(epoch)).await.unwrap();
            assert_eq!(made, Submitted::New { taken: true });
        }
        assert_eq!(store.get(waits.job_id).await.unwrap(), Some(waits.clone()));
        store.claim(epoch, over.job_id, claim(1)).await.unwrap().unwrap();
        store.finish(epoch, ended(over.clone(), 2_000), Timestamp(2_000)).await.unwrap();
        // The first end decides.
        store.finish(epoch, ended(over.clone(), 3_000), Timestamp(3_000)).await.unwrap();
    }
    let store = place.open().await;
    assert_eq!(store.get(waits.job_id).await.unwrap(), Some(waits));
    let end = ended(over.clone(), 2_000);
    assert_eq!(store.get(over.job_id).await.unwrap(), Some(end));
    assert_eq!(store.get(Uuid::nil()).await.unwrap(), None);
    store.probe().await.unwrap();
}

async fn what_a_runner_has_is_known_after_a_restart(place: Place) {
    let jobs = [job("a"), job("b"), job("c"), job("d")];
    {
        let store = place.open().await;
        let epoch = term(&*store).await;
        for job in &jobs {
            store.submit(job.clone(), None, Some(epoch)).await.unwrap();
        }
        let claimed = store.claim(epoch, jobs[1].job_id, claim(1)).await.unwrap();
        assert_eq!(claimed, Some(jobs[1].clone()));
        assert_eq!(store.claim(epoch, jobs[1].job_id, claim(2)).await.unwrap(), None);
        store.started(epoch, jobs[1].job_id, 1, Timestamp(1_500)).await.unwrap();
        assert!(store.request_cancel(jobs[1].job_id, Some(epoch)).await.unwrap());
        store.claim(epoch, jobs[2].job_id, claim(1)).await.unwrap();
        store.unclaim(epoch, jobs[2].job_id).await.unwrap();
        store.finish(epoch, ended(jobs[3].clone(), 2_000), Timestamp(2_000)).await.unwrap();
    }
    let store = place.open().await;
    let first = store.unfinished(None, 1).await.unwrap().jobs;
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].job, jobs[0]);
    let rest = store.unfinished(Some(first[0].job.job_id), 10).await.unwrap().jobs;
    assert_eq!(rest.len(), 2);
    assert_eq!(rest[0].claim, Some(claim(1)));
    assert!(rest[0].cancel && !rest[1].cancel);
    assert_eq!(rest[0].job.status, Status::Running);
    assert_eq!(rest[0].job.started_at, Some(Timestamp(1_500)));
    assert_eq!(rest[0].job.queue_ms, Some(500));
    assert_eq!(rest[0].job.runner.as_deref(), Some("http://a"));
    assert_eq!(rest[1].claim, None);
    assert_eq!(rest[1].job, jobs[2]);
}

fn second_attempt(first: &Job) -> Job {
    let mut outcome = Outcome::never_ran(Status::Failed, Some(Reason::RunnerLost), "gone");
    outcome.stdout = Some("half".into());
    let mut second = first.clone();
    second.attempt = 2;
    second.attempts.push(Past { attempt: 1, runner: Some("http://a".into()), outcome });
    second
}

async fn a_retry_keeps_what_the_earlier_attempt_printed(place: Place) {
    let store = place.open().await;
    let epoch = term(&*store).await;
    let first = job("a");
    submit(&*store, &first).await;
    store.claim(epoch, first.job_id, claim(1)).await.unwrap();
    let second = second_attempt(&first);
    store.retry(epoch, second.clone(), Timestamp(9_000)).await.unwrap();
    assert_eq!(store.get(first.job_id).await.unwrap(), Some(second.clone()));
    let waiting = store.unfinished(None, 10).await.unwrap().jobs;
    assert_eq!(waiting[0].not_before, Some(Timestamp(9_000)));
    assert_eq!(waiting[0].claim, None);
    assert_eq!(store.claim(epoch, first.job_id, claim(1)).await.unwrap(), None);
    // Who is given the next attempt needs not what the earlier one printed, and is told how much it was.
    let mut bare = second.without_outputs();
    bare.attempts[0].outcome.output_bytes = Some(OutputBytes { stdout: 4, stderr: 0 });
    assert_eq!(store.claim(epoch, first.job_id, claim(2)).await.unwrap(), Some(bare));
}

/// Whatever comes late or twice: of an attempt, an end, a job that is not there.
async fn status_only_moves_forward(place: Place) {
    let store = place.open().await;
    let epoch = term(&*store).await;
    let first = job("a");
    let id = first.job_id;
    let now = async || store.get(id).await.unwrap().unwrap();
    submit(&*store, &first).await;
    store.started(epoch, id, 1, Timestamp(1_500)).await.unwrap();
    assert_eq!(now().await.status, Status::Pending, "nobody was given it");
    store.claim(epoch, id, claim(1)).await.unwrap().unwrap();
    store.started(epoch, id, 1, Timestamp(1_500)).await.unwrap();
    store.started(epoch, id, 1, Timestamp(1_700)).await.unwrap();
    store.unclaim(epoch, id).await.unwrap();
    assert_eq!(store.claim(epoch, id, claim(1)).await.unwrap(), None);
    let running = now().await;
    assert_eq!((running.status, running.started_at), (Status::Running, Some(Timestamp(1_500))));

    let second = second_attempt(&first);
    store.retry(epoch, second.clone(), Timestamp(0)).await.unwrap();
    store.claim(epoch, id, claim(2)).await.unwrap().unwrap();
    store.started(epoch, id, 1, Timestamp(1_800)).await.unwrap();
    store.retry(epoch, second.clone(), Timestamp(9_000)).await.unwrap();
    let found = store.unfinished(None, 10).await.unwrap().jobs;
    assert_eq!(found[0].job.status, Status::Pending, "the start was of another attempt");
    assert_eq!(found[0].claim, Some(claim(2)), "the same retry again changes nothing");

    let end = ended(second.clone(), 2_000);
    store.finish(epoch, end.clone(), Timestamp(2_000)).await.unwrap();
    let mut third = second;
    third.attempt = 3;
    store.retry(epoch, third.clone(), Timestamp(0)).await.unwrap();
    store.finish(epoch, ended(third, 3_000), Timestamp(3_000)).await.unwrap();
    store.started(epoch, id, 2, Timestamp(1_500)).await.unwrap();
    store.unclaim(epoch, id).await.unwrap();
    assert_eq!(store.claim(epoch, id, claim(2)).await.unwrap(), None);
    store.request_cancel(id, None).await.unwrap();
    assert_eq!(now().await, end);
    assert!(store.unfinished(None, 10).await.unwrap().jobs.is_empty());

    let nobody = job("b");
    store.finish(epoch, ended(nobody.clone(), 1), Timestamp(1)).await.unwrap();
    store.retry(epoch, nobody.clone(), Timestamp(0)).await.unwrap();
    assert_eq!(store.claim(epoch, nobody.job_id, claim(1)).await.unwrap(), None);
    store.request_cancel(nobody.job_id, None).await.unwrap();
    assert_eq!(store.get(nobody.job_id).await.unwrap(), None);
}

async fn a_key_makes_one_job(place: Place) {
    let first = job("a");
    {
        let store = place.open().await;
        let made = store.submit(first.clone(), Some(key("k", 1)), None).await.unwrap();
        assert_eq!(made, Submitted::New { taken: false });
    }
    let store = place.open().await;
    let again = store.submit(job("a"), Some(key("k", 1)), None).await.unwrap();
    assert_eq!(again, Submitted::Same(first.job_id));
    let other = store.submit(job("b"), Some(key("k", 2)), None).await.unwrap();
    assert_eq!(other, Submitted::Other);
    let found = store.find_key(String::new(), "k".into()).await.unwrap();
    assert_eq!(found, Some((first.job_id, [1; 32])));
    assert_eq!(store.find_key("t".into(), "k".into()).await.unwrap(), None);
    let of_another = Key { tenant: "t".into(), ..key("k", 2) };
    let made = store.submit(job("b"), Some(of_another), None).await.unwrap();
    assert_eq!(made, Submitted::New { taken: false }, "keys are each tenant's own");
    assert_eq!(list(&*store, Query { limit: 100, ..Query::default() }).await.0.len(), 2);
}

async fn a_key_makes_one_job_also_from_two_coordinators_at_once(place: Place) {
    let one = place.open().await;
    let two = place.open_beside(&one).await;
    for round in 0..5 {
        let name = round.to_string();
        let calls = (0..40).map(|at| {
            let store = if at % 2 == 0 { &one } else { &two };
            store.submit(job("c"), Some(key(&name, 1)), None)
        });
        let made: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
        let new = made.iter().filter(|made| **made == Submitted::New { taken: false });
        assert_eq!(new.count(), 1);
        let (id, _) = one.find_key(String::new(), name).await.unwrap().unwrap();
        let same = made.iter().filter(|made| **made == Submitted::Same(id));
        assert_eq!(same.count(), 39);
    }
    assert_eq!(list(&*two, Query { limit: 100, ..Query::default() }).await.0.len(), 5);
}

async fn pages_neither_skip_nor_repeat_while_jobs_come(place: Place) {
    let store = place.open().await;
    let mut expected = BTreeSet::new();
    for _ in 0..25 {
        let job = job("a");
        expected.insert(job.job_id);
        submit(&*store, &job).await;
    }
    let (mut seen, mut before) = (Vec::<Uuid>::new(), None);
    loop {
        let query = Query { before, limit: 4, ..Query::default() };
        let (page, more) = list(&*store, query).await;
        assert!(page.len() == 4 || !more);
        seen.extend(&page);
        before = page.last().copied();
        submit(&*store, &job("later")).await;
        if !more {
            break;
        }
    }
    let newest_first: Vec<_> = expected.into_iter().rev().collect();
    assert_eq!(seen, newest_first);
    let exactly = Query { before: Some(seen[20]), limit: 4, ..Query::default() };
    assert_eq!(list(&*store, exactly).await, (seen[21..].to_vec(), false));
}

async fn lists_by_status_reason_and_labels_without_outputs(place: Place) {
    let store = place.open().await;
    let epoch = term(&*store).await;
    let mut labelled = job("a");
    labelled.request.labels.insert("k".into(), "v".into());
    labelled.request.labels.insert("l".into(), "w".into());
    labelled.request.task.stdin.stdin = Some("in".into());
    let mut failed = job("b");
    failed.request.labels.insert("k".into(), "w".into());
    let plain = job("c");
    for job in [&labelled, &failed, &plain] {
        submit(&*store, job).await;
    }
    store.finish(epoch, ended(labelled.clone(), 2_000), Timestamp(2_000)).await.unwrap();
    failed.finish(Outcome::never_ran(Status::Failed, Some(Reason::RunnerLost), "x"));
    store.finish(epoch, failed.clone(), Timestamp(2_000)).await.unwrap();

    let query = || Query { limit: 100, ..Query::default() };
    let by = async |query| list(&*store, query).await.0;
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let (done, lost, wait) = (labelled.job_id, failed.job_id, plain.job_id);
    assert_eq!(by(query()).await, [wait, lost, done]);
    let status = Some(Status::Pending);
    assert_eq!(by(Query { status, ..query() }).await, [wait]);
    let reason = Some(Reason::RunnerLost);
    assert_eq!(by(Query { reason, ..query() }).await, [lost]);
    let labels = vec![label("k", "v"), label("l", "w")];
    let page = store.list(Query { labels: labels.clone(), ..query() }).await.unwrap();
    assert_eq!(page.jobs, [ended(labelled, 2_000).without_outputs()]);
    assert_eq!(by(Query { status, labels, ..query() }).await, [] as [Uuid; 0]);
    let labels = vec![label("k", "v"), label("k", "w")];
    assert_eq!(by(Query { labels, ..query() }).await, [] as [Uuid; 0], "all of them, on one job");
    let labels = vec![label("k", "w")];
    assert_eq!(by(Query { labels, reason, before: Some(wait), ..query() }).await, [lost]);
}

async fn a_page_of_large_jobs_ends_early(place: Place) {
    let store = place.open().await;
    let mut large = request("a");
    large.task.env.insert("A".into(), "x".repeat(5 << 20));
    for _ in 0..3 {
        submit(&*store, &Job::new(Uuid::now_v7(), Timestamp(0), large.clone())).await;
    }
    let (page, more) = list(&*store, Query { limit: 100, ..Query::default() }).await;
    assert_eq!((page.len(), more), (2, true));
    let before = page.last().copied();
    let (page, more) = list(&*store, Query { before, limit: 100, ..Query::default() }).await;
    assert_eq!((page.len(), more), (1, false));
}

async fn tells_which_jobs_have_ended(place: Place) {
    let store = place.open().await;
    let epoch = term(&*store).await;
    let [waits, runs, over] = [job("a"), job("b"), job("c")];
    for job in [&waits, &runs, &over] {
        submit(&*store, job).await;
    }
    store.claim(epoch, runs.job_id, claim(1)).await.unwrap();
    store.started(epoch, runs.job_id, 1, Timestamp(1)).await.unwrap();
    store.finish(epoch, ended(over.clone(), 2_000), Timestamp(2_000)).await.unwrap();
    let nobody = Uuid::now_v7();
    let asked = vec![nobody, waits.job_id, over.job_id, runs.job_id];
    assert_eq!(store.ended(asked).await.unwrap(), [nobody, over.job_id]);
    assert!(store.ended(Vec::new()).await.unwrap().is_empty());
}

async fn orders_outlive_whoever_leads(place: Place) {
    let drain = |runner: &str, drained| Order::DrainRunner { runner: runner.into(), drained };
    {
        let store = place.open().await;
        assert_eq!(store.orders().await.unwrap(), Orders::default());
        for order in [
            drain("b", true),
            drain("a", true),
            drain("b", true),
            drain("c", true),
            drain("c", false),
            drain("d", false),
            Order::Pause(Some("first".into())),
            Order::Pause(Some("why".into())),
        ] {
            store.order(order).await.unwrap();
        }
    }
    let store = place.open().await;
    let drained = vec!["a".to_owned(), "b".into()];
    let paused = Some("why".to_owned());
    assert_eq!(store.orders().await.unwrap(), Orders { drained: drained.clone(), paused });
    store.order(Order::Pause(None)).await.unwrap();
    assert_eq!(store.orders().await.unwrap(), Orders { drained, paused: None });
}

async fn figures_count_what_waits_and_what_is_out(place: Place) {
    let store = place.open().await;
    let epoch = term(&*store).await;
    let empty = store.figures().await.unwrap();
    assert_eq!((empty.pending, empty.out), (0, 0));
    assert!(empty.size > 0);
    let jobs: Vec<_> = (0..5).map(|_| job("a")).collect();
    for job in &jobs {
        submit(&*store, job).await;
    }
    let count = async || {
        let figures = store.figures().await.unwrap();
        (figures.pending, figures.out)
    };
    for job in &jobs[..3] {
        store.claim(epoch, job.job_id, claim(1)).await.unwrap();
    }
    store.started(epoch, jobs[0].job_id, 1, Timestamp(1)).await.unwrap();
    assert_eq!(count().await, (2, 3));
    store.finish(epoch, ended(jobs[0].clone(), 2_000), Timestamp(2_000)).await.unwrap();
    store.retry(epoch, second_attempt(&jobs[1]), Timestamp(0)).await.unwrap();
    store.unclaim(epoch, jobs[2].job_id).await.unwrap();
    assert_eq!(count().await, (4, 0));
    let mut large = job("a");
    // What a database may compress to nothing counts for little.
    let text = || Uuid::new_v4().simple().to_string();
    let text = (0..100_000).map(|_| text()).collect();
    large.request.task.stdin.stdin = Some(text);
    submit(&*store, &large).await;
    assert!(store.figures().await.unwrap().size > empty.size + 1_000_000);
}
