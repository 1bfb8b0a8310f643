//! When a frame of a key may become empty.

use std::collections::BTreeSet;

/// For each key and frame, the next instant at which to look whether the frame is empty. Until then there
/// is nothing to report, however many records come: a key is looked at about once in the length of a frame.
pub(crate) struct Timers {
    frames: usize,
    due: BTreeSet<(i64, u32, u16)>,
    /// By key, then frame; [`i64::MAX`]: none.
    armed: Vec<i64>,
}

impl Timers {
    /// For so many frames.
    pub(crate) fn new(frames: usize) -> Self {
        Self { frames, due: BTreeSet::new(), armed: Vec::new() }
    }

    /// Looks at `at`, or earlier if that was said before.
    pub(crate) fn arm(&mut self, key: u32, frame: u16, at: i64) {
        let place = key as usize * self.frames + usize::from(frame);
        if self.armed.len() <= place {
            self.armed.resize((key as usize + 1) * self.frames, i64::MAX);
        }
        if let Some(armed) = self.armed.get_mut(place)
            && at < *armed
        {
            if *armed != i64::MAX {
                self.due.remove(&(*armed, key, frame));
            }
            *armed = at;
            self.due.insert((at, key, frame));
        }
    }

    /// The first that is due before a time, with its key and frame; it is not armed any more.
    pub(crate) fn pop_before(&mut self, time: i64) -> Option<(i64, u32, u16)> {
        let (at, key, frame) = *self.due.first().filter(|(at, ..)| *at < time)?;
        self.due.pop_first();
        if let Some(armed) = self.armed.get_mut(key as usize * self.frames + usize::from(frame)) {
            *armed = i64::MAX;
        }
        Some((at, key, frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_counts_and_goes_off_once() {
        let mut timers = Timers::new(2);
        timers.arm(3, 1, 50);
        timers.arm(3, 1, 40);
        timers.arm(3, 1, 60);
        timers.arm(0, 0, 45);
        assert_eq!(timers.pop_before(40), None);
        assert_eq!(timers.pop_before(100), Some((40, 3, 1)));
        assert_eq!(timers.pop_before(100), Some((45, 0, 0)));
        assert_eq!(timers.pop_before(100), None);
        timers.arm(3, 1, 60);
        assert_eq!(timers.pop_before(100), Some((60, 3, 1)));
    }
}
