//! What an online store shows of a history: of each key the newest event time and the one before it.

use std::collections::BTreeMap;

use crate::oracle::{Key, Row};
use crate::value::Value;

/// A key's rows by event time, each as it was last committed; `None`: no value from there on.
type History = BTreeMap<i64, Option<Vec<Value>>>;

/// Key, event time and value of a row that is shown.
pub type Shown<'o> = (&'o Key, i64, Option<&'o Vec<Value>>);

#[derive(Debug, Default)]
pub struct Online(BTreeMap<Key, History>);

impl Online {
    pub fn commit(&mut self, rows: &[Row]) {
        for row in rows {
            self.0.entry(row.key.clone()).or_default().insert(row.time, row.values.clone());
        }
    }

    /// Latest and previous of each key.
    pub fn shown(&self) -> impl Iterator<Item = Shown<'_>> {
        let all = self.0.iter().map(|(key, rows)| (key, rows.iter().rev().take(2)));
        all.flat_map(|(key, rows)| rows.map(move |(time, values)| (key, *time, values.as_ref())))
    }
}
