//! From the entries in the store to the lanes: each reads those of its key groups, on a thread of its own.

use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};

use super::{Lane, Lanes, Station};
use crate::epoch::{Emission, Error, Output};
use crate::query::FeatureQuery;
use crate::state::{KeyGroups, StateRow};
use crate::time::Micros;
use crate::workers::Workers;

/// Entries handed to a lane at a time, and how often it may be behind.
const CHUNK: usize = 1024;
const CHUNKS: usize = 8;

impl<L: Lane> Lanes<L> {
    /// Lanes with the state that `rows` holds, however many there were when it was written.
    pub(in crate::epoch) fn restore(
        query: Arc<FeatureQuery>,
        emission: Emission,
        watermark: Micros,
        workers: &Arc<Workers>,
        rows: &mut dyn Iterator<Item = StateRow>,
    ) -> Result<Self, Error> {
        let sources = query.sources.len();
        let plan = Arc::new(L::plan(query, emission)?);
        let lanes = match workers.threads() {
            1 => vec![L::restore(&plan, emission, watermark, rows)?],
            shares => shared(&plan, emission, watermark, shares, rows)?,
        };
        let station = |lane| Box::new(Station { lane, inbox: Vec::new(), output: Output::new(sources) });
        Ok(Self {
            plan,
            allowed_lateness: emission.allowed_lateness,
            sources,
            workers: Arc::clone(workers),
            stations: lanes.into_iter().map(station).collect(),
            watermark,
        })
    }
}

fn shared<L: Lane>(
    plan: &Arc<L::Plan>,
    emission: Emission,
    watermark: Micros,
    shares: usize,
    rows: &mut dyn Iterator<Item = StateRow>,
) -> Result<Vec<L>, Error> {
    std::thread::scope(|scope| {
        let (mut senders, mut lanes) = (Vec::with_capacity(shares), Vec::with_capacity(shares));
        for _ in 0..shares {
            let (sender, rows) = bounded::<Vec<StateRow>>(CHUNKS);
            let restore = move || L::restore(plan, emission, watermark, &mut rows.into_iter().flatten());
            lanes.push(std::thread::Builder::new().name("restore".into()).spawn_scoped(scope, restore)?);
            senders.push(sender);
        }
        hand_out(rows, &senders);
        drop(senders);
        let joined = lanes.into_iter().map(|lane| match lane.join() {
            Ok(lane) => lane,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect()
    })
}

/// Gives every entry to the lane of its key group; ends early where a lane does not take any more.
fn hand_out(rows: &mut dyn Iterator<Item = StateRow>, lanes: &[Sender<Vec<StateRow>>]) {
    let mut chunks: Vec<Vec<StateRow>> = lanes.iter().map(|_| Vec::with_capacity(CHUNK)).collect();
    for row in rows {
        let share = KeyGroups::share_of(row.key.key_group, lanes.len());
        let (Some(chunk), Some(lane)) = (chunks.get_mut(share), lanes.get(share)) else { return };
        chunk.push(row);
        if chunk.len() == CHUNK && lane.send(std::mem::replace(chunk, Vec::with_capacity(CHUNK))).is_err() {
            return;
        }
    }
    for (chunk, lane) in chunks.into_iter().zip(lanes) {
        if lane.send(chunk).is_err() {
            return;
        }
    }
}
