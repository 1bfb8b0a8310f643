//! What comes in: clicks, and rows of the group that they look up.

use super::*;

/// Times are in seconds.
#[derive(Debug, Clone)]
pub(super) struct Click {
    pub(super) partition: u32,
    pub(super) user: Option<&'static str>,
    pub(super) other: Option<&'static str>,
    pub(super) kind: &'static str,
    pub(super) n: Option<i64>,
    pub(super) time: i64,
}

#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) user: &'static str,
    pub(super) score: Option<i64>,
    pub(super) stamp: Stamp,
}

/// One epoch: its records, the watermark of the clicks, and up to when the changes are all there.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) clicks: Vec<Click>,
    pub(super) changes: Vec<Change>,
    pub(super) watermark: i64,
    pub(super) complete: i64,
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let user = || prop::option::weighted(0.9, prop::sample::select(USERS.to_vec()));
    let kind = prop::sample::select(vec!["k", "l"]);
    let click = (0_u32..2, user(), user(), kind, prop::option::of(-3_i64..4), -12_i64..12)
        .prop_map(|(partition, user, other, kind, n, time)| Click { partition, user, other, kind, n, time });
    let change =
        (prop::sample::select(USERS.to_vec()), prop::option::of(-9_i64..9), 1_i64..9, -15_i64..12, 0..6);
    let change = change.prop_map(|(user, score, available, event, op)| {
        let op = if op == 0 { Op::Delete } else { Op::Upsert };
        let stamp = Stamp { event_time: Micros(event), available_at: Micros(available), commit: 0, op };
        Change { user, score, stamp }
    });
    let step = (prop::collection::vec(click, 0..8), prop::collection::vec(change, 0..4), 0_i64..7, 0_i64..7);
    prop::collection::vec(step, 1..12).prop_map(|steps| {
        let (mut watermark, mut complete, mut commit) = (-20, -20, 0);
        let step = |(mut clicks, mut changes, on, up): (Vec<Click>, Vec<Change>, i64, i64)| {
            for click in &mut clicks {
                click.time += watermark;
            }
            for change in &mut changes {
                commit += 1;
                // What comes now becomes available after all that was said to be there.
                let stamp = &mut change.stamp;
                stamp.commit = commit;
                stamp.available_at = Micros((stamp.available_at.0 + complete) * SECOND);
                stamp.event_time = Micros((stamp.event_time.0 + complete) * SECOND);
            }
            (watermark, complete) = (watermark + on, complete + up);
            Step { clicks, changes, watermark, complete }
        };
        let mut steps: Vec<Step> = steps.into_iter().map(step).collect();
        steps.push(Step { clicks: Vec::new(), changes: Vec::new(), watermark: 10_000, complete: 10_000 });
        steps
    })
}

fn times(times: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(times.map(Some).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

pub(super) fn click_rows(rows: &[&Click], columns: &[usize]) -> RecordBatch {
    let text = |of: fn(&Click) -> Option<&'static str>| -> ArrayRef {
        Arc::new(rows.iter().map(|row| of(row)).collect::<StringArray>())
    };
    let columns_of: Vec<ArrayRef> = vec![
        text(|c| c.user),
        text(|c| c.other),
        text(|c| Some(c.kind)),
        Arc::new(rows.iter().map(|c| c.n).collect::<Int64Array>()),
        times(rows.iter().map(|c| c.time * SECOND)),
    ];
    RecordBatch::try_new(clicks(), columns_of).unwrap().project(columns).unwrap()
}

pub(super) fn change_rows(rows: &[Change], columns: &[usize]) -> RecordBatch {
    let op = |c: &Change| if c.stamp.op == Op::Delete { "delete" } else { "upsert" };
    let columns_of: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|c| Some(c.user)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|c| c.score).collect::<Int64Array>()),
        times(rows.iter().map(|c| c.stamp.event_time.0)),
        times(rows.iter().map(|c| c.stamp.available_at.0)),
        Arc::new(rows.iter().map(|c| Some(c.stamp.commit as i64)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|c| Some(op(c))).collect::<StringArray>()),
    ];
    RecordBatch::try_new(changes(), columns_of).unwrap().project(columns).unwrap()
}
