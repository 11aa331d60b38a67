//! The calls of a [`Store`](super::Store), for what stands between one and its user and treats them all
//! alike: each by its name, its arguments, its answer, and what it does.
//!
//! `read` looks; `write` is a change that somebody waits for; `sweep` is a change in the background,
//! which may take as long as it likes.

/// Hands the list of calls to another macro.
macro_rules! store_calls {
    ($macro:ident) => {
        $macro! {
            lead(me: Candidate, ttl: Duration) -> Leadership, read;
            resign(epoch: Epoch) -> (), write;
            submit(job: Job, key: Option<Key>, epoch: Option<Epoch>) -> Submitted, write;
            submit_all(jobs: Vec<Job>, key: Option<Key>, epoch: Option<Epoch>)
                -> Submitted<Vec<Uuid>>, write;
            request_cancel(job: Uuid, epoch: Option<Epoch>) -> bool, write;
            inbox(epoch: Epoch, limit: usize) -> Vec<Message>, write;
            claim(epoch: Epoch, job: Uuid, claim: Claim) -> Option<Job>, write;
            unclaim(epoch: Epoch, job: Uuid) -> (), write;
            started(epoch: Epoch, job: Uuid, attempt: u32, at: Timestamp) -> (), write;
            put_output(epoch: Epoch, piece: Piece) -> (), write;
            finish(epoch: Epoch, job: Job, stored_at: Timestamp) -> (), write;
            retry(epoch: Epoch, job: Job, not_before: Timestamp) -> Option<u64>, write;
            unfinished(after: Option<Uuid>, limit: usize) -> Backlog, read;
            output(job: Uuid, attempt: u32, stream: Stream, row: u32) -> Option<Vec<u8>>, read;
            get(job: Uuid) -> Option<Job>, read;
            find_key(tenant: String, key: String) -> Option<(Uuid, Digest)>, read;
            list(query: Query) -> Page, read;
            ended(jobs: Vec<Uuid>) -> Vec<Uuid>, read;
            clock() -> StoreClock, read;
            set_clock(epoch: Epoch, clock: StoreClock) -> (), write;
            expire(epoch: Epoch, keep: Keep, now: Timestamp) -> usize, sweep;
            figures() -> Figures, read;
            order(order: Order) -> (), write;
            orders() -> Orders, read;
            probe() -> (), write;
        }
    };
}
pub(super) use store_calls;
