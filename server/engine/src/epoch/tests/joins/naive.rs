//! The recomputation: every row of one side is compared with every row of the other.

use std::collections::BTreeMap;

use super::{Definition, Epochs, Step};

/// A row on its way: the epoch in which it is there, its time, the key, and what the features are made of.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) epoch: usize,
    pub(super) time: i64,
    /// The time of the click, once there is one.
    pub(super) other: i64,
    pub(super) id: Option<&'static str>,
    pub(super) kind: Option<&'static str>,
    pub(super) n: Option<i64>,
    pub(super) cells: Vec<Option<i64>>,
}

/// What a join makes of all rows that ever come to it, and for each of these whether it was taken.
pub(super) struct Naive {
    pub(super) rows: Vec<Row>,
    taken: [Vec<bool>; 2],
}

/// `watermarks[e]` is the one before epoch e.
pub(super) fn naive(
    step: Step,
    hold: i64,
    left: &[Row],
    right: &[Row],
    watermarks: &[i64],
) -> (Naive, i64, i64) {
    let left_reach = hold.max(step.upper).max(0);
    let right_reach = (left_reach - step.lower).max(0);
    let kept = |row: &Row, reach: i64, epoch: usize| row.time + reach >= watermarks[epoch];
    let taken = |rows: &[Row], reach: i64| rows.iter().map(|r| kept(r, reach, r.epoch)).collect::<Vec<_>>();
    let taken = [taken(left, left_reach), taken(right, right_reach)];
    let mut rows = Vec::new();
    for (l, _) in left.iter().zip(&taken[0]).filter(|(_, taken)| **taken) {
        let mut found = false;
        for (r, _) in right.iter().zip(&taken[1]).filter(|(_, taken)| **taken) {
            let epoch = l.epoch.max(r.epoch);
            let joins = l.id.is_some()
                && l.id == r.id
                && (step.lower..=step.upper).contains(&(r.time - l.time))
                && (!step.condition || r.n.zip(l.n).is_some_and(|(r, l)| r > l))
                && kept(l, left_reach, epoch)
                && kept(r, right_reach, epoch);
            if joins {
                found = true;
                let cells = l.cells.iter().copied().chain([r.n]).collect();
                rows.push(Row { epoch, other: r.time, cells, ..l.clone() });
            }
        }
        if !found && step.keeps_left {
            // The epoch whose watermark passes the last instant at which a partner could have come.
            let mut epochs = l.epoch..watermarks.len() - 1;
            let epoch = epochs.find(|e| watermarks[e + 1] > l.time + left_reach).unwrap();
            let cells = l.cells.iter().copied().chain([None]).collect();
            rows.push(Row { epoch, cells, ..l.clone() });
        }
    }
    let right_hold = (hold - step.lower).max(0);
    (Naive { rows, taken }, left_reach, right_hold)
}

/// (window end, kind) → rows, xs, x, ys, y.
pub(super) type Features = BTreeMap<(i64, &'static str), [Option<i64>; 5]>;

/// What each epoch should do.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Expected {
    pub(super) features: Features,
    /// Of each source.
    pub(super) applied: Vec<u64>,
    pub(super) late: Vec<u64>,
    pub(super) lost: u64,
}

/// The records of a stream.
pub(super) fn of_stream(stream: usize, epochs: &Epochs) -> Vec<Row> {
    let all =
        epochs.iter().enumerate().flat_map(|(epoch, (events, _))| events.iter().map(move |e| (epoch, e)));
    all.filter(|(_, e)| e.stream == stream)
        .map(|(epoch, e)| Row {
            epoch,
            time: e.time,
            other: e.time,
            id: e.id,
            kind: e.kind,
            n: e.n,
            cells: Vec::new(),
        })
        .collect()
}

pub(super) fn expected(definition: &Definition, epochs: &Epochs) -> Vec<Expected> {
    let mut watermarks = vec![i64::MIN / 2];
    watermarks.extend(epochs.iter().map(|(_, watermark)| *watermark));
    let sources = 0..2 + usize::from(definition.second.is_some());
    let sources: Vec<Vec<Row>> = sources.map(|stream| of_stream(stream, epochs)).collect();
    let (first, mut hold, right_hold) = naive(definition.first, 0, &sources[0], &sources[1], &watermarks);
    let mut taken = vec![first.taken[0].clone(), first.taken[1].clone()];
    let mut rows = first.rows;
    if definition.on_right {
        hold = right_hold;
    }
    if let Some(second) = definition.second {
        let (joined, left_hold, _) = naive(second, hold, &rows, &sources[2], &watermarks);
        assert!(joined.taken[0].iter().all(|taken| *taken), "rows of a join are always in time for the next");
        taken.push(joined.taken[1].clone());
        (rows, hold) = (joined.rows, left_hold);
    }
    let mut open: Features = BTreeMap::new();
    let mut results = Vec::new();
    for epoch in 0..epochs.len() {
        let mut result = Expected::default();
        for (rows, taken) in sources.iter().zip(&taken) {
            let own = || rows.iter().zip(taken).filter(|(row, _)| row.epoch == epoch);
            result.applied.push(own().filter(|(_, taken)| **taken).count() as u64);
            result.late.push(own().filter(|(_, taken)| !**taken).count() as u64);
        }
        for row in rows.iter().filter(|row| row.epoch == epoch) {
            let time = if definition.on_right { row.other } else { row.time };
            let end = time - time.rem_euclid(definition.size) + definition.size;
            let (Some(kind), true) = (row.kind, end + hold > watermarks[epoch]) else {
                result.lost += 1;
                continue;
            };
            let sums = open.entry((end, kind)).or_insert([Some(0), Some(0), None, Some(0), None]);
            let (x, y) = (row.cells[0], row.cells[row.cells.len() - 1]);
            let cells = [Some(1), Some(i64::from(x.is_some())), x, Some(i64::from(y.is_some())), y];
            for (sum, cell) in sums.iter_mut().zip(cells) {
                *sum = cell.map_or(*sum, |cell| Some(sum.unwrap_or(0) + cell));
            }
        }
        let closed = |(end, _): &(i64, &str)| end + hold <= watermarks[epoch + 1];
        result.features = open.iter().filter(|(key, _)| closed(key)).map(|(k, v)| (*k, *v)).collect();
        open.retain(|key, _| !closed(key));
        results.push(result);
    }
    results
}
