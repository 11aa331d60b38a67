//! Whatever users send comes back as it was: any text that JSON can hold, and as large as is accepted.

use cloister_api::{OutputBytes, Stdin};

use super::{output::ROW, *};

on_each_store! {
    any_text_comes_back
    large_inputs_and_outputs_come_back
}

/// NUL, which neither text nor jsonb of PostgreSQL takes; what an encoding error leaves; beyond the
/// basic plane; no characters by themselves; what SQL and its drivers treat as special.
const ODD: [&str; 8] = [
    "a\0b",
    "\0",
    "\u{fffd}\u{fffe}\u{ffff}",
    "\u{1f512}\u{10ffff}",
    "e\u{301}\u{200d}\u{202e}",
    "'; DROP TABLE jobs; --",
    "$1 ? :a \\ %s",
    "\\u0000\u{1}\u{7f}\u{85}",
];

async fn any_text_comes_back(place: Place) {
    let store = place.open().await;
    let epoch = term(&*store).await;
    for text in ODD {
        let mut sent = job(text);
        sent.request.task.env.insert("A".into(), text.into());
        sent.request.task.stdin = Stdin { stdin: Some(text.into()), stdin_base64: None };
        sent.request.labels.insert(text.into(), text.into());
        let named = Key { tenant: text.into(), ..key(text, 1) };
        let made = store.submit(sent.clone(), Some(named.clone()), Some(epoch)).await.unwrap();
        assert_eq!(made, Submitted::New { taken: true }, "{text:?}");
        let again = store.submit(job("b"), Some(named), Some(epoch)).await.unwrap();
        assert_eq!(again, Submitted::Same(sent.job_id), "{text:?}");
        let claim = Claim { runner: text.into(), ..claim(1) };
        let claimed = store.claim(epoch, sent.job_id, claim.clone()).await.unwrap();
        assert_eq!(claimed, Some(sent.clone()), "{text:?}");
        let found = store.unfinished(None, 10).await.unwrap().jobs;
        assert_eq!(found[0].claim, Some(claim), "{text:?}");
        let labels = vec![(text.to_owned(), text.to_owned())];
        let query = Query { labels, limit: 10, ..Query::default() };
        assert_eq!(list(&*store, query).await.0, [sent.job_id], "{text:?}");
        let mut over = sent;
        over.runner = Some(text.into());
        let mut outcome = Outcome::never_ran(Status::Failed, Some(Reason::ExitCode), text);
        let output = |text: &str| Output::new(text.as_bytes().into(), false);
        outcome = outcome.with_output(output(text), Output::new(b"\xff\0".into(), true));
        over.finish(outcome);
        store.finish(epoch, over.clone(), Timestamp(2_000)).await.unwrap();
        assert_eq!(store.get(over.job_id).await.unwrap(), Some(over), "{text:?}");
        let drain = Order::DrainRunner { runner: text.into(), drained: true };
        store.order(drain).await.unwrap();
        store.order(Order::Pause(Some(text.into()))).await.unwrap();
        assert_eq!(store.orders().await.unwrap().paused.as_deref(), Some(text));
    }
    let mut drained = store.orders().await.unwrap().drained;
    let ordered: Vec<_> = drained.clone();
    drained.sort_unstable();
    assert_eq!(ordered, drained, "by name, in order");
    let mut expected = ODD;
    expected.sort_unstable();
    assert_eq!(drained, expected);
    let name = ODD.join("");
    store.resign(epoch).await.unwrap();
    let me = candidate(&name);
    store.lead(me.clone(), Duration::from_secs(600)).await.unwrap();
    let seen = store.lead(candidate("other"), Duration::from_secs(600)).await.unwrap();
    assert_eq!(seen.leader, me);
}

async fn large_inputs_and_outputs_come_back(place: Place) {
    let store = place.open().await;
    let epoch = term(&*store).await;
    // With a NUL now and then.
    let large = format!("{}\0", "x".repeat(1023)).repeat(16 << 10);
    let mut sent = job("cat");
    sent.request.task.stdin = Stdin { stdin: Some(large.clone()), stdin_base64: None };
    let longest = "l".repeat(1024);
    sent.request.labels.insert(longest.clone(), longest.clone());
    submit(&*store, &sent).await;
    assert_eq!(store.claim(epoch, sent.job_id, claim(1)).await.unwrap(), Some(sent.clone()));
    let query = Query { labels: vec![(longest.clone(), longest)], limit: 1, ..Query::default() };
    assert_eq!(list(&*store, query).await.0, [sent.job_id]);
    let mut over = ended(sent, 2_000);
    over.stdout = Some(large.clone());
    over.stdout_base64 = None;
    let id = over.job_id;
    store.finish(epoch, over.clone(), Timestamp(2_000)).await.unwrap();
    // How much was printed is told, and what is read row by row.
    let found = store.get(over.job_id).await.unwrap().unwrap();
    over.output_bytes = Some(OutputBytes { stdout: large.len() as u64, stderr: 0 });
    (over.stdout, over.stderr) = (None, None);
    assert!(found == over, "it came back as another");
    let (mut read, mut at) = (Vec::new(), 0);
    while let Some(row) = store.output(id, 1, Stream::Stdout, at).await.unwrap() {
        assert!(row.len() <= ROW);
        read.extend_from_slice(&row);
        at += 1;
    }
    assert!(read == large.as_bytes(), "it came back as another");
}
