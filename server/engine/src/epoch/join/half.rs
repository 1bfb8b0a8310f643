//! One side of a join: which rows it takes, and their durable form.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;

use super::Side;
use crate::epoch::evaluate::column;
use crate::epoch::records::{Rows, Verdicts};
use crate::epoch::{Error, Reason, RecordId, stage};
use crate::join::{Arrivals, Buffer, Keys};
use crate::key;
use crate::query::Relation;
use crate::state::{Cold, JOIN, StateChange, StateKey, StateRow, codec};
use crate::time::{Micros, Span};

/// Entries written at a time.
const SAVED: usize = 1 << 16;

/// One side.
pub(in crate::epoch) struct Half {
    /// Its number in [`StateKey::operator`].
    pub(in crate::epoch) operator: u16,
    /// A row is taken, and waits, while the watermark is not further than this past its time.
    pub(in crate::epoch) reach: Span,
    /// How many records a row is made of.
    pub(in crate::epoch) width: usize,
    /// Rows whose key equals nothing wait, too: they come out alone.
    pub(in crate::epoch) keeps_all: bool,
    /// A row that has found a partner is wanted no more.
    pub(in crate::epoch) waits_once: bool,
    pub(in crate::epoch) buffer: Buffer,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    key_types: Vec<DataType>,
    /// Position of the event time.
    time: usize,
    schema: SchemaRef,
    /// What an entry holds: whether the row has found a partner, then its columns.
    state: Vec<codec::Column>,
    /// Slices that are gone, but whose entries still lie in the store: until the next checkpoint.
    dropped: Vec<Micros>,
    /// Keys that are not in memory.
    pub(super) cold: Cold,
}

/// The number of one side of a join in [`StateKey::operator`].
pub(super) fn operator(join: u16, side: Side) -> u16 {
    JOIN + 2 * join + u16::from(side == Side::Right)
}

impl Half {
    pub(in crate::epoch) fn new(
        relation: &Relation,
        keys: Vec<Arc<dyn PhysicalExpr>>,
        time: usize,
        reach: Span,
        width: usize,
    ) -> Result<Self, Error> {
        let schema = Arc::clone(&relation.schema);
        let key_types = keys.iter().map(|key| key.data_type(&schema)).collect::<Result<_, _>>()?;
        let columns = schema.fields().iter().map(|field| codec::Column::plain(field.data_type().clone()));
        let state: Vec<_> = [codec::Column::plain(DataType::Boolean)].into_iter().chain(columns).collect();
        codec::decode(&state, std::iter::empty()).map_err(|e| Error::Contract(e.to_string()))?;
        Ok(Self {
            operator: JOIN,
            reach,
            width,
            keeps_all: false,
            waits_once: false,
            buffer: Buffer::new(reach, width),
            keys,
            key_types,
            time,
            schema,
            state,
            dropped: Vec::new(),
            cold: Cold::default(),
        })
    }

    pub(super) fn key_types(&self) -> &[DataType] {
        &self.key_types
    }

    /// The columns of its rows.
    pub(in crate::epoch) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many columns its rows have.
    pub(in crate::epoch) fn columns(&self) -> usize {
        self.schema.fields().len()
    }

    /// Null times and failing keys, then lateness; leaves the keys with the rows.
    pub(super) fn judge(
        &self,
        rows: &mut Rows,
        verdicts: &mut Verdicts<'_>,
        watermark: Micros,
    ) -> Result<(), Error> {
        self.judge_from(rows, verdicts, watermark - self.reach)
    }

    /// The same; what has a time before `kept` is late.
    pub(in crate::epoch) fn judge_from(
        &self,
        rows: &mut Rows,
        verdicts: &mut Verdicts<'_>,
        kept: Micros,
    ) -> Result<(), Error> {
        let times = self.times(&rows.batch)?;
        if times.null_count() > 0 {
            rows.remove(
                |row| times.is_null(row),
                |at| verdicts.reject(at, Reason::NoEventTime, "the event time is null".into()),
            )?;
        }
        let Some(keys) = rows.evaluate(verdicts, &|batch| self.evaluate(batch))? else { return Ok(()) };
        rows.keys = keys;
        let times = self.times(&rows.batch)?;
        let kept = kept.0;
        // Where the earliest is not late, none is.
        if arrow::compute::min(&times).is_some_and(|least| least < kept) {
            rows.remove(
                |row| times.values().get(row).is_some_and(|time| *time < kept),
                |at| verdicts.late(at),
            )?;
        }
        Ok(())
    }

