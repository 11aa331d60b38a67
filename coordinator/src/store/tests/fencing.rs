//! A leader whose term is over changes nothing.

use super::*;

on_each_store! {
    what_only_a_leader_may_write_is_refused_in_a_term_that_is_over
    what_others_write_too_goes_to_the_inbox_in_a_term_that_is_over
    once_another_leads_nothing_of_the_old_term_appears
}

/// Of a job that waits, one that is claimed, one that runs and one that has ended.
async fn one_of_each(store: &dyn Store, epoch: Epoch) -> [Job; 4] {
    let jobs = [job("waits"), job("claimed"), job("runs"), job("over")];
    for job in &jobs {
        store.submit(job.clone(), None, Some(epoch)).await.unwrap();
    }
    for job in &jobs[1..] {
        store.claim(epoch, job.job_id, claim(1)).await.unwrap().unwrap();
    }
    store.started(epoch, jobs[2].job_id, 1, Timestamp(1_500)).await.unwrap();
    store.finish(epoch, ended(jobs[3].clone(), 2_000), Timestamp(2_000)).await.unwrap();
    jobs
}

/// All that can be seen of jobs.
async fn everything(store: &dyn Store) -> String {
    let listed = store.list(Query { limit: 100, ..Query::default() }).await.unwrap().jobs;
    let mut whole = Vec::new();
    for job in listed {
        whole.push(store.get(job.job_id).await.unwrap().unwrap());
    }
    format!("{whole:?} {:?}", store.unfinished(None, 100).await.unwrap().jobs)
}

async fn what_only_a_leader_may_write_is_refused_in_a_term_that_is_over(place: Place) {
    let store = place.open().await;
    let old = term(&*store).await;
    let [waits, claimed, runs, over] = one_of_each(&*store, old).await;
    let new = next_term(&*store, old).await;
    store.submit(job("told"), None, None).await.unwrap();
    let before = everything(&*store).await;

    let mut next = runs.clone();
    next.attempt = 2;
    let keep = Keep { time: Duration::ZERO, number: 0, size: 0 };
    let far = Epoch(new.0 + 5);
    for epoch in [old, far] {
        let refused = [
            store.claim(epoch, waits.job_id, claim(1)).await.map(drop),
            store.unclaim(epoch, claimed.job_id).await,
            store.started(epoch, claimed.job_id, 1, Timestamp(1_600)).await,
            store.finish(epoch, ended(runs.clone(), 3_000), Timestamp(3_000)).await,
            store.retry(epoch, next.clone(), Timestamp(9_000)).await.map(drop),
            store.expire(epoch, keep, Timestamp(1_000_000)).await.map(drop),
            store.inbox(epoch, 10).await.map(drop),
            // Also where there would be nothing to do.
            store.claim(epoch, over.job_id, claim(1)).await.map(drop),
            store.finish(epoch, ended(over.clone(), 2_000), Timestamp(2_000)).await,
            store.unclaim(epoch, waits.job_id).await,
        ];
        for (at, refused) in refused.into_iter().enumerate() {
            let error = refused.expect_err(&format!("number {at}"));
            let text = error.to_string();
            let StoreError::Stale { epoch: of, newest, .. } = error else {
                panic!("{at}: {error}")
            };
            assert_eq!((of, newest), (epoch.0, new.0), "{text}");
            assert!(text.contains(&format!("epoch {of} is over")), "{text}");
            assert!(text.contains(&format!("a coordinator of epoch {newest} leads now")), "{text}");
        }
    }
    assert_eq!(everything(&*store).await, before);
    // And the leader can do all of it.
    assert_eq!(store.inbox(new, 10).await.unwrap().len(), 1);
    assert!(store.claim(new, waits.job_id, claim(1)).await.unwrap().is_some());
    store.unclaim(new, claimed.job_id).await.unwrap();
    store.retry(new, next, Timestamp(9_000)).await.unwrap();
    assert_eq!(store.expire(new, keep, Timestamp(1_000_000)).await.unwrap(), 1);
    assert_ne!(everything(&*store).await, before);
}

async fn what_others_write_too_goes_to_the_inbox_in_a_term_that_is_over(place: Place) {
    let store = place.open().await;
    let old = term(&*store).await;
    let known = job("known");
    store.submit(known.clone(), None, Some(old)).await.unwrap();
    assert!(store.inbox(old, 10).await.unwrap().is_empty());
    let new = next_term(&*store, old).await;
    let late = job("late");
    let made = store.submit(late.clone(), None, Some(old)).await.unwrap();
    assert_eq!(made, Submitted::New { taken: false });
    assert!(!store.request_cancel(known.job_id, Some(old)).await.unwrap());
    let taken = store.submit(job("taken"), None, Some(new)).await.unwrap();
    assert_eq!(taken, Submitted::New { taken: true });
    assert!(store.request_cancel(late.job_id, Some(new)).await.unwrap());
    let found = store.inbox(new, 10).await.unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(matches!(&found[0], Message::Submitted(found) if found.job == late && found.cancel));
    assert!(matches!(found[1], Message::Cancel(job) if job == known.job_id));
}

/// Claims of the old term are on their way when another takes over: what the new leader then reads is
/// all that there will ever be of them.
async fn once_another_leads_nothing_of_the_old_term_appears(place: Place) {
    let one = place.open().await;
    let two = place.open_beside(&one).await;
    let mut epoch = term(&*one).await;
    for _ in 0..5 {
        let jobs: Vec<_> = (0..100).map(|_| job("a")).collect();
        for job in &jobs {
            one.submit(job.clone(), None, Some(epoch)).await.unwrap();
        }
        let claims = jobs.iter().map(|job| {
            let (store, job) = (Arc::clone(&one), job.job_id);
            tokio::spawn(async move { (job, store.claim(epoch, job, claim(1)).await) })
        });
        let claims: Vec<_> = claims.collect();
        let new = next_term(&*two, epoch).await;
        let found = two.unfinished(None, 10_000).await.unwrap().jobs;
        let mut claimed: Vec<_> =
            found.iter().filter(|f| f.claim.is_some()).map(|f| f.job.job_id).collect();
        let mut done = Vec::new();
        for claim in claims {
            match claim.await.unwrap() {
                (job, Ok(Some(_))) => done.push(job),
                (_, Err(StoreError::Stale { .. })) => {}
                (_, other) => panic!("{other:?}"),
            }
        }
        claimed.sort_unstable();
        done.sort_unstable();
        assert_eq!(claimed, done);
        for found in found {
            two.finish(new, ended(found.job, 2_000), Timestamp(2_000)).await.unwrap();
        }
        epoch = new;
    }
}
