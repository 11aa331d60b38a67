//! When something that lasts is worth another line of the log: at once, and then less and less often.

use std::time::Duration;

use tokio::time::Instant;

/// From the first line to the second. The time doubles with each line.
const FIRST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Reminder {
    /// The next line, and how long after the last one it comes.
    next: Option<(Instant, Duration)>,
}

impl Reminder {
    /// It happened again. Whether to say so.
    pub(crate) fn happened(&mut self, now: Instant) -> bool {
        let pause = match self.next {
            Some((due, _)) if now < due => return false,
            // It was over for as long as it would have been left unsaid.
            Some((due, pause)) if now < due + pause => (pause * 2).min(LONGEST),
            _ => FIRST,
        };
        self.next = Some((now + pause, pause));
        true
    }

    /// It is over: the next time is the first one again.
    pub(crate) fn over(&mut self) {
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_said_less_and_less_often() {
        let (mut reminder, began) = (Reminder::default(), Instant::now());
        let mut said = Vec::new();
        for second in 0..4 * 3600 {
            if reminder.happened(began + Duration::from_secs(second)) {
                said.push(second / 60);
            }
        }
        assert_eq!(said, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
    }

    #[test]
    fn what_was_over_is_said_at_once() {
        let (mut reminder, now) = (Reminder::default(), Instant::now());
        assert!(reminder.happened(now) && !reminder.happened(now));
        reminder.over();
        assert!(reminder.happened(now));
        let later = now + FIRST * 3;
        assert!(reminder.happened(later) && !reminder.happened(later + FIRST / 2));
        assert!(reminder.happened(later + FIRST), "it begins anew after a pause");
    }
}