    /// Rows whose key equals nothing have no partner, and need not wait for one.
    pub(super) fn leave_out_nulls(&self, rows: &mut Rows) -> Result<(), Error> {
        if self.keeps_all {
            return Ok(());
        }
        for key in 0..self.keys.len() {
            let nulls = rows.keys.get(key).and_then(|key| key.logical_nulls());
            if let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) {
                rows.remove(|row| nulls.is_null(row), |_| {})?;
            }
        }
        Ok(())
    }

    /// The key of each row.
    pub(in crate::epoch) fn evaluate(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, DataFusionError> {
        self.keys.iter().map(|key| column(key.as_ref(), batch)).collect()
    }

    /// The event times of rows.
    pub(in crate::epoch) fn times(&self, rows: &RecordBatch) -> Result<TimestampMicrosecondArray, Error> {
        let times = rows.columns().get(self.time);
        let typed = times.and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
        typed.cloned().ok_or_else(|| Error::Contract(format!("no event times in column {}", self.time)))
    }

    /// Lets go of what is out of reach.
    pub(in crate::epoch) fn retire(&mut self, watermark: Micros) {
        let kept = watermark - self.reach;
        self.buffer.retire(kept, &mut self.dropped);
        self.dropped.extend(self.cold.retire(kept.next()));
        self.dropped.sort_unstable();
        self.dropped.dedup();
    }

    /// What changed since the last checkpoint: slices that are gone, and rows that still wait, sorted by
    /// the keys of their entries.
    pub(in crate::epoch) fn save(
        &mut self,
        watermark: Micros,
        gone: &mut Vec<StateChange>,
        put: &mut Vec<StateChange>,
    ) -> Result<(), Error> {
        let operator = self.operator;
        let dropped = self.dropped.drain(..);
        gone.extend(dropped.map(|slice_end| StateChange::drop_slice(operator, slice_end)));
        for place in 0..self.buffer.slices().len() {
            let unsaved = self.buffer.take_unsaved(place, watermark - self.reach, self.waits_once);
            let Some(slice) = self.buffer.slices().get(place) else { continue };
            let entry = |row: u32| {
                let mut key = slice.key(row).to_vec();
                let key_group = key::key_group(&key);
                slice.records(row).iter().for_each(|record| record.put(&mut key));
                (key_group, key, row)
            };
            let mut entries: Vec<(u8, Vec<u8>, u32)> = unsaved.into_iter().map(entry).collect();
            entries.sort_unstable();
            put.reserve(entries.len());
            let mut entries = entries.into_iter().peekable();
            while entries.peek().is_some() {
                let chunk: Vec<_> = entries.by_ref().take(SAVED).collect();
                let rows = chunk.iter().map(|(.., row)| (place as u32, *row));
                let columns = self.buffer.columns(rows, self.columns()).map_err(DataFusionError::from)?;
                let matched = chunk.iter().map(|(.., row)| Some(slice.is_matched(*row)));
                let matched: ArrayRef = Arc::new(matched.collect::<BooleanArray>());
                let values =
                    codec::encode(self.state.iter().zip([matched].iter().chain(&columns)), chunk.len());
                let values = values.map_err(|e| Error::Contract(e.to_string()))?;
                for (row, (key_group, key, _)) in chunk.into_iter().enumerate() {
                    let key = StateKey { operator, slice_end: slice.end, key_group, key };
                    put.push(StateChange::Put(StateRow { key, value: values.value(row).to_vec() }));
                }
            }
        }
        Ok(())
    }

    /// Stored rows of one slice, and whether each has found a partner.
    pub(super) fn decode(
        &self,
        slice_end: Micros,
        rows: &[StateRow],
    ) -> Result<(Vec<bool>, RecordBatch), Error> {
        let values = rows.iter().map(|row| row.value.as_slice());
        let columns = codec::decode(&self.state, values);
        let columns = columns.map_err(|e| Error::State { window_end: slice_end, detail: e.to_string() })?;
        let (matched, columns) = columns.split_first().map_or((None, &[][..]), |(m, rest)| (Some(m), rest));
        let matched = matched.and_then(|matched| matched.as_boolean_opt()).into_iter().flatten();
        let batch = stage::batch(&self.schema, columns.to_vec(), rows.len())?;
        Ok((matched.map(|matched| matched == Some(true)).collect(), batch))
    }

    /// Puts stored rows of one slice back.
    pub(in crate::epoch) fn restore(&mut self, slice_end: Micros, rows: &[StateRow]) -> Result<(), Error> {
        let refuse = |detail: String| Error::State { window_end: slice_end, detail };
        let (matched, batch) = self.decode(slice_end, rows)?;
        let times = self.times(&batch)?;
        let keys = Keys::new(&self.evaluate(&batch)?, rows.len()).map_err(|e| refuse(e.to_string()))?;
        let mut records = Vec::with_capacity(rows.len() * self.width);
        for row in rows {
            let start = row.key.key.len().checked_sub(self.width * RecordId::BYTES);
            let bytes = start.and_then(|start| row.key.key.get(start..)).unwrap_or_default();
            records.extend(bytes.chunks_exact(RecordId::BYTES).filter_map(RecordId::read));
        }
        if records.len() != rows.len() * self.width {
            return Err(refuse("a row of the join does not say what it is made of".into()));
        }
        let rows = Arrivals { batch, keys: &keys, times: times.values(), matched: &matched, records };
        Ok(self.buffer.restore(slice_end, rows).map_err(DataFusionError::from)?)
    }
}
