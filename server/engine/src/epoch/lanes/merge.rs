//! What leaves the lanes, as it would leave one.

use super::{Lane, Lanes};
use crate::epoch::Output;
use crate::state::{KeyGroups, StateChange};
use crate::time::Micros;

impl<L: Lane> Lanes<L> {
    /// Adds what came out of the lanes in this epoch.
    pub(super) fn gather(&mut self, output: &mut Output) {
        let shares = self.stations.len();
        let mut changes = Vec::with_capacity(shares);
        for (share, station) in self.stations.iter_mut().enumerate() {
            let mut own = std::mem::replace(&mut station.output, Output::new(self.sources));
            for (sum, counts) in output.counts.iter_mut().zip(&own.counts) {
                sum.add(*counts);
            }
            output.rows.append(&mut own.rows);
            output.rejected.append(&mut own.rejected);
            output.late.append(&mut own.late);
            output.nulled += own.nulled;
            output.lost += own.lost;
            let groups = KeyGroups::share(share, shares);
            for change in &mut own.state {
                if let StateChange::DropSlice { key_groups, .. } = change {
                    *key_groups = groups;
                }
            }
            changes.push(own.state);
        }
        output.state = merged(changes);
    }
}

/// The changes of all lanes in the order of one: slices that are gone, then entries, then what is put. Each lane's
/// are in that order.
fn merged(mut changes: Vec<Vec<StateChange>>) -> Vec<StateChange> {
    changes.retain(|of_lane| !of_lane.is_empty());
    if changes.len() < 2 {
        return changes.pop().unwrap_or_default();
    }
    let mut all: Vec<StateChange> = Vec::with_capacity(changes.iter().map(Vec::len).sum());
    let mut rest: Vec<_> = changes.into_iter().map(|of_lane| of_lane.into_iter().peekable()).collect();
    loop {
        let heads = rest.iter_mut().filter_map(|lane| Some((place(lane.peek()?), lane)));
        let Some((_, lane)) = heads.min_by_key(|(place, _)| *place) else { return all };
        let Some(change) = lane.next() else { return all };
        if !joined(all.last_mut(), &change) {
            all.push(change);
        }
    }
}

/// Where a change stands among those of other lanes: no two lanes have a key group in common.
fn place(change: &StateChange) -> (u8, u16, Micros, u8) {
    match change {
        StateChange::DropSlice { operator, slice_end, key_groups } => {
            (0, *operator, *slice_end, key_groups.first)
        }
        StateChange::Delete(key) => (1, key.operator, key.slice_end, key.key_group),
        StateChange::Put(row) => (2, row.key.operator, row.key.slice_end, row.key.key_group),
    }
}

/// Makes two drops of one slice one, where their key groups follow each other.
fn joined(last: Option<&mut StateChange>, change: &StateChange) -> bool {
    let Some(StateChange::DropSlice { operator, slice_end, key_groups }) = last else { return false };
    let StateChange::DropSlice { operator: other, slice_end: end, key_groups: more } = change else {
        return false;
    };
    let follows =
        (*operator, *slice_end) == (*other, *end) && key_groups.last.checked_add(1) == Some(more.first);
    if follows {
        *key_groups = KeyGroups { first: key_groups.first, last: more.last };
    }
    follows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{StateKey, StateRow};

    fn drop_slice(slice_end: i64, first: u8, last: u8) -> StateChange {
        let key_groups = KeyGroups { first, last };
        StateChange::DropSlice { operator: 0, slice_end: Micros(slice_end), key_groups }
    }

    fn put(operator: u16, slice_end: i64, key_group: u8, key: &[u8]) -> StateChange {
        let key = StateKey { operator, slice_end: Micros(slice_end), key_group, key: key.to_vec() };
        StateChange::Put(StateRow { key, value: Vec::new() })
    }

    #[test]
    fn changes_come_as_one_lane_would_give_them() {
        let one = vec![drop_slice(5, 0, 20), drop_slice(7, 0, 20), put(0, 10, 3, b"z"), put(1, 10, 3, b"z")];
        let other =
            vec![drop_slice(5, 21, 41), put(0, 10, 30, b"b"), put(0, 10, 30, b"c"), put(0, 20, 22, b"a")];
        let third = vec![drop_slice(5, 42, 63), drop_slice(7, 42, 63), put(0, 10, 50, b"a")];
        let all = [
            drop_slice(5, 0, 63),
            drop_slice(7, 0, 20),
            drop_slice(7, 42, 63),
            put(0, 10, 3, b"z"),
            put(0, 10, 30, b"b"),
            put(0, 10, 30, b"c"),
            put(0, 10, 50, b"a"),
            put(0, 20, 22, b"a"),
            put(1, 10, 3, b"z"),
        ];
        assert_eq!(merged(vec![one, other, third]), all);
        assert_eq!(merged(vec![Vec::new(), all.to_vec()]), all);
        assert_eq!(merged(Vec::new()), []);
    }
}
