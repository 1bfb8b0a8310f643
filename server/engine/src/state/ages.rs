//! How long ago each key changed, and which keys to let go of first.

use crate::time::Micros;

/// Of each key, by number, the checkpoint at which it had changed last, or was put back.
#[derive(Default)]
pub(crate) struct Ages {
    checkpoints: u32,
    changed_at: Vec<u32>,
}

/// A key that may be let go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    changed_at: u32,
    /// Its number.
    pub(crate) key: u32,
    /// When it has something to do next, and the slice with the entry that says so.
    pub(crate) wakes: Option<(Micros, Micros)>,
}

impl Ages {
    /// Another checkpoint.
    pub(crate) fn checkpoint(&mut self) {
        self.checkpoints += 1;
    }

    /// A key changed.
    pub(crate) fn note(&mut self, key: u32) {
        let place = key as usize;
        if self.changed_at.len() <= place {
            self.changed_at.resize(place + 1, 0);
        }
        if let Some(changed_at) = self.changed_at.get_mut(place) {
            *changed_at = self.checkpoints;
        }
    }

    /// A key that may be let go of.
    pub(crate) fn candidate(&self, key: u32, wakes: Option<(Micros, Micros)>) -> Candidate {
        let changed_at = self.changed_at.get(key as usize).copied().unwrap_or_default();
        Candidate { changed_at, key, wakes }
    }
}

/// Of `all` keys, which take `total` bytes, as many as have to go so that the others take no more than `bytes`: those
/// candidates that did not change for longest.
pub(crate) fn oldest(
    mut candidates: Vec<Candidate>,
    all: usize,
    total: usize,
    bytes: usize,
) -> Vec<Candidate> {
    let gone = all as u128 * total.saturating_sub(bytes) as u128;
    let gone = usize::try_from(gone.div_ceil(total.max(1) as u128)).unwrap_or(usize::MAX);
    if gone < candidates.len() {
        candidates.select_nth_unstable(gone);
        candidates.truncate(gone);
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_change_for_longest_goes_first() {
        let mut ages = Ages::default();
        for key in 0..10 {
            ages.note(key);
        }
        ages.checkpoint();
        (0..8).rev().filter(|key| key % 2 == 0).for_each(|key| ages.note(key));
        let candidates = || (0..10).map(|key| ages.candidate(key, None)).collect();
        let keys = |bytes| {
            let mut keys: Vec<u32> =
                oldest(candidates(), 10, 1_000, bytes).iter().map(|gone| gone.key).collect();
            keys.sort_unstable();
            keys
        };
        assert_eq!(keys(1_000).len(), 0);
        assert_eq!(keys(600), [1, 3, 5, 7]);
        assert_eq!(keys(399), [0, 1, 3, 5, 7, 8, 9]);
        assert_eq!(keys(0).len(), 10);
    }
}
