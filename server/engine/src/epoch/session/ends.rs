//! When sessions end, the earliest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Micros;

/// Ends of sessions, each with the slice and the number of the stretch that was the last when it was noted.
/// Events that come later make some of them untrue: whoever takes one looks whether it still holds.
#[derive(Default)]
pub(super) struct Ends(BinaryHeap<Reverse<(Micros, Micros, u32)>>);

impl Ends {
    /// Notes an end.
    pub(super) fn push(&mut self, end: Micros, slice_end: Micros, number: u32) {
        self.0.push(Reverse((end, slice_end, number)));
    }

    /// Notes many.
    pub(super) fn extend(&mut self, ends: impl Iterator<Item = (Micros, Micros, u32)>) {
        self.0.extend(ends.map(Reverse));
    }

    /// Forgets what was noted of a slice.
    pub(super) fn forget(&mut self, slice_end: Micros) {
        self.0.retain(|Reverse((_, slice, _))| *slice != slice_end);
    }

    /// The earliest end that is not after `edge`.
    pub(super) fn pop(&mut self, edge: Micros) -> Option<(Micros, Micros, u32)> {
        let Reverse((end, ..)) = self.0.peek()?;
        if *end > edge {
            return None;
        }
        self.0.pop().map(|Reverse(end)| end)
    }
}
