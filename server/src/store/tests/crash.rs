//! What is left when the process ends without a word: the directory as it lies there.

use std::fs;
use std::path::Path;

use super::*;

/// Copies the directory of an open store, as a crash at this moment would leave it.
fn image(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            image(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The write-ahead log that is being written: the only one that is not empty.
fn wal(dir: &Path) -> std::path::PathBuf {
    fs::read_dir(dir.join("rocksdb"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "log"))
        .max()
        .unwrap()
}

#[test]
fn a_torn_write_takes_its_whole_epoch_and_nothing_else() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut sizes = vec![];
    for n in 1..=6 {
        let mut commit = epoch(n, &[("a", n as i64, n as i64), ("b", n as i64, n as i64)]);
        let key = StateKey { operator: 0, slice_end: Micros(n as i64), key_group: 0, key: vec![] };
        commit.state = vec![StateChange::Put(StateRow { key, value: vec![1] })];
        store.commit(&commit).unwrap();
        sizes.push(fs::metadata(wal(fixture.dir.path())).unwrap().len());
    }
    let (first, last) = (sizes[0], *sizes.last().unwrap());
    let crashed = tempfile::tempdir().unwrap();
    image(fixture.dir.path(), crashed.path());
    let whole = fs::read(wal(crashed.path())).unwrap();
    let step = ((last - first) / 40).max(1) as usize;
    let mut seen = std::collections::BTreeSet::new();
    for length in (first as usize..=last as usize).step_by(step).chain([last as usize]) {
        let dir = tempfile::tempdir().unwrap();
        image(crashed.path(), dir.path());
        fs::write(wal(dir.path()), &whole[..length]).unwrap();
        let store = Store::open(dir.path(), &fixture.options).unwrap();
        let expected = sizes.iter().filter(|size| **size as usize <= length).count() as u64;
        let n = store.last_epoch(GROUP).unwrap().unwrap().epoch;
        assert_eq!(n, expected, "{length} of {last} bytes");
        seen.insert(n);
        assert_eq!(store.positions(GROUP).unwrap()[0].1.offset, n as i64);
        assert_eq!(store.outbox_last_issued(GROUP).unwrap(), n);
        assert_eq!(store.totals(GROUP).unwrap()[&0].read, 2 * n);
        let first = StateKey { operator: 0, slice_end: Micros::MIN, key_group: 0, key: Vec::new() };
        assert_eq!(store.state(GROUP).scan(&first).unwrap().count() as u64, n);
        let view = store.view();
        assert_eq!(view.outbox(GROUP, None).unwrap().last().unwrap().unwrap().epoch, n);
        for key in ["a", "b"] {
            assert_eq!(read(&view, key)[0], (n as i64, n as i64));
        }
    }
    assert_eq!(seen.len(), 6, "each epoch was the last one once");
}

#[test]
fn a_given_as_of_is_not_contradicted_by_the_next_process() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.commit(&epoch(1, &[("a", 1, 1)])).unwrap();
    fixture.now.store(900_000, SeqCst);
    let as_of = store.view().as_of();
    assert!(as_of >= Micros(900_000), "time runs on in a quiet store");
    let crashed = tempfile::tempdir().unwrap();
    image(fixture.dir.path(), crashed.path());

    fixture.now.store(2_000, SeqCst);
    let next = Store::open(crashed.path(), &fixture.options).unwrap();
    next.register_group(GROUP, &schema(), VERSIONS).unwrap();
    assert!(next.view().as_of() >= as_of);
    let stamp = next.commit(&epoch(2, &[("a", 2, 2)])).unwrap().available_at;
    assert!(stamp > as_of, "the clock went back, the stamps did not");
}

#[test]
fn closing_keeps_the_clock_exactly() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.now.store(5_000, SeqCst);
    let as_of = store.view().as_of();
    assert_eq!(as_of, Micros(5_000));
    store.close().unwrap();
    fixture.now.store(9_000, SeqCst);
    assert_eq!(store.view().as_of(), as_of, "nothing is given after closing");
    drop(store);
    fixture.now.store(5_001, SeqCst);
    let store = fixture.open();
    assert_eq!(store.commit(&epoch(1, &[("a", 1, 1)])).unwrap().available_at, Micros(5_001));
}

#[test]
fn a_quiet_unread_store_writes_nothing_and_a_read_one_keeps_up() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.view();
    let size = || fs::metadata(wal(fixture.dir.path())).unwrap().len();
    let before = size();
    for now in (1_000..1_400).step_by(10) {
        fixture.now.store(now, SeqCst);
        store.view();
    }
    assert_eq!(size(), before, "within the reservation");
    fixture.now.store(60_000_000, SeqCst);
    assert_eq!(size(), before, "nobody reads");
    assert_eq!(store.view().as_of(), Micros(60_000_000), "the first read after a quiet time is not stale");
    assert!(size() > before);
}
