//! Rows that wait for the watermark.

/// (time, key) of rows that are not out yet: sorted runs, the longer ones first.
#[derive(Default)]
pub(crate) struct Pending {
    runs: Vec<Vec<(i64, u32)>>,
}

impl Pending {
    /// Adds rows. A row may be there already.
    pub(crate) fn add(&mut self, mut rows: Vec<(i64, u32)>) {
        if rows.is_empty() {
            return;
        }
        rows.sort_unstable_by(|a, b| b.cmp(a));
        rows.dedup();
        self.runs.push(rows);
        // Runs of like length become one, so there are few and no row is moved often.
        while let [.., one, other] = self.runs.as_slice()
            && one.len() <= other.len()
        {
            let merged = merge(one, other);
            self.runs.truncate(self.runs.len() - 2);
            self.runs.push(merged);
        }
    }

    /// Takes the rows before a time, in no order; one that was added twice may come twice.
    pub(crate) fn take_before(&mut self, time: i64) -> Vec<(i64, u32)> {
        let mut taken = Vec::new();
        for run in &mut self.runs {
            // The latest lie first: what is due is at the end.
            let due = run.partition_point(|(at, _)| *at >= time);
            taken.extend(run.drain(due..));
        }
        self.runs.retain(|run| !run.is_empty());
        taken
    }
}

/// Two runs, the latest first, as one.
fn merge(one: &[(i64, u32)], other: &[(i64, u32)]) -> Vec<(i64, u32)> {
    let mut merged = Vec::with_capacity(one.len() + other.len());
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    while let (Some(a), Some(b)) = (one.peek(), other.peek()) {
        merged.extend(if a >= b { one.next() } else { other.next() });
    }
    merged.extend(one);
    merged.extend(other);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_out_and_nothing_else() {
        let mut pending = Pending::default();
        pending.add(vec![(5, 1), (3, 2), (5, 1)]);
        pending.add(vec![(4, 1)]);
        pending.add(vec![(9, 1), (1, 7)]);
        let mut due = pending.take_before(5);
        due.sort_unstable();
        assert_eq!(due, [(1, 7), (3, 2), (4, 1)]);
        let mut rest = pending.take_before(i64::MAX);
        rest.sort_unstable();
        assert_eq!(rest, [(5, 1), (9, 1)]);
        assert!(pending.runs.is_empty());
    }
}
