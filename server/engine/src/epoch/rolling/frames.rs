//! The functions of a frame over many rows at once.
//!
//! COUNT and exact SUMs are differences of running totals ([`super::tally`]). All others go over the records of
//! each frame, in their order, so that a row depends on nothing but its frame: not on the rows beside it, on
//! epochs, or on where state was saved. For them the records that the frames hold lie in one batch, those of
//! a key in the order of time; a row's window is a range of it.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int64Array, UInt32Array, new_null_array,
};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::error::{DataFusionError, Result};

use super::plan::{Argument, Call, Frame, Plan};
use super::tally::Kernel;
use crate::rolling::{Gather, IDENTITY, Keys, Places, Records};
use crate::state;

/// Pairs of a row and a record of its frame that are worked on at a time, where a frame is not longer.
const PAIRS: usize = 1 << 16;

/// The frames of some rows that end at their instants: the key of each, and the positions of the frame's records
/// among those of the key.
pub(super) struct Frames {
    preceding: i64,
    of: Vec<(u32, Range<usize>)>,
    /// Tallies that the functions read, and what each adds up to over each frame.
    totals: Vec<(usize, Vec<i128>)>,
}

impl Frames {
    /// Of so many rows, which are still to be said.
    pub(super) fn new(frame: &Frame, rows: usize) -> Self {
        let mut tallies: Vec<usize> = Vec::new();
        for call in &frame.calls {
            match call.kernel {
                Kernel::Count(count) => tallies.push(count),
                Kernel::Sum(total, count) => tallies.extend([total, count]),
                Kernel::Rows | Kernel::General => {}
            }
        }
        tallies.sort_unstable();
        tallies.dedup();
        let totals = tallies.into_iter().map(|tally| (tally, vec![0; rows])).collect();
        Self { preceding: frame.preceding.0, of: vec![(0, 0..0); rows], totals }
    }

    /// Says which records a row looks back on: those of its key up to its instant.
    pub(super) fn set(&mut self, row: usize, at: i64, key: u32, records: &Records<'_>) {
        let frame = records.between(at.saturating_sub(self.preceding), at);
        for (tally, totals) in &mut self.totals {
            if let Some(total) = totals.get_mut(row) {
                *total = records.total(&frame, *tally);
            }
        }
        if let Some(of) = self.of.get_mut(row) {
            *of = (key, frame);
        }
    }

    /// How many records each frame holds.
    fn rows(&self) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(self.of.iter().map(|(_, frame)| frame.len() as i64)))
    }

    /// What a tally adds up to over each frame.
    fn totals(&self, tally: usize) -> impl Iterator<Item = i128> {
        let known = self.totals.iter().find(|(known, _)| *known == tally);
        known.into_iter().flat_map(|(_, totals)| totals.iter().copied())
    }

    /// COUNT by a tally.
    fn count(&self, tally: usize) -> ArrayRef {
        Arc::new(self.totals(tally).map(|total| i64::try_from(total).ok()).collect::<Int64Array>())
    }

    /// SUM by two tallies. Without a number it is NULL, and so is one beyond BIGINT.
    fn sum(&self, (total, count): (usize, usize), data_type: &DataType) -> Result<ArrayRef> {
        let totals = self.totals(total).zip(self.totals(count));
        let totals = totals.map(|(total, count)| (count > 0).then_some(total));
        match data_type {
            DataType::Decimal128(precision, scale) => {
                let sums: Decimal128Array = totals.collect();
                Ok(Arc::new(sums.with_precision_and_scale(*precision, *scale)?))
            }
            _ => {
                let sums: Int64Array = totals.map(|t| t.and_then(|t| i64::try_from(t).ok())).collect();
                Ok(Arc::new(sums))
            }
        }
    }
}

/// Records that were gathered, and the range of each row's frame among them.
pub(super) struct Gathered<'p> {
    records: Gather<'p>,
    windows: Vec<Range<usize>>,
    /// Columns by their number among the kept, once they were asked for.
    columns: Vec<Option<ArrayRef>>,
}

