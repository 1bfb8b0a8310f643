//! Folding of the journal: only what is old enough and behind the checkpoint, and once.

use super::*;
use crate::store::fold::FOLD;

const N: u64 = FOLD as u64;

/// Commits epochs `first..=last`, each opened at its number and reading two records.
fn commit(store: &Store, first: u64, last: u64, checkpoint: bool) {
    for n in first..=last {
        let mut commit = epoch(n, &[]);
        let (partition, to) = (commit.positions[0].0, 2 * n as i64);
        commit.journal.opened_at = Micros(n as i64);
        commit.journal.ranges = vec![JournalRange { partition, from: to - 2, to, count: 2, digest: n }];
        commit.journal.checkpoint = checkpoint;
        store.commit(&commit).unwrap();
    }
}

#[test]
fn a_thousand_epochs_become_one_entry_and_nothing_is_lost_from_the_sums() {
    let fixture = Fixture::new();
    let store = fixture.open();
    commit(&store, 1, 2 * N + 10, true);
    let totals = store.totals(GROUP).unwrap();
    let recent = store.journal(GROUP, N + 1, usize::MAX).unwrap();

    assert!(!store.fold_journal(GROUP, Micros(N as i64)).unwrap(), "the last of them is not old enough");
    assert!(store.fold_journal(GROUP, Micros(N as i64 + 1)).unwrap());
    assert!(!store.fold_journal(GROUP, Micros(N as i64 + 1)).unwrap(), "once");

    let check = |store: &Store| {
        let journal = store.journal(GROUP, 0, usize::MAX).unwrap();
        let (folded, rest) = journal.split_first().unwrap();
        assert_eq!((folded.first_epoch, folded.epoch), (Some(1), N));
        assert_eq!(
            (folded.ranges[0].from, folded.ranges[0].to, folded.ranges[0].count),
            (0, 2 * N as i64, 2 * N)
        );
        assert_eq!(folded.counts[0].read, 2 * N);
        assert_eq!(rest, recent, "the others are as they were");
        assert_eq!(store.journal(GROUP, N / 2, 1).unwrap()[0].epoch, N, "found by an epoch that it holds");
        assert_eq!(store.totals(GROUP).unwrap(), totals);
        assert_eq!(store.last_epoch(GROUP).unwrap().unwrap().epoch, 2 * N + 10);
    };
    check(&store);
    store.close().unwrap();
    drop(store);
    let store = fixture.open();
    check(&store);
    assert!(store.fold_journal(GROUP, Micros(i64::MAX)).unwrap(), "goes on where it was");
    assert_eq!(store.journal(GROUP, 0, usize::MAX).unwrap().len(), 2 + 10);
}

#[test]
fn what_a_restart_applies_again_is_not_folded() {
    let fixture = Fixture::new();
    let store = fixture.open();
    commit(&store, 1, N, true);
    assert!(!store.fold_journal(GROUP, Micros(i64::MAX)).unwrap(), "the checkpoint itself is in it");
    commit(&store, N + 1, 2 * N + 10, false);
    assert!(!store.fold_journal(GROUP, Micros(i64::MAX)).unwrap());
    assert_eq!(store.since_checkpoint(GROUP).unwrap().len(), N as usize + 11);
    commit(&store, 2 * N + 11, 2 * N + 11, true);
    assert!(store.fold_journal(GROUP, Micros(i64::MAX)).unwrap());
    assert!(store.fold_journal(GROUP, Micros(i64::MAX)).unwrap());
    assert_eq!(store.since_checkpoint(GROUP).unwrap().len(), 1);
}
