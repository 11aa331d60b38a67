//! Who leads, as far as this runner has heard: the newest term of each cluster.
//!
//! Coordinators that share a store are a cluster, and one of them leads, in a term with a number.
//! Whoever speaks with a lower number than was heard before does not lead any more, and perhaps does
//! not know it: it was stopped, or cut off, or its request was on the way for long.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use cloister_api::{ExecuteRequest, MAX_LEASE};
use uuid::Uuid;

use crate::clock::Moment;

/// How many clusters are told apart. A runner has one; a few more after stores were made anew.
const CLUSTERS: usize = 1024;
/// After how long a silence a cluster may be forgotten. What would be forgotten is which of its
/// leaders are replaced, so it must be longer than any request of one can be on the way; and longer
/// than any lease, so that nothing that such a leader started can be left.
const SILENCE: Duration = MAX_LEASE.0;

/// Who sends a request, as far as it says so.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Caller {
    /// Those that name none are one more cluster.
    pub(crate) cluster: Option<Uuid>,
    /// Without one, it can't be told whether it leads.
    pub(crate) epoch: Option<u64>,
}

impl Caller {
    /// Who asks for an execution.
    pub(crate) fn of(request: &ExecuteRequest) -> Self {
        Self { cluster: request.cluster, epoch: request.epoch }
    }
}

/// Why a caller is not listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unheard {
    /// This newer term was heard of.
    Stale(u64),
    /// It is of a cluster too many.
    Stranger,
}

/// The newest term of each cluster that was heard of.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    unnamed: u64,
    clusters: HashMap<Uuid, Heard>,
}

#[derive(Debug)]
struct Heard {
    epoch: u64,
    last: Moment,
}

impl Epochs {
    /// Hears of a term, and refuses one that is over.
    ///
    /// To forget a cluster would let its replaced leaders back in. So of more than [`CLUSTERS`], the
    /// one that was silent for longest makes room only if that was for a day, and if it is not among
    /// `busy`, those that own what is kept. Otherwise the new one is refused: whoever can name
    /// thousands of clusters holds the token, and could do worse, but not undo this.
    pub(crate) fn hear(
        &mut self,
        caller: Caller,
        now: Moment,
        busy: impl FnOnce() -> HashSet<Uuid>,
    ) -> Result<(), Unheard> {
        let Some(epoch) = caller.epoch else {
            return Ok(());
        };
        let Some(cluster) = caller.cluster else {
            return newer(&mut self.unnamed, epoch);
        };
        if let Some(heard) = self.clusters.get_mut(&cluster) {
            heard.last = now;
            return newer(&mut heard.epoch, epoch);
        }
        if self.clusters.len() >= CLUSTERS && !self.forget(now, &busy()) {
            return Err(Unheard::Stranger);
        }
        self.clusters.insert(cluster, Heard { epoch, last: now });
        Ok(())
    }

    /// Makes room for one more, if there is one to forget.
    fn forget(&mut self, now: Moment, busy: &HashSet<Uuid>) -> bool {
        let silent = self
            .clusters
            .iter()
            .filter(|(cluster, heard)| heard.last + SILENCE <= now && !busy.contains(cluster));
        let longest = silent.min_by_key(|(_, heard)| heard.last).map(|(cluster, _)| *cluster);
        longest.is_some_and(|cluster| self.clusters.remove(&cluster).is_some())
    }
}

/// A term that is as new as the newest, or newer, and then the newest.
fn newer(newest: &mut u64, epoch: u64) -> Result<(), Unheard> {
    if epoch < *newest {
        return Err(Unheard::Stale(*newest));
    }
    *newest = epoch;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cluster: usize, epoch: u64) -> Caller {
        Caller { cluster: Some(Uuid::from_u128(cluster as u128)), epoch: Some(epoch) }
    }

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    #[test]
    fn terms_of_different_clusters_are_not_compared() {
        let mut epochs = Epochs::default();
        let mut hear = |caller| epochs.hear(caller, at(0), HashSet::new);
        assert_eq!(hear(of(1, 7)), Ok(()));
        assert_eq!(hear(of(2, 3)), Ok(()));
        assert_eq!(hear(Caller { cluster: None, epoch: Some(1) }), Ok(()));
        assert_eq!(hear(of(1, 6)), Err(Unheard::Stale(7)));
        assert_eq!(hear(of(2, 2)), Err(Unheard::Stale(3)));
        assert_eq!(hear(Caller { cluster: None, epoch: Some(0) }), Err(Unheard::Stale(1)));
        // The same again goes, and so does who says nothing of terms.
        assert_eq!(hear(of(1, 7)), Ok(()));
        assert_eq!(hear(Caller { epoch: None, ..of(1, 0) }), Ok(()));
        assert_eq!(hear(of(1, 6)), Err(Unheard::Stale(7)));
    }

    #[test]
    fn a_cluster_is_forgotten_only_after_a_days_silence_and_with_nothing_kept() {
        let mut epochs = Epochs::default();
        let day = SILENCE.as_secs();
        for cluster in 0..CLUSTERS {
            epochs.hear(of(cluster, 7), at(cluster as u64), HashSet::new).unwrap();
        }
        let busy = || HashSet::from([Uuid::from_u128(1)]);
        // Nobody was silent for long enough, and a flood of names changes nothing.
        for stranger in 0..10 {
            let new = of(CLUSTERS + stranger, 1);
            assert_eq!(epochs.hear(new, at(day - 1), busy), Err(Unheard::Stranger));
        }
        // One that is replaced is heard too: it shows that there is somebody to keep out.
        assert_eq!(epochs.hear(of(0, 6), at(day - 1), busy), Err(Unheard::Stale(7)));
        // 0 spoke, 1 has something kept: 2 it is.
        assert_eq!(epochs.hear(of(CLUSTERS, 1), at(day + 2), busy), Ok(()));
        for known in [0, 1, 3] {
            assert_eq!(epochs.hear(of(known, 6), at(day + 2), busy), Err(Unheard::Stale(7)));
        }
        assert_eq!(epochs.hear(of(2, 6), at(day + 2), busy), Err(Unheard::Stranger));
    }
}
