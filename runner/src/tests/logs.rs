//! What an operator finds in the log of an execution.

use cloister_api::Reason;
use cloister_tests::Lines;
use uuid::Uuid;

use super::bench::{Bench, failed, task_with};

#[tokio::test]
async fn the_end_of_an_execution_names_it_and_its_attempt() {
    for reason in [None, Some(Reason::Timeout)] {
        let (lines, _guard) = Lines::listen();
        let mut bench = Bench::new(1);
        let id = Uuid::new_v4();
        let call = bench.execute(&task_with(id));
        let job = bench.job().await;
        match reason {
            None => job.complete(),
            Some(reason) => job.end(failed(reason)),
        }
        call.await.unwrap();
        // Its keeper says it, in a task of its own.
        tokio::task::yield_now().await;
        let line = lines.line("an execution ended");
        assert_eq!((&line["execution_id"], &line["attempt"]), (&id.to_string(), &"1".into()));
        assert_eq!(line.get("reason").map(String::as_str), reason.map(Reason::as_str));
    }
}
