//! Where slices and windows lie on the time line.

use crate::query::Window;
use crate::time::{Micros, Span};

/// Windows and the slices that they share. A slice is known by its end; it is as long as the greatest
/// common divisor of what windows start and end at, so each lies in a window with all its events or not at all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    kind: Kind,
    slice: Span,
    size: Span,
    offset: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A slice is a window.
    Single,
    /// A window ends every `slide`.
    Sliding { slide: Span },
    /// A window ends with each slice, and starts where its block does.
    Growing,
}

impl Layout {
    /// The layout of a window. Slices under sessions are as long as the gap, and no window: a session is made
    /// of what its key has in slices that follow each other.
    pub(crate) fn new(window: Window) -> Self {
        match window {
            Window::Tumble { size, offset } => Self { kind: Kind::Single, slice: size, size, offset },
            Window::Hop { slide, size, offset } => {
                Self { kind: Kind::Sliding { slide }, slice: Span(gcd(slide.0, size.0)), size, offset }
            }
            Window::Cumulate { step, size, offset } => {
                Self { kind: Kind::Growing, slice: step, size, offset }
            }
            Window::Session { gap } => Self { kind: Kind::Single, slice: gap, size: gap, offset: Span(0) },
        }
    }

    /// Whether a slice may lie in several windows.
    pub(crate) fn is_shared(self) -> bool {
        self.kind != Kind::Single
    }

    /// Length of a slice.
    pub(crate) fn slice(self) -> Span {
        self.slice
    }

    /// Start of the slice of each event, into `starts`. One division per change of slice, not per event:
    /// events of a log mostly follow each other in time.
    pub(crate) fn assign(self, times: &[i64], starts: &mut Vec<i64>) {
        starts.clear();
        starts.reserve(times.len());
        let (mut start, mut end) = (i64::MAX, i64::MIN);
        for &time in times {
            if !(start..end).contains(&time) {
                start = Micros(time).window_start(self.slice, self.offset).0;
                end = start.saturating_add(self.slice.0);
            }
            starts.push(start);
        }
    }

    /// Where the window that ends here starts.
    pub(crate) fn start(self, window_end: Micros) -> Micros {
        match self.kind {
            Kind::Growing => self.block(window_end),
            Kind::Single | Kind::Sliding { .. } => window_end - self.size,
        }
    }

    /// The first end of a window at or after an instant: of a slice's end, that of the first window that
    /// the slice lies in.
    pub(crate) fn first_end(self, at: Micros) -> Micros {
        Micros(at.0.saturating_sub(1)).window_start(self.step(), self.anchor()) + self.step()
    }

    /// The last end of a window at or before an instant.
    pub(crate) fn last_closed(self, at: Micros) -> Micros {
        at.window_start(self.step(), self.anchor())
    }

    /// End of the last window that a slice lies in.
    pub(crate) fn last_end(self, slice_end: Micros) -> Micros {
        match self.kind {
            Kind::Single => slice_end,
            Kind::Growing => self.block(slice_end) + self.size,
            Kind::Sliding { slide } => {
                Micros((slice_end + self.size).0.saturating_sub(1)).window_start(slide, self.anchor())
            }
        }
    }

    /// End of the window that says that a slice has left; growing windows begin anew without a word.
    pub(crate) fn leaves(self, slice_end: Micros) -> Option<Micros> {
        match self.kind {
            Kind::Single | Kind::Growing => None,
            Kind::Sliding { slide } => Some(self.last_end(slice_end) + slide),
        }
    }

    /// End of the window after the one that ends here.
    pub(crate) fn after(self, window_end: Micros) -> Micros {
        window_end + self.step()
    }

    /// End of the window before the one that ends here.
    pub(crate) fn before(self, window_end: Micros) -> Micros {
        window_end - self.step()
    }

    fn step(self) -> Span {
        match self.kind {
            Kind::Single | Kind::Growing => self.slice,
            Kind::Sliding { slide } => slide,
        }
    }

    /// Start of the block that a slice lies in. Blocks are as long as the longest window, so a window
    /// reaches over one boundary at most.
    pub(crate) fn block(self, slice_end: Micros) -> Micros {
        Micros(slice_end.0.saturating_sub(1)).window_start(self.size, self.offset)
    }

    /// Length of a block.
    pub(crate) fn size(self) -> Span {
        self.size
    }

    /// Window ends are a multiple of the slide away from here.
    fn anchor(self) -> Span {
        Span(self.offset.0.saturating_add(self.size.0))
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn layout(window: Window) -> Layout {
        Layout::new(window)
    }

    fn starts(size: i64, offset: i64, times: &[i64]) -> Vec<i64> {
        let mut starts = vec![99];
        layout(Window::Tumble { size: Span(size), offset: Span(offset) }).assign(times, &mut starts);
        starts
    }

    #[test]
    fn slices_are_half_open_and_aligned_before_1970_too() {
        assert_eq!(starts(10, 0, &[0, 9, 10, -1, -10, -11]), [0, 0, 10, -10, -10, -20]);
        assert_eq!(starts(10, 3, &[2, 3, 12, 13, -8]), [-7, 3, 3, 13, -17]);
    }

    #[test]
    fn every_event_lies_in_its_slice() {
        for time in (-50..50).chain([i64::MAX - 20, i64::MIN + 20]) {
            let start = starts(7, 2, &[time])[0];
            assert!(start <= time && time - start < 7 && (start - 2).rem_euclid(7) == 0, "{time}");
        }
    }

    /// Against the definition of a window, whatever the slide, the size and the offset.
    #[test]
    fn windows_are_those_that_the_definition_names() {
        for (slide, size, offset) in [(2, 6, 0), (4, 6, 1), (6, 6, 2), (3, 10, 1), (1, 5, 0)] {
            let hop = layout(Window::Hop { slide: Span(slide), size: Span(size), offset: Span(offset) });
            for time in -40..40_i64 {
                let mut start = Vec::new();
                hop.assign(&[time], &mut start);
                let slice_end = Micros(start[0]) + hop.slice();
                let ends: Vec<i64> = (-80..80)
                    .filter(|end| (end - size - offset).rem_euclid(slide) == 0)
                    .filter(|end| end - size <= time && time < *end)
                    .collect();
                assert_eq!(hop.first_end(slice_end).0, ends[0], "{slide} {size} {time}");
                assert_eq!(hop.last_end(slice_end).0, *ends.last().unwrap());
                assert_eq!(hop.leaves(slice_end).unwrap().0, ends.last().unwrap() + slide);
            }
        }
        let cumulate = layout(Window::Cumulate { step: Span(2), size: Span(6), offset: Span(1) });
        for (slice_end, start, last) in [(3, 1, 7), (7, 1, 7), (9, 7, 13), (1, -5, 1)] {
            let slice_end = Micros(slice_end);
            assert_eq!(cumulate.start(slice_end).0, start);
            assert_eq!((cumulate.first_end(slice_end), cumulate.last_end(slice_end).0), (slice_end, last));
            assert_eq!(cumulate.leaves(slice_end), None);
        }
    }
}
