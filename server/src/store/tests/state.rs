//! The durable state of the operators.

use super::*;

#[test]
fn state_is_scanned_in_order_and_dropped_by_slice() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let row = |operator, end, key: &[u8]| StateRow {
        key: StateKey { operator, slice_end: Micros(end), key_group: 1, key: key.to_vec() },
        value: vec![1, 42],
    };
    let rows = [row(0, 20, b"b"), row(0, -10, b"z"), row(1, 10, b"a"), row(0, 20, b"a"), row(0, 10, b"c")];
    let mut commit = epoch(1, &[]);
    commit.state = rows.iter().cloned().map(StateChange::Put).collect();
    store.commit(&commit).unwrap();
    let state = |store: &Store| store.state(GROUP).unwrap().map(Result::unwrap).collect::<Vec<_>>();
    let mut sorted = rows.to_vec();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(state(&store), sorted);

    let mut commit = epoch(2, &[]);
    let again = row(0, 20, b"new");
    commit.state =
        vec![StateChange::DropSlice { operator: 0, slice_end: Micros(20) }, StateChange::Put(again.clone())];
    store.commit(&commit).unwrap();
    assert_eq!(state(&store), [row(0, -10, b"z"), row(0, 10, b"c"), again.clone(), row(1, 10, b"a")]);

    let mut commit = epoch(3, &[]);
    commit.state = vec![StateChange::Delete(row(0, 10, b"c").key)];
    store.commit(&commit).unwrap();
    assert_eq!(state(&store), [row(0, -10, b"z"), again, row(1, 10, b"a")]);
}
