//! The clock by which leases run out.
//!
//! A lease is a promise to somebody on another machine, whose time goes on while this machine sleeps.
//! tokio's timers go by `CLOCK_MONOTONIC`, which then stands still; `CLOCK_BOOTTIME` does not
//! (clock_gettime(2)), and a timerfd on it fires as soon as the machine, or a process that was
//! stopped, goes on (timerfd_create(2)).

use std::{
    fmt,
    future::{Future, pending},
    io,
    ops::Add,
    os::fd::{AsFd, AsRawFd, RawFd},
    pin::Pin,
    time::Duration,
};

use nix::{
    sys::{
        time::TimeSpec,
        timerfd::{self, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
    time::{ClockId, clock_gettime},
};
use tokio::io::{Interest, unix::AsyncFd};

/// A point in time, since the machine was booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) Duration);

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

/// A clock with one alarm. A test stands in for it to have time pass, or the alarm ring late.
pub(crate) trait Clock: Send + Sync + fmt::Debug {
    /// What time it is.
    fn now(&self) -> Moment;

    /// Sets the alarm anew, or takes it back. One that is due already rings at once.
    fn set(&self, at: Option<Moment>);

    /// Returns when the alarm rings; once each time that it was set.
    fn rung(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// The kernel's own.
pub(crate) struct BootClock(AsyncFd<Timer>);

/// `TimerFd` does not say its number.
struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl BootClock {
    /// With no alarm set. Must be called within a runtime.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(timerfd::ClockId::CLOCK_BOOTTIME, flags)?;
        // SAFETY: the timer owns its descriptor, which is never replaced, and closed only when it is
        // dropped.
        #[expect(unsafe_code, reason = "AsyncFd takes the caller's word for that")]
        let timer = unsafe { AsyncFd::register_with_interest(Timer(timer), Interest::READABLE) }?;
        Ok(Self(timer))
    }

    async fn readable(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            // It may have been set anew since: then there is nothing to read.
            if let Ok(read) = ready.try_io(|timer| Ok(timer.get_ref().0.wait()?)) {
                return read;
            }
        }
    }
}

impl Clock for BootClock {
    fn now(&self) -> Moment {
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has this clock");
        Moment(now.into())
    }

    fn set(&self, at: Option<Moment>) {
        let timer = &self.0.get_ref().0;
        let set = match at {
            None => timer.unset(),
            Some(Moment(at)) => {
                // 0 would mean "never".
                let at = TimeSpec::from_duration(at.max(Duration::from_nanos(1)));
                timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
            }
        };
        // It fails for a bad descriptor, pointer, flag or number of nanoseconds only
        // (timerfd_settime(2)).
        set.expect("a timer takes any moment");
    }

    fn rung(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            if self.readable().await.is_err() {
                // The runtime ends, and everything with it.
                pending::<()>().await;
            }
        })
    }
}

impl fmt::Debug for BootClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BootClock").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(30);
    const LATE: Duration = Duration::from_secs(3600);
    const PATIENCE: Duration = Duration::from_secs(20);

    async fn rings(clock: &BootClock) {
        timeout(PATIENCE, clock.rung()).await.expect("it rings in time");
    }

    #[tokio::test]
    async fn the_alarm_rings_when_it_was_set_for_and_once() {
        let clock = BootClock::new().unwrap();
        let at = clock.now() + SOON;
        clock.set(Some(at));
        rings(&clock).await;
        assert!(clock.now() >= at);
        assert!(timeout(SOON * 2, clock.rung()).await.is_err(), "once");
        // What is due already, and the beginning of time, which the kernel reads as "never".
        for due in [at, Moment(Duration::ZERO)] {
            clock.set(Some(due));
            rings(&clock).await;
        }
    }

    #[tokio::test]
    async fn an_alarm_can_be_moved_and_taken_back() {
        let clock = BootClock::new().unwrap();
        clock.set(Some(clock.now() + LATE));
        clock.set(Some(clock.now() + SOON));
        rings(&clock).await;
        // Also after it was due, as long as nobody heard it.
        clock.set(Some(clock.now()));
        tokio::task::yield_now().await;
        clock.set(Some(clock.now() + LATE));
        assert!(timeout(SOON, clock.rung()).await.is_err());
        clock.set(Some(clock.now() + SOON));
        clock.set(None);
        assert!(timeout(SOON * 3, clock.rung()).await.is_err());
    }

    /// `/proc/uptime` counts the time for which the machine slept (proc_uptime(5)). On one that never
    /// did, `unshare --time --boottime 100000` around this test shows the same.
    #[tokio::test]
    async fn it_counts_the_time_for_which_the_machine_slept() {
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let now = BootClock::new().unwrap().now().0.as_secs_f64();
        assert!((now - uptime).abs() < 5.0, "{now} s, and not {uptime} s");
    }
}
