//! One chunk of one source into the epoch: decoded, judged, counted.

use super::decode::{Decoded, Failure};
use super::gather::Gathered;
use super::halt::{Halt, Stop};
use super::schemas::Lookup;
use super::source::{Chunk, Source};
use super::step::bad_record;
use crate::catalog::OnBadRecord;
use crate::log::Records;
use crate::store::commit::PartitionKey;

/// Decodes a chunk and adds it to the epoch. What cannot be taken now goes back to the source.
pub fn apply(
    source: &mut Source,
    chunk: Chunk,
    gathered: &mut Gathered,
    lookup: &mut (dyn FnMut(u32) -> Lookup + Send),
) -> Result<(), Stop> {
    let partition = PartitionKey { source: source.index, partition: chunk.partition };
    let Chunk { partition: number, mut records } = chunk;
    let mut lookup = |id| lookup(id);
    let (opened_at, seen) = (gathered.opened_at, source.seen(number));
    let mut halt = None;
    let mut decoded = match source.decode.chunk(partition, &records, opened_at, seen, &mut lookup) {
        Ok(decoded) => decoded,
        Err(failure) => return Err(not_taken(source, Chunk { partition: number, records }, failure)),
    };
    if source.stream.on_bad_record == OnBadRecord::Halt
        && let Some(bad) = decoded.quarantine.first()
    {
        // What comes before it is good: it is committed, and the pipeline stands right before it.
        halt = Some(bad_record(number, bad.offset, &bad.detail));
        let rest = records.split_off(bad.offset);
        source.put_back(Chunk { partition: number, records: rest });
        decoded = match source.decode.chunk(partition, &records, opened_at, seen, &mut lookup) {
            Ok(decoded) => decoded,
            Err(failure) => return Err(not_taken(source, Chunk { partition: number, records }, failure)),
        };
    }
    take(source, number, partition, records, decoded, gathered);
    halt.map_or(Ok(()), |halt| Err(halt.into()))
}

fn take(
    source: &mut Source,
    number: u32,
    partition: PartitionKey,
    records: Records,
    decoded: Decoded,
    gathered: &mut Gathered,
) {
    let Some(next) = records.records.last().map(|r| r.offset + 1) else { return };
    let from = source.progress.get(number as usize).map_or(0, |p| p.next);
    source.applied(number, next, decoded.max_event_time, gathered.opened_at);
    gathered.add(partition, from, records, decoded);
}

fn not_taken(source: &mut Source, chunk: Chunk, failure: Failure) -> Stop {
    source.put_back(chunk);
    match failure {
        Failure::NotYet(reason) => Stop::Wait(reason),
        Failure::Defect(error) => {
            Halt::new(error.to_string(), "this is a defect: report it with the stream's schema").into()
        }
    }
}
