//! What every store must do. Another kind of store is one more way to open one here.

mod keeping;

use std::{collections::BTreeSet, path::PathBuf};

use cloister_api::{JobRequest, Outcome, Output, Past, Program, Stdin, Task};
use futures_util::future::join_all;

use super::*;

/// Nobody has led yet.
const E: Epoch = Epoch(0);

/// A folder of its own, removed at the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("cloister-{}", Uuid::new_v4()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite:{}", self.0.join("new/store.db").display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn request(command: &str) -> JobRequest {
    JobRequest::new(Task::new(Program::Command(command.into())))
}

fn job(command: &str) -> Job {
    Job::new(Uuid::now_v7(), Timestamp(1_000), request(command))
}

fn ended(mut job: Job, at: i64) -> Job {
    let mut outcome = Outcome::never_ran(Status::Completed, None, "done");
    outcome.started_at = Some(Timestamp(at));
    outcome.finished_at = Timestamp(at);
    let outcome =
        outcome.with_output(Output::new(b"out\xff".into(), false), Output::new(vec![], true));
    job.runner = Some("http://a".into());
    job.finish(outcome);
    job
}

fn claim(attempt: u32) -> Claim {
    Claim {
        attempt,
        execution_id: Uuid::from_u128(5),
        runner: "http://a".into(),
        boot_id: Some(Uuid::from_u128(6)),
    }
}

fn key(name: &str, digest: u8) -> Key {
    Key { tenant: String::new(), name: name.into(), digest: [digest; 32] }
}

async fn list(store: &dyn Store, query: Query) -> (Vec<Uuid>, bool) {
    let page = store.list(query).await.unwrap();
    (page.jobs.iter().map(|job| job.job_id).collect(), page.more)
}

#[tokio::test]
async fn a_job_comes_back_as_it_went_in_also_after_a_restart() {
    let folder = Folder::new();
    let mut waits = job("cat");
    waits.request.task.stdin = Stdin { stdin: Some("in".into()), stdin_base64: None };
    waits.request.labels.insert("k".into(), "v".into());
    let over = job("true");
    {
        let store = open(&folder.url()).await.unwrap();
        assert_eq!(
            store.submit(waits.clone(), None, None).await.unwrap(),
            Submitted::New { taken: false }
        );
        assert_eq!(
            store.submit(over.clone(), None, None).await.unwrap(),
            Submitted::New { taken: false }
        );
        assert_eq!(store.get(waits.job_id).await.unwrap(), Some(waits.clone()));
        store.claim(E, over.job_id, claim(1)).await.unwrap().unwrap();
        store.finish(E, ended(over.clone(), 2_000)).await.unwrap();
        // The first end decides.
        store.finish(E, ended(over.clone(), 3_000)).await.unwrap();
    }
    let store = open(&folder.url()).await.unwrap();
    assert_eq!(store.get(waits.job_id).await.unwrap(), Some(waits));
    let end = ended(over.clone(), 2_000);
    assert_eq!(store.get(over.job_id).await.unwrap(), Some(end));
    assert_eq!(store.get(Uuid::nil()).await.unwrap(), None);
}

#[tokio::test]
async fn what_a_runner_has_is_known_after_a_restart() {
    let folder = Folder::new();
    let jobs = [job("a"), job("b"), job("c"), job("d")];
    {
        let store = open(&folder.url()).await.unwrap();
        for job in &jobs {
            store.submit(job.clone(), None, None).await.unwrap();
        }
        let claimed = store.claim(E, jobs[1].job_id, claim(1)).await.unwrap();
        assert_eq!(claimed, Some(jobs[1].clone()));
        assert_eq!(store.claim(E, jobs[1].job_id, claim(2)).await.unwrap(), None);
        store.started(E, jobs[1].job_id, 1, Timestamp(1_500)).await.unwrap();
        store.request_cancel(jobs[1].job_id, None).await.unwrap();
        store.claim(E, jobs[2].job_id, claim(1)).await.unwrap();
        store.unclaim(E, jobs[2].job_id).await.unwrap();
        store.finish(E, ended(jobs[3].clone(), 2_000)).await.unwrap();
    }
    let store = open(&folder.url()).await.unwrap();
    let first = store.unfinished(None, 1).await.unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].job, jobs[0]);
    let rest = store.unfinished(Some(first[0].job.job_id), 10).await.unwrap();
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

#[tokio::test]
async fn a_retry_keeps_what_the_earlier_attempt_printed() {
    let folder = Folder::new();
    let store = open(&folder.url()).await.unwrap();
    let first = job("a");
    store.submit(first.clone(), None, None).await.unwrap();
    store.claim(E, first.job_id, claim(1)).await.unwrap();
    let mut outcome = Outcome::never_ran(Status::Failed, Some(Reason::RunnerLost), "gone");
    outcome.stdout = Some("half".into());
    let mut second = first.clone();
    second.attempt = 2;
    second.attempts.push(Past { attempt: 1, runner: Some("http://a".into()), outcome });
    store.retry(E, second.clone(), Timestamp(9_000)).await.unwrap();
    assert_eq!(store.get(first.job_id).await.unwrap(), Some(second.clone()));
    let waiting = store.unfinished(None, 10).await.unwrap();
    assert_eq!(waiting[0].not_before, Some(Timestamp(9_000)));
    assert_eq!(waiting[0].claim, None);
    assert_eq!(store.claim(E, first.job_id, claim(1)).await.unwrap(), None);
    assert_eq!(store.claim(E, first.job_id, claim(2)).await.unwrap(), Some(second));
}

