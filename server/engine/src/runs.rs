//! Things that fall due, the earliest first.

use std::cmp::Ordering;

/// What is not due yet, as sorted runs: the latest lie first, so what falls due is cut off at the end. What is
/// added waits unsorted until something is taken; most of what one epoch brings falls due in the next, and is
/// sorted once.
pub(crate) struct Runs<T> {
    runs: Vec<Vec<T>>,
    loose: Vec<T>,
}

impl<T> Default for Runs<T> {
    fn default() -> Self {
        Self { runs: Vec::new(), loose: Vec::new() }
    }
}

impl<T: Copy> Runs<T> {
    /// Adds one thing.
    pub(crate) fn push(&mut self, thing: T) {
        self.loose.push(thing);
    }

    /// Adds many.
    pub(crate) fn extend(&mut self, things: impl IntoIterator<Item = T>) {
        self.loose.extend(things);
    }

    /// Lets go of some.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.runs.iter_mut().chain([&mut self.loose]).for_each(|run| run.retain(&mut keep));
    }

    /// Takes what is due, run by run, each in `order`; `order` has what is due before what is not.
    pub(crate) fn take(
        &mut self,
        is_due: impl Fn(&T) -> bool,
        order: impl Fn(&T, &T) -> Ordering,
        taken: &mut Vec<T>,
    ) {
        for run in &mut self.runs {
            let due = run.partition_point(|thing| !is_due(thing));
            taken.extend(run.drain(due..).rev());
        }
        self.runs.retain(|run| !run.is_empty());
        let first = taken.len();
        self.loose.retain(|thing| {
            let is_due = is_due(thing);
            if is_due {
                taken.push(*thing);
            }
            !is_due
        });
        if let Some(due) = taken.get_mut(first..) {
            due.sort_unstable_by(&order);
        }
        self.sort(order);
    }

    /// Makes a run of what is loose.
    fn sort(&mut self, order: impl Fn(&T, &T) -> Ordering) {
        if self.loose.is_empty() {
            return;
        }
        let mut run = std::mem::take(&mut self.loose);
        run.sort_unstable_by(|one, other| order(other, one));
        self.runs.push(run);
        // Runs of like length become one, so there are few and nothing is moved often.
        while let [.., one, other] = self.runs.as_slice()
            && one.len() <= other.len().saturating_mul(2)
        {
            let other = self.runs.pop().unwrap_or_default();
            if let Some(one) = self.runs.last_mut() {
                one.extend(other);
                // Sorted runs are merged, not sorted again.
                one.sort_by(|one, other| order(other, one));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_due_comes_out_once_and_nothing_else(
            steps in prop::collection::vec((prop::collection::vec(0_u32..100, 0..20), 0_u32..20), 1..20),
        ) {
            let (mut runs, mut naive, mut edge) = (Runs::default(), Vec::new(), 0);
            for (things, step) in steps {
                naive.extend(things.iter().copied());
                runs.extend(things);
                edge += step;
                let mut taken = Vec::new();
                runs.take(|thing| *thing < edge, Ord::cmp, &mut taken);
                taken.sort_unstable();
                let mut due: Vec<u32> = naive.iter().copied().filter(|thing| *thing < edge).collect();
                due.sort_unstable();
                prop_assert_eq!(taken, due);
                naive.retain(|thing| *thing >= edge);
                prop_assert!(runs.runs.len() <= 9, "{} runs", runs.runs.len());
            }
            runs.retain(|thing| thing % 2 == 0);
            let mut taken = Vec::new();
            runs.take(|_| true, Ord::cmp, &mut taken);
            prop_assert!(taken.iter().all(|thing| thing % 2 == 0));
            prop_assert_eq!(taken.len(), naive.iter().filter(|thing| *thing % 2 == 0).count());
        }
    }
}
