//! Windows: which one an event belongs to, and what is kept for each.

mod groups;
mod pane;

pub(crate) use groups::Groups;
pub(crate) use pane::Pane;

use std::collections::HashMap;

use datafusion::error::DataFusionError;

use crate::key;
use crate::query::Window;
use crate::state::codec;
use crate::time::{Micros, Span};

impl Window {
    /// Length of a window.
    pub fn size(self) -> Span {
        match self {
            Self::Tumble { size, .. } | Self::Hop { size, .. } | Self::Cumulate { size, .. } => size,
            Self::Session { gap } => gap,
        }
    }

    /// Start of the window of each event, into `starts`. One division per change of window, not per
    /// event: events of a log mostly follow each other in time.
    pub fn assign(self, times: &[i64], starts: &mut Vec<i64>) {
        let (size, offset) = match self {
            Self::Tumble { size, offset }
            | Self::Hop { slide: size, offset, .. }
            | Self::Cumulate { step: size, offset, .. } => (size, offset),
            Self::Session { gap } => (gap, Span(0)),
        };
        starts.clear();
        starts.reserve(times.len());
        let (mut start, mut end) = (i64::MAX, i64::MIN);
        for &time in times {
            if !(start..end).contains(&time) {
                start = Micros(time).window_start(size, offset).0;
                end = start.saturating_add(size.0);
            }
            starts.push(start);
        }
    }
}

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

    fn starts(size: i64, offset: i64, times: &[i64]) -> Vec<i64> {
        let mut starts = vec![99];
        Window::Tumble { size: Span(size), offset: Span(offset) }.assign(times, &mut starts);
        starts
    }

    #[test]
    fn windows_are_half_open_and_aligned_before_1970_too() {
        assert_eq!(starts(10, 0, &[0, 9, 10, -1, -10, -11]), [0, 0, 10, -10, -10, -20]);
        assert_eq!(starts(10, 3, &[2, 3, 12, 13, -8]), [-7, 3, 3, 13, -17]);
    }

    #[test]
    fn every_event_lies_in_its_window() {
        for time in (-50..50).chain([i64::MAX - 20, i64::MIN + 20]) {
            let start = starts(7, 2, &[time])[0];
            assert!(start <= time && time - start < 7 && (start - 2).rem_euclid(7) == 0, "{time}");
        }
    }

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
