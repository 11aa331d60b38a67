//! Who leads, and until when.

use std::time::Instant;

use tokio::time::sleep;

use super::*;

on_each_store! {
    one_leads_and_renews
    a_lease_that_is_not_renewed_ends
    a_lease_that_is_given_back_is_free
    terms_go_on_after_a_restart
    many_who_would_lead_get_one_leader
}

const LONG: Duration = Duration::from_secs(600);

async fn one_leads_and_renews(place: Place) {
    let one = place.open().await;
    let two = place.open_beside(&one).await;
    let (me, other) = (candidate("me"), candidate("other"));
    let first = one.lead(me.clone(), LONG).await.unwrap();
    assert_eq!(first.leader, me);
    assert!(first.epoch > Epoch(0));
    for _ in 0..3 {
        let seen = two.lead(other.clone(), LONG).await.unwrap();
        assert_eq!((&seen.leader, seen.epoch), (&me, first.epoch));
        assert_eq!(seen.cluster, first.cluster);
        let again = one.lead(me.clone(), LONG).await.unwrap();
        assert_eq!((again.leader, again.epoch), (me.clone(), first.epoch));
        assert_eq!(again.others, usize::from(place.shared));
    }
}

async fn a_lease_that_is_not_renewed_ends(place: Place) {
    let one = place.open().await;
    let two = place.open_beside(&one).await;
    let (me, other) = (candidate("me"), candidate("other"));
    let ttl = Duration::from_millis(400);
    let first = one.lead(me.clone(), ttl).await.unwrap();
    // Not counted from the other's call on, but from when this one's answer may have been made.
    let renewed = Instant::now();
    one.lead(me.clone(), ttl).await.unwrap();
    let next = loop {
        let found = two.lead(other.clone(), LONG).await.unwrap();
        if found.leader == other {
            break found;
        }
        sleep(Duration::from_millis(5)).await;
    };
    assert!(renewed.elapsed() >= ttl, "it was taken after {:?}", renewed.elapsed());
    assert!(next.epoch > first.epoch);
    let late = one.lead(me.clone(), ttl).await.unwrap();
    assert_eq!((late.leader, late.epoch), (other.clone(), next.epoch));

    // Whoever comes back in time to find it free begins a new term: others may have counted on its end.
    two.resign(next.epoch).await.unwrap();
    let short = one.lead(me.clone(), Duration::from_millis(1)).await.unwrap();
    sleep(Duration::from_millis(20)).await;
    let again = one.lead(me.clone(), LONG).await.unwrap();
    assert_eq!(again.leader, me);
    assert!(again.epoch > short.epoch && short.epoch > next.epoch);
}

async fn a_lease_that_is_given_back_is_free(place: Place) {
    let one = place.open().await;
    let two = place.open_beside(&one).await;
    let (me, other) = (candidate("me"), candidate("other"));
    let first = one.lead(me.clone(), LONG).await.unwrap();
    one.resign(first.epoch).await.unwrap();
    let next = two.lead(other.clone(), LONG).await.unwrap();
    assert_eq!(next.leader, other);
    assert!(next.epoch > first.epoch);
    // It is another's now.
    one.resign(first.epoch).await.unwrap();
    assert_eq!(one.lead(me, LONG).await.unwrap().epoch, next.epoch);
}

async fn terms_go_on_after_a_restart(place: Place) {
    let mut last = None::<Leadership>;
    for _ in 0..3 {
        let store = place.open().await;
        let led = store.lead(candidate("me"), Duration::from_millis(1)).await.unwrap();
        if let Some(last) = last {
            assert!(led.epoch > last.epoch);
            assert_eq!(led.cluster, last.cluster);
        }
        last = Some(led);
        sleep(Duration::from_millis(20)).await;
    }
}

async fn many_who_would_lead_get_one_leader(place: Place) {
    let one = place.open().await;
    let mut stores = vec![Arc::clone(&one)];
    for _ in 0..3 {
        stores.push(place.open_beside(&one).await);
    }
    for _ in 0..10 {
        let all = (0..20).map(|at| {
            let store = Arc::clone(&stores[at % stores.len()]);
            tokio::spawn(async move { store.lead(candidate("x"), LONG).await.unwrap() })
        });
        let mut found = Vec::new();
        for led in all.collect::<Vec<_>>() {
            found.push(led.await.unwrap());
        }
        assert!(found.iter().all(|led| led.leader == found[0].leader), "{found:?}");
        assert!(found.iter().all(|led| led.epoch == found[0].epoch), "{found:?}");
        one.resign(found[0].epoch).await.unwrap();
    }
}