impl<'p> Gathered<'p> {
    /// Frames of a key that overlap have their records in common; rows are sorted by (key, instant).
    pub(super) fn new(plan: &Plan, keys: &Keys, frames: &Frames, places: &'p Places<'p>) -> Self {
        let mut records = Gather::new(places);
        let mut windows = Vec::with_capacity(frames.of.len());
        // The key, and the position of its record that the next one to be gathered would be.
        let mut last: Option<(u32, usize)> = None;
        for (key, frame) in &frames.of {
            let from = match last {
                Some((known, end)) if known == *key && frame.start <= end => end,
                _ => frame.start,
            };
            records.extend(keys, *key, from..frame.end);
            last = Some((*key, frame.end));
            windows.push(records.len() - frame.len()..records.len());
        }
        Self { records, windows, columns: vec![None; plan.kept.len()] }
    }

    fn column(&mut self, plan: &Plan, kept: usize) -> Result<ArrayRef> {
        let (Some(place), Some(of)) = (self.columns.get_mut(kept), plan.kept.get(kept)) else {
            return missing();
        };
        if let Some(known) = place {
            return Ok(Arc::clone(known));
        }
        let gathered = self.records.column(Plan::place(kept), &of.data_type)?;
        *place = Some(Arc::clone(&gathered));
        Ok(gathered)
    }

    /// A function over each window, a bounded number of records at a time. `nulled` counts results that fail
    /// and are NULL.
    pub(super) fn evaluate(&mut self, plan: &Plan, call: &Call, nulled: &mut u64) -> Result<ArrayRef> {
        let filter = call.filter.map(|filter| self.column(plan, filter)).transpose()?;
        let mut arguments = Vec::with_capacity(call.arguments.len());
        for argument in &call.arguments {
            arguments.push(match argument {
                Argument::Kept(kept, wanted) => {
                    super::super::intake::cast(&self.column(plan, *kept)?, wanted)?
                }
                Argument::Constant(value) => value.to_array_of_size(self.records.len())?,
            });
        }
        if call.function.by_time {
            arguments.extend(self.standing(plan.others > 0)?);
        }
        let values = Values { call, arguments, filter: filter.as_ref().and_then(|f| f.as_boolean_opt()) };
        values.over(&self.windows, nulled)
    }

    /// Where each record stands ([`crate::state::STANDING`]), from its identity. Rows of a join have no place in
    /// a log.
    fn standing(&self, is_joined: bool) -> Result<[ArrayRef; 3]> {
        let mut identity = Vec::with_capacity(IDENTITY.len());
        for (column, (_, data_type)) in IDENTITY.iter().enumerate() {
            identity.push(super::super::intake::cast(
                &self.records.column(column, data_type)?,
                &DataType::Int64,
            )?);
        }
        let [time, source, partition, offset] = identity.as_slice() else { return missing() };
        let (source, partition) = (source.as_primitive::<Int64Type>(), partition.as_primitive::<Int64Type>());
        if is_joined {
            let nowhere: ArrayRef = Arc::new(Int64Array::from_value(-1, time.len()));
            return Ok([Arc::clone(time), Arc::clone(&nowhere), nowhere]);
        }
        let place: Int64Array = arrow::compute::binary(source, partition, |s, p| s << 32 | p)?;
        Ok([Arc::clone(time), Arc::new(place), Arc::clone(offset)])
    }
}

fn missing<T>() -> Result<T> {
    Err(DataFusionError::Internal("a column is not kept".into()))
}

