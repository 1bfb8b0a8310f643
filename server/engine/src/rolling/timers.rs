//! When a frame of a key may become empty.

use crate::runs::Runs;

/// For each key and frame, the next instant at which to look whether the frame is empty. Until then there
/// is nothing to report, however many records come: a key is looked at about once in the length of a frame.
pub(crate) struct Timers {
    frames: usize,
    /// Instant, key and frame. What was said to be earlier meanwhile is not armed any more.
    due: Runs<(i64, u32, u16)>,
    /// By key, then frame; [`i64::MAX`]: none.
    armed: Vec<i64>,
}

impl Timers {
    /// For so many frames.
    pub(crate) fn new(frames: usize) -> Self {
        Self { frames, due: Runs::default(), armed: Vec::new() }
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
            *armed = at;
            self.due.push((at, key, frame));
        }
    }

    /// Those that are due before a time, with their keys and frames, in no order; they are not armed any more.
    pub(crate) fn take_before(&mut self, time: i64) -> Vec<(i64, u32, u16)> {
        let Self { frames, due, armed } = self;
        let mut taken = Vec::new();
        due.take(|(at, ..)| *at < time, Ord::cmp, &mut taken);
        taken.retain(|(at, key, frame)| {
            let armed = armed.get_mut(*key as usize * *frames + usize::from(*frame));
            armed.filter(|armed| **armed == *at).map(|armed| *armed = i64::MAX).is_some()
        });
        taken
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
        assert_eq!(timers.take_before(40), []);
        assert_eq!(timers.take_before(100), [(40, 3, 1), (45, 0, 0)]);
        assert_eq!(timers.take_before(100), []);
        timers.arm(3, 1, 60);
        timers.arm(3, 1, 55);
        timers.arm(3, 1, 55);
        assert_eq!(timers.take_before(60), [(55, 3, 1)]);
        assert_eq!(timers.take_before(100), [], "what was earlier has come in its place");
    }
}
