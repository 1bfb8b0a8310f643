//! SESSION from its definition: all rows of a key sorted and cut at the gaps, in every epoch anew.

use std::collections::{BTreeMap, BTreeSet};

use super::{Arrival, Key, Operator, Row, in_order};
use crate::definition::{Bound, Definition};

pub struct Sessions<'d> {
    definition: &'d Definition,
    bounds: &'d [Bound],
    gap: i64,
    /// Those that are not closed to late records, as the previous epoch left them.
    kept: BTreeMap<Key, Vec<Session>>,
    /// What this epoch makes of them.
    cut: BTreeMap<Key, Vec<Cut>>,
}

#[derive(Debug, Clone, Default)]
struct Session {
    arrivals: Vec<Arrival>,
    /// Where its row stands, if it is closed and one came out.
    row: Option<i64>,
    /// Its rows do not come to stand before this.
    floor: Option<i64>,
}

/// A session, the old ones that are in it, and whether a row of this epoch is.
#[derive(Debug)]
struct Cut {
    session: Session,
    old: Vec<Session>,
    is_touched: bool,
}

impl<'d> Sessions<'d> {
    pub fn new(definition: &'d Definition, gap: i64, bounds: &'d [Bound]) -> Self {
        Self { definition, bounds, gap, kept: BTreeMap::new(), cut: BTreeMap::new() }
    }

    fn end(&self, session: &Session) -> i64 {
        session.last() + self.gap
    }

    /// A row as HAVING leaves it; `is_out`: a row may be out that does not hold any more.
    fn row(&self, at: i64, key: &Key, session: &Session, first: bool, is_out: bool) -> Option<Row> {
        let start = session.arrivals.iter().map(|arrival| arrival.time).min().unwrap();
        let bounds = self.bounds.iter().map(|bound| bound.of((start, self.end(session))));
        let aggregates = self.definition.aggregated(&in_order(session.arrivals.iter()));
        let values = self.definition.row(key.iter().cloned().chain(bounds).chain(aggregates).collect());
        (values.is_some() || is_out).then(|| Row { time: at, key: key.clone(), first, values })
    }
}

impl Session {
    fn last(&self) -> i64 {
        self.arrivals.iter().map(|arrival| arrival.time).max().unwrap()
    }
}

impl Operator for Sessions<'_> {
    fn is_late(&self, _time: i64, _before: i64) -> bool {
        false
    }

    /// A row is late whose session is over, with all that came in the epoch.
    fn take(&mut self, arrivals: Vec<Arrival>, before: i64) -> Vec<bool> {
        let mut late = vec![false; arrivals.len()];
        let keys: BTreeSet<Key> =
            self.kept.keys().cloned().chain(arrivals.iter().map(|arrival| arrival.key.clone())).collect();
        for key in keys {
            // Each with the session that it was of, or its number among those that came.
            let mut all: Vec<(&Arrival, Result<usize, usize>)> = Vec::new();
            let none = Vec::new();
            let kept = self.kept.get(&key).unwrap_or(&none);
            for (number, session) in kept.iter().enumerate() {
                all.extend(session.arrivals.iter().map(|arrival| (arrival, Ok(number))));
            }
            let own = arrivals.iter().enumerate().filter(|(_, arrival)| arrival.key == key);
            all.extend(own.map(|(number, arrival)| (arrival, Err(number))));
            all.sort_by_key(|(arrival, _)| arrival.time);
            let mut cuts = Vec::new();
            for part in all.chunk_by(|one, other| other.0.time - one.0.time < self.gap) {
                let came: Vec<usize> = part.iter().filter_map(|(_, from)| from.err()).collect();
                let old: BTreeSet<usize> = part.iter().filter_map(|(_, from)| from.ok()).collect();
                let arrivals = part.iter().map(|(arrival, _)| (*arrival).clone()).collect();
                let session = Session { arrivals, row: None, floor: None };
                if self.end(&session) + self.definition.lateness <= before {
                    assert!(old.is_empty(), "a session that is kept is not over");
                    for number in came {
                        late[number] = true;
                    }
                    continue;
                }
                let old = old.into_iter().map(|number| kept[number].clone()).collect();
                cuts.push(Cut { session, old, is_touched: !came.is_empty() });
            }
            self.cut.insert(key, cuts);
        }
        late
    }

    fn last_end(&self) -> Option<i64> {
        self.cut.values().flatten().map(|cut| self.end(&cut.session)).max()
    }

    fn close(&mut self, before: i64, now: i64) -> Vec<Row> {
        let Definition { lateness, on_update, .. } = *self.definition;
        let (mut rows, mut updates, mut retracted) = (Vec::new(), Vec::new(), Vec::new());
        self.kept.clear();
        for (key, cuts) in std::mem::take(&mut self.cut) {
            for Cut { mut session, old, is_touched } in cuts {
                let end = self.end(&session);
                session.row = old.iter().filter_map(|o| o.row).find(|at| *at == end);
                session.floor = old.iter().filter_map(|o| o.floor).max();
                let mut gone: BTreeSet<i64> =
                    old.iter().filter_map(|o| o.row).filter(|at| *at != end).collect();
                if end <= before && is_touched {
                    // It was closed all along.
                    let first = session.row.is_none();
                    let row = self.row(end, &key, &session, first, !first || on_update);
                    session.row = row.as_ref().map(|_| end);
                    rows.extend(row);
                } else if end > before && end <= now {
                    let row = self.row(end, &key, &session, true, on_update);
                    session.row = row.as_ref().map(|_| end);
                    rows.extend(row);
                } else if end > now && on_update && is_touched {
                    let floor = session.floor.max(gone.last().copied());
                    let at = floor.unwrap_or(i64::MIN).max(session.last());
                    if gone.remove(&at) {
                        session.floor = Some(at);
                    }
                    updates.extend(self.row(at, &key, &session, true, true));
                }
                let deleted = |at| Row { time: at, key: key.clone(), first: false, values: None };
                retracted.extend(gone.into_iter().map(deleted));
                if end + lateness > now {
                    self.kept.entry(key.clone()).or_default().push(session);
                }
            }
        }
        // How a session closed is not overwritten by an event at its very end.
        let closed: BTreeSet<(i64, Key)> = rows.iter().map(|row| (row.time, row.key.clone())).collect();
        rows.extend(updates.into_iter().filter(|row| !closed.contains(&(row.time, row.key.clone()))));
        rows.extend(retracted);
        rows
    }
}