/// Computes a function for all rows.
pub(super) fn compute(
    plan: &Plan,
    call: &Call,
    frames: &Frames,
    gathered: Option<&mut Gathered<'_>>,
    nulled: &mut u64,
) -> Result<ArrayRef> {
    match (&call.kernel, gathered) {
        (Kernel::Rows, _) => Ok(frames.rows()),
        (Kernel::Count(tally), _) => Ok(frames.count(*tally)),
        (Kernel::Sum(total, count), _) => frames.sum((*total, *count), call.nothing.data_type()),
        (Kernel::General, Some(gathered)) => gathered.evaluate(plan, call, nulled),
        (Kernel::General, None) => missing(),
    }
}

/// What a function sees of the gathered records.
struct Values<'v> {
    call: &'v Call,
    arguments: Vec<ArrayRef>,
    filter: Option<&'v BooleanArray>,
}

impl Values<'_> {
    /// The function over each window.
    fn over(&self, windows: &[Range<usize>], nulled: &mut u64) -> Result<ArrayRef> {
        // An accumulator takes it that every group occurs: rows with empty frames have no part in it.
        let held: Vec<Range<usize>> = windows.iter().filter(|w| !w.is_empty()).cloned().collect();
        let mut parts: Vec<ArrayRef> = Vec::new();
        let mut rest = held.as_slice();
        while !rest.is_empty() {
            let mut pairs = 0;
            let fits = rest.iter().take_while(|w| {
                pairs += w.len();
                pairs <= PAIRS
            });
            let count = fits.count().clamp(1, rest.len());
            let (now, later) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            self.halve(now, &mut parts, nulled)?;
            rest = later;
        }
        if held.len() == windows.len() && parts.len() == 1 {
            return parts.pop().map_or_else(missing, Ok);
        }
        // The value of no records, then those of the parts, each row in its place.
        let mut next =
            (1..).zip(&parts).flat_map(|(part, values)| (0..values.len()).map(move |row| (part, row)));
        let place = |w: &Range<usize>| if w.is_empty() { Some((0, 0)) } else { next.next() };
        let places: Option<Vec<(usize, usize)>> = windows.iter().map(place).collect();
        let Some(places) = places else { return missing() };
        let all: Vec<&dyn Array> =
            std::iter::once(&self.call.nothing).chain(&parts).map(AsRef::as_ref).collect();
        Ok(arrow::compute::interleave(&all, &places)?)
    }

    /// A result that fails (a mean beyond its type) is NULL, and no other is touched by that.
    fn halve(&self, windows: &[Range<usize>], parts: &mut Vec<ArrayRef>, nulled: &mut u64) -> Result<()> {
        match self.attempt(windows) {
            Ok(values) => parts.push(values),
            Err(_) if windows.len() <= 1 => {
                *nulled += windows.len() as u64;
                parts.push(new_null_array(self.call.nothing.data_type(), windows.len()));
            }
            Err(_) => {
                let (one, other) = windows.split_at(windows.len() / 2);
                self.halve(one, parts, nulled)?;
                self.halve(other, parts, nulled)?;
            }
        }
        Ok(())
    }

    fn attempt(&self, windows: &[Range<usize>]) -> Result<ArrayRef> {
        let pairs = windows.iter().map(Range::len).sum();
        let (mut records, mut groups) = (Vec::with_capacity(pairs), Vec::with_capacity(pairs));
        for (group, window) in windows.iter().enumerate() {
            records.extend(window.clone().map(|record| record as u32));
            groups.resize(records.len(), group);
        }
        let records = UInt32Array::from(records);
        let taken = |column: &dyn Array| arrow::compute::take(column, &records, None);
        let arguments =
            self.arguments.iter().map(|a| taken(a.as_ref())).collect::<std::result::Result<Vec<_>, _>>()?;
        let filter = self.filter.map(|f| taken(f)).transpose()?;
        let filter = filter.as_ref().and_then(|f| f.as_boolean_opt());
        let values = state::over(&self.call.function, &arguments, filter, &groups, windows.len())?;
        if values.len() == windows.len() {
            return Ok(values);
        }
        Err(DataFusionError::Internal("an aggregate without a result for every row".into()))
    }
}