#[tokio::test]
async fn a_key_makes_one_job() {
    let folder = Folder::new();
    let first = job("a");
    {
        let store = open(&folder.url()).await.unwrap();
        let made = store.submit(first.clone(), Some(key("k", 1)), None).await.unwrap();
        assert_eq!(made, Submitted::New { taken: false });
    }
    let store = open(&folder.url()).await.unwrap();
    let again = store.submit(job("a"), Some(key("k", 1)), None).await.unwrap();
    assert_eq!(again, Submitted::Same(first.job_id));
    let other = store.submit(job("b"), Some(key("k", 2)), None).await.unwrap();
    assert_eq!(other, Submitted::Other);
    let found = store.find_key(String::new(), "k".into()).await.unwrap();
    assert_eq!(found, Some((first.job_id, [1; 32])));
    assert_eq!(store.find_key("t".into(), "k".into()).await.unwrap(), None);

    // Also when they come at once.
    let calls = (0..50).map(|_| store.submit(job("c"), Some(key("k2", 1)), None));
    let made = join_all(calls).await;
    let made: Vec<_> = made.into_iter().map(Result::unwrap).collect();
    let new = made.iter().filter(|m| **m == Submitted::New { taken: false }).count();
    assert_eq!(new, 1);
    assert_eq!(list(&*store, Query { limit: 100, ..Query::default() }).await.0.len(), 2);
}

#[tokio::test]
async fn pages_neither_skip_nor_repeat_while_jobs_come() {
    let folder = Folder::new();
    let store = open(&folder.url()).await.unwrap();
    let mut expected = BTreeSet::new();
    for _ in 0..25 {
        let job = job("a");
        expected.insert(job.job_id);
        store.submit(job, None, None).await.unwrap();
    }
    let (mut seen, mut before) = (Vec::<Uuid>::new(), None);
    loop {
        let query = Query { before, limit: 4, ..Query::default() };
        let (page, more) = list(&*store, query).await;
        assert!(page.len() == 4 || !more);
        seen.extend(&page);
        before = page.last().copied();
        store.submit(job("later"), None, None).await.unwrap();
        if !more {
            break;
        }
    }
    let newest_first: Vec<_> = expected.into_iter().rev().collect();
    assert_eq!(seen, newest_first);
}

#[tokio::test]
async fn lists_by_status_reason_and_labels_without_outputs() {
    let folder = Folder::new();
    let store = open(&folder.url()).await.unwrap();
    let mut labelled = job("a");
    labelled.request.labels.insert("k".into(), "v".into());
    labelled.request.task.stdin.stdin = Some("in".into());
    let mut failed = job("b");
    let plain = job("c");
    for job in [&labelled, &failed, &plain] {
        store.submit(job.clone(), None, None).await.unwrap();
    }
    store.finish(E, ended(labelled.clone(), 2_000)).await.unwrap();
    failed.finish(Outcome::never_ran(Status::Failed, Some(Reason::RunnerLost), "x"));
    store.finish(E, failed.clone()).await.unwrap();

    let query = || Query { limit: 100, ..Query::default() };
    let by = async |query| list(&*store, query).await.0;
    let (done, lost, wait) = (labelled.job_id, failed.job_id, plain.job_id);
    assert_eq!(by(query()).await, [wait, lost, done]);
    let status = Some(Status::Pending);
    assert_eq!(by(Query { status, ..query() }).await, [wait]);
    let reason = Some(Reason::RunnerLost);
    assert_eq!(by(Query { reason, ..query() }).await, [lost]);
    let labels = vec![("k".to_owned(), "v".to_owned())];
    let page = store.list(Query { labels: labels.clone(), ..query() }).await.unwrap();
    assert_eq!(page.jobs, [ended(labelled, 2_000).without_outputs()]);
    assert_eq!(by(Query { status, labels, ..query() }).await, [] as [Uuid; 0]);
}

#[tokio::test]
async fn a_page_of_large_jobs_ends_early() {
    let folder = Folder::new();
    let store = open(&folder.url()).await.unwrap();
    let mut large = request("a");
    large.task.env.insert("A".into(), "x".repeat(5 << 20));
    for _ in 0..3 {
        let job = Job::new(Uuid::now_v7(), Timestamp(0), large.clone());
        store.submit(job, None, None).await.unwrap();
    }
    let (page, more) = list(&*store, Query { limit: 100, ..Query::default() }).await;
    assert_eq!((page.len(), more), (2, true));
    let before = page.last().copied();
    let (page, more) = list(&*store, Query { before, limit: 100, ..Query::default() }).await;
    assert_eq!((page.len(), more), (1, false));
}
