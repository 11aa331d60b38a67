//! glibc's allocator, told to keep little.

/// At most two arenas, instead of eight for each core: each keeps what was once in use, so that a service
/// that works for days would grow by what its threads happened to share out. Measured: resident memory of
/// `cloister up` from the 1,000th to the 20,000th job grew by 9.1 % without this, by 3.6 % with it
/// (`docs/endurance.md`).
///
/// To be called before there is a second thread (mallopt(3)).
pub(crate) fn keep_little() {
    #[cfg(target_env = "gnu")]
    {
        const ARENAS: i32 = 2;
        // SAFETY: it takes two numbers, and there is one thread.
        #[allow(unsafe_code)]
        // It refuses only what it does not know, and then nothing is lost.
        let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
    }
}
