//! When sessions end, the earliest first.

use crate::runs::Runs;
use crate::time::Micros;

/// An end, with the slice and the number of the stretch that was the last when it was noted.
pub(super) type End = (Micros, Micros, u32);

/// Ends of sessions. Events that come later make some of them untrue: whoever takes one looks whether it still
/// holds.
#[derive(Default)]
pub(super) struct Ends(Runs<End>);

impl Ends {
    /// Notes an end.
    pub(super) fn push(&mut self, end: Micros, slice_end: Micros, number: u32) {
        self.0.push((end, slice_end, number));
    }

    /// Notes many.
    pub(super) fn extend(&mut self, ends: impl Iterator<Item = End>) {
        self.0.extend(ends);
    }

    /// Forgets what was noted of a slice.
    pub(super) fn forget(&mut self, slice_end: Micros) {
        self.0.retain(|(_, slice, _)| *slice != slice_end);
    }

    /// Takes the ends that are not after `edge`, in no order.
    pub(super) fn take_until(&mut self, edge: Micros, taken: &mut Vec<End>) {
        self.0.take(|(end, ..)| *end <= edge, Ord::cmp, taken);
    }
}
