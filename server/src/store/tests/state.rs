//! The durable state of the operators.

use super::*;

#[test]
fn state_is_scanned_in_order_and_dropped_by_slice() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let row_of = |key_group, operator, end, key: &[u8]| StateRow {
        key: StateKey { operator, slice_end: Micros(end), key_group, key: key.to_vec() },
        value: vec![1, 42],
    };
    let row = |operator, end, key: &[u8]| row_of(1, operator, end, key);
    let rows = [row(0, 20, b"b"), row(0, -10, b"z"), row(1, 10, b"a"), row(0, 20, b"a"), row(0, 10, b"c")];
    let mut commit = epoch(1, &[]);
    commit.state = rows.iter().cloned().map(StateChange::Put).collect();
    store.commit(&commit).unwrap();
    let first = StateKey { operator: 0, slice_end: Micros::MIN, key_group: 0, key: Vec::new() };
    let state =
        |store: &Arc<Store>| store.state(GROUP).scan(&first).unwrap().map(Result::unwrap).collect::<Vec<_>>();
    let mut sorted = rows.to_vec();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(state(&store), sorted);

    let mut commit = epoch(2, &[]);
    let again = row(0, 20, b"new");
    let (operator, slice_end, key_groups) = (0, Micros(20), KeyGroups::ALL);
    commit.state =
        vec![StateChange::DropSlice { operator, slice_end, key_groups }, StateChange::Put(again.clone())];
    store.commit(&commit).unwrap();
    assert_eq!(state(&store), [row(0, -10, b"z"), row(0, 10, b"c"), again.clone(), row(1, 10, b"a")]);

    let mut commit = epoch(3, &[]);
    commit.state = vec![StateChange::Delete(row(0, 10, b"c").key)];
    store.commit(&commit).unwrap();
    assert_eq!(state(&store), [row(0, -10, b"z"), again.clone(), row(1, 10, b"a")]);

    // Of some key groups only.
    let groups = [0, 1, 2, 62, 63].map(|key_group| row_of(key_group, 0, 30, b"k"));
    let mut commit = epoch(4, &[]);
    let key_groups = KeyGroups { first: 1, last: 62 };
    commit.state = groups.iter().cloned().map(StateChange::Put).collect();
    store.commit(&commit).unwrap();
    let mut commit = epoch(5, &[]);
    commit.state = vec![StateChange::DropSlice { operator: 0, slice_end: Micros(30), key_groups }];
    store.commit(&commit).unwrap();
    let [first, .., last] = groups;
    assert_eq!(state(&store), [row(0, -10, b"z"), again, first, last, row(1, 10, b"a")]);
}

#[test]
fn entries_are_looked_up_by_the_thousand_and_found_by_position() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let key = |n: u32| StateKey {
        operator: 0,
        slice_end: Micros(20),
        key_group: (n / 1500) as u8,
        key: n.to_be_bytes().to_vec(),
    };
    let put = |n: u32| StateChange::Put(StateRow { key: key(n), value: n.to_le_bytes().to_vec() });
    let mut commit = epoch(1, &[]);
    commit.state = (0..3000).filter(|n| n % 3 == 0).map(put).collect();
    store.commit(&commit).unwrap();

    let keys: Vec<StateKey> = (0..3000).map(key).collect();
    let wanted: Vec<(u8, &[u8])> = keys.iter().map(|k| (k.key_group, k.key.as_slice())).collect();
    let look_up = |slice_end| {
        let mut found: Vec<(usize, Vec<u8>)> = Vec::new();
        let mut each = |place: usize, value: &[u8]| found.push((place, value.to_vec()));
        store.state(GROUP).get(0, Micros(slice_end), &wanted, &mut each).unwrap();
        found
    };
    let expected: Vec<_> =
        (0..3000_u32).filter(|n| n % 3 == 0).map(|n| (n as usize, n.to_le_bytes().to_vec())).collect();
    assert_eq!(look_up(20), expected);
    assert_eq!(look_up(30), []);

    // Another group's state is not seen, and on disk it takes some room.
    let other = store.state(GroupId(GROUP.0 + 1));
    assert_eq!(other.scan(&key(0)).unwrap().count(), 0);
    store.db.rocks().flush_cf(store.db.family(super::super::db::Family::State).unwrap()).unwrap();
    assert!(store.state_bytes(GROUP).unwrap() > 1000);
    assert_eq!(store.state_bytes(GroupId(GROUP.0 + 1)).unwrap(), 0);
}

#[test]
fn what_lies_below_keys_is_found_in_order() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let key = |slice_end, key: &[u8]| StateKey {
        operator: 16,
        slice_end: Micros(slice_end),
        key_group: u8::from(key[0] > b'm'),
        key: key.to_vec(),
    };
    let entries =
        [key(10, b"k"), key(20, b"a1"), key(20, b"a2"), key(20, b"c"), key(20, b"c9"), key(20, b"z1")];
    let put = |key: &StateKey| StateChange::Put(StateRow { key: key.clone(), value: key.key.clone() });
    let mut commit = epoch(1, &[]);
    commit.state = entries.iter().map(put).collect();
    store.commit(&commit).unwrap();
    let below = |slice_end, wanted: &[&[u8]]| {
        let wanted: Vec<(u8, &[u8])> = wanted.iter().map(|key| (u8::from(key[0] > b'm'), *key)).collect();
        let mut found: Vec<(usize, Vec<u8>, Vec<u8>)> = Vec::new();
        let mut each =
            |place: usize, suffix: &[u8], value: &[u8]| found.push((place, suffix.to_vec(), value.to_vec()));
        store.state(GROUP).below(16, Micros(slice_end), &wanted, &mut each).unwrap();
        let expected = |(place, suffix, value): &(usize, Vec<u8>, Vec<u8>)| {
            assert_eq!(*value, [wanted[*place].1, suffix].concat());
            (*place, String::from_utf8(suffix.clone()).unwrap())
        };
        found.iter().map(expected).collect::<Vec<_>>()
    };
    let (one, two, nine) = ("1".to_owned(), "2".to_owned(), "9".to_owned());
    let all: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"y", b"z"];
    let found = [(0, one.clone()), (0, two), (2, String::new()), (2, nine), (5, one)];
    assert_eq!(below(20, &all), found);
    assert_eq!(below(20, &[b"b", b"d"]), []);
    assert_eq!(below(10, &[b"a", b"k", b"z"]), [(1, String::new())]);
    assert_eq!(below(30, &all), []);
}
