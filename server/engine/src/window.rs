//! Windows: which one an event belongs to, and what is kept for each.

mod aggregates;
mod chains;
mod cold;
mod directory;
mod groups;
mod layout;
mod marks;
mod pane;
mod sessions;
mod shared;
mod stretches;

pub(crate) use aggregates::Aggregates;
pub(crate) use chains::{Chains, Link};
pub(crate) use cold::{Ordered, Stored};
pub(crate) use groups::Groups;
pub(crate) use layout::Layout;
pub(crate) use marks::Marks;
pub(crate) use pane::Pane;
pub(crate) use sessions::{Session, Sessions};
pub(crate) use shared::{Parts, Shared, Touched};
pub(crate) use stretches::{Events, Extent, Said, Stretches};

use std::collections::HashMap;

use datafusion::error::DataFusionError;

use crate::key;
use crate::state::codec;

/// Why a pane cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Key(#[from] key::Error),
    #[error(transparent)]
    Codec(#[from] codec::Error),
    #[error(transparent)]
    DataFusion(#[from] DataFusionError),
    #[error("an aggregate saved another state than it declared")]
    States,
    #[error("a key is there twice")]
    Twice,
    #[error(transparent)]
    Unreadable(#[from] crate::state::Unreadable),
}

/// Rows by window, ascending.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Split {
    /// All rows are of one window (that starts here): nothing is copied.
    One(i64),
    /// The rows of each window, in their order.
    Many(Vec<(i64, Vec<u32>)>),
}

/// Splits rows by the start of their window; `None` without rows.
pub(crate) fn split(starts: &[i64]) -> Option<Split> {
    let first = *starts.first()?;
    if starts.iter().all(|s| *s == first) {
        return Some(Split::One(first));
    }
    let mut places = HashMap::new();
    let mut windows: Vec<(i64, Vec<u32>)> = Vec::new();
    let (mut last, mut place) = (None, 0);
    for (row, &start) in starts.iter().enumerate() {
        if last != Some(start) {
            last = Some(start);
            place = *places.entry(start).or_insert_with(|| {
                windows.push((start, Vec::new()));
                windows.len() - 1
            });
        }
        if let Some((_, rows)) = windows.get_mut(place) {
            rows.push(row as u32);
        }
    }
    windows.sort_unstable_by_key(|(start, _)| *start);
    Some(Split::Many(windows))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_split_only_where_they_span_windows() {
        assert_eq!(split(&[]), None);
        assert_eq!(split(&[5, 5]), Some(Split::One(5)));
        assert_eq!(
            split(&[10, 0, 10, 20, 0]),
            Some(Split::Many(vec![(0, vec![1, 4]), (10, vec![0, 2]), (20, vec![3])]))
        );
    }
}
