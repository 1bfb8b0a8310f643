//! Re-derives the engine's state at a start: applies again what was committed since the last
//! checkpoint, from the same records, and commits nothing.
//!
//! The journal says of each epoch what it read, under which clock, watermark and schemas, and what came
//! out of it. Records that are gone or are not the same bytes, and results that are not the same rows,
//! halt the pipeline: features that cannot be recomputed are not served as if they could.

use std::time::{Duration, Instant};

use millpond_engine::epoch::{CloseCursor, Engine, Input, SourceBatch};

use super::accounting;
use super::decode::{CHUNK, Decode, Failure};
use super::halt::{Halt, Stop};
use super::schemas::Lookup;
use crate::catalog::Stream;
use crate::log::digest::RangeDigest;
use crate::log::{Budget, Reader, Records};
use crate::store::commit::{Accounting, JournalEntry, JournalRange};

/// A log that gives nothing for this long, though it must, does not answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes read at a time.
const BYTES: usize = 8 << 20;

/// One source as it is read again.
pub struct Again {
    /// The stream.
    pub stream: std::sync::Arc<Stream>,
    /// Its log, opened for this.
    pub reader: Box<dyn Reader>,
    /// What turns its records into rows.
    pub decode: Decode,
}

/// Brings the engine from the state of a checkpoint to that of the last epoch. `entries` are the epochs
/// since, `cursor` is where the checkpoint's own epoch left a large close.
pub fn replay(
    engine: &mut Engine,
    sources: &mut [Again],
    entries: &[JournalEntry],
    mut cursor: Option<CloseCursor>,
    lookup: &mut dyn FnMut(u32) -> Lookup,
) -> Result<(), Stop> {
    for entry in entries {
        let (batches, mut counts) = read(sources, entry, lookup)?;
        engine.look_up_to(&entry.source_watermarks);
        let output = engine.apply(&Input {
            batches: &batches,
            deletes: &[],
            watermark: entry.watermark,
            finished: false, // what a finish moved is in the journalled watermark
            cursor: cursor.take(),
            max_rows: entry.max_rows,
            checkpoint: entry.checkpoint,
        })?;
        counts = accounting::close(&counts, &output.counts)?;
        let rows: u64 = output.rows.iter().map(|batch| batch.keys.len() as u64).sum();
        if rows != entry.rows || counts != entry.counts || output.cursor != entry.close_cursor {
            return Err(differs(entry, rows).into());
        }
        cursor = output.cursor;
    }
    Ok(())
}

/// Reads the ranges of one epoch again and decodes them under its clock and its judgement of schemas.
fn read(
    sources: &mut [Again],
    entry: &JournalEntry,
    lookup: &mut dyn FnMut(u32) -> Lookup,
) -> Result<(Vec<SourceBatch>, Vec<Accounting>), Stop> {
    let mut counts = vec![Accounting::default(); sources.len()];
    let mut batches = Vec::new();
    for source in &mut *sources {
        source.decode.forget_unknown();
    }
    let mut lookup = |id: u32| match lookup(id) {
        _ if entry.unknown_schema_ids.contains(&id) => Lookup::Unknown,
        Lookup::Unknown => Lookup::NotYet(format!("the schema registry does not know id {id} any more")),
        known => known,
    };
    for range in &entry.ranges {
        let at = usize::from(range.partition.source);
        let (Some(source), Some(counts)) = (sources.get_mut(at), counts.get_mut(at)) else {
            return Err(Halt::new("the journal names a source that the group does not have", DEFECT).into());
        };
        for records in source.records(range)? {
            // Only ingested groups know deletes, and they have no state to derive.
            let decoded = source.decode.chunk(range.partition, &records, entry.opened_at, None, &mut lookup);
            let decoded = decoded.map_err(|failure| match failure {
                Failure::NotYet(reason) => Stop::Wait(reason),
                Failure::Defect(error) => Halt::new(error.to_string(), DEFECT).into(),
            })?;
            counts.read += decoded.counts.read;
            counts.quarantined += decoded.counts.quarantined;
            counts.tombstones += decoded.counts.tombstones;
            counts.heartbeats += decoded.counts.heartbeats;
            batches.extend(decoded.rows);
        }
    }
    Ok((batches, counts))
}

impl Again {
    /// The records of one range, the same that were read before.
    fn records(&mut self, range: &JournalRange) -> Result<Vec<Records>, Stop> {
        let partition = range.partition.partition;
        let (first, _) = self.reader.range(partition)?;
        if range.from < first {
            return Err(self.gone(range, first).into());
        }
        self.reader.seek(partition, range.from)?;
        let (mut chunks, mut digest) = (Vec::new(), RangeDigest::default());
        let mut heard = Instant::now();
        while digest.count < range.count {
            let left = usize::try_from(range.count - digest.count).unwrap_or(usize::MAX);
            let budget = Budget { records: left.min(CHUNK), bytes: BYTES, wait: Duration::ZERO };
            let mut records = Records::default();
            if self.reader.poll(partition, budget, &mut records)? == 0 {
                if self.ended(partition)? {
                    break;
                }
                if heard.elapsed() > PATIENCE {
                    let log = self.stream.name.to_string();
                    let detail = format!("partition {partition} gives nothing from offset {} on", range.from);
                    return Err(crate::log::Error::Unavailable { log, detail }.into());
                }
                self.reader.wait(Duration::from_millis(100));
                continue;
            }
            heard = Instant::now();
            for record in &records.records {
                digest.update(&records, record);
            }
            chunks.push(records);
        }
        if digest.count != range.count || digest.value() != range.digest {
            return Err(self.changed(range).into());
        }
        Ok(chunks)
    }

    fn ended(&mut self, partition: u32) -> Result<bool, Stop> {
        let ends = self.reader.ends()?;
        Ok(ends.iter().any(|end| end.partition == partition && end.reached && !end.blocked))
    }

    fn gone(&self, range: &JournalRange, first: i64) -> Halt {
        Halt::new(
            format!(
                "the state since the last checkpoint cannot be derived again: partition {} of {} begins at offset \
                 {first}, and offset {} is needed",
                range.partition.partition, self.stream.name, range.from
            ),
            "records were deleted within pipeline.checkpoint_interval of being read: raise the topic's retention, \
             and create a new version of the feature group, which begins at what is left",
        )
    }

    fn changed(&self, range: &JournalRange) -> Halt {
        Halt::new(
            format!(
                "offsets {} to {} of partition {} of {} are not the records that were read before (count or digest \
                 differs)",
                range.from, range.to, range.partition.partition, self.stream.name
            ),
            "the log was recreated, compacted or restored from elsewhere: bring the old one back and resume, or \
             create a new version of the feature group, which computes everything anew",
        )
    }
}

const DEFECT: &str =
    "this is a defect: nothing was committed; report it with the group's definition and journal";

fn differs(entry: &JournalEntry, rows: u64) -> Halt {
    Halt::new(
        format!(
            "epoch {} gives {rows} rows when it is derived again, and gave {} when it was committed",
            entry.epoch, entry.rows
        ),
        DEFECT,
    )
}
