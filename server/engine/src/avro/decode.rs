//! Bodies in, a batch out.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

use super::column::{self, Column};
use super::fault::Fault;
use super::op::Run;
use super::reader::ReaderSchema;
use super::resolve::{Resolution, layout};
use super::wire::Cursor;
use super::{MAX_BODY, batch};

/// Builds the columns of one batch. Nothing is allocated per record but the columns' own growth.
pub struct Decoder {
    columns: Vec<Column>,
    roots: Vec<usize>,
    schema: SchemaRef,
    layout: u64,
    rows: usize,
}

/// Why a body could not be decoded, and at which field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// Path of the writer's field; empty where the body as a whole is wrong.
    pub field: String,
    fault: Fault,
}

impl Decoder {
    /// A decoder into the given columns of the reader, in that order. Columns that it does not have
    /// are left out (and [`Resolution::compile`] refuses them).
    pub fn new(reader: &ReaderSchema, columns: &[usize]) -> Self {
        let mut builders = Vec::new();
        let (mut roots, mut fields) = (Vec::new(), Vec::new());
        for column in columns {
            let (Some(field), Some(arrow)) =
                (reader.fields.get(*column), reader.arrow().fields().get(*column))
            else {
                continue;
            };
            roots.push(builders.len());
            column::add(&field.ty, &mut builders);
            // Whether a record without event time is set aside is the caller's to say.
            let nullable = arrow.is_nullable() || reader.event_time() == Some(*column);
            fields.push(Arc::new(arrow.as_ref().clone().with_nullable(nullable)));
        }
        Self {
            columns: builders,
            roots,
            schema: Arc::new(Schema::new(fields)),
            layout: layout(reader, columns),
            rows: 0,
        }
    }

    /// Decodes one body into one row. After an error the rows are what they were before.
    ///
    /// # Errors
    /// The body is not, to the last byte, a record of the writer's that the reader can take.
    /// [`DecodeError::is_full`] is no fault of the body: [`Decoder::finish`] and push it again.
    #[inline]
    pub fn push(&mut self, resolution: &Resolution, body: &[u8]) -> Result<(), DecodeError> {
        if resolution.layout != self.layout {
            return Err(DecodeError { field: String::new(), fault: Fault::Mismatch });
        }
        if body.len() > MAX_BODY {
            return Err(DecodeError { field: String::new(), fault: Fault::TooLarge });
        }
        let mut run = Run { cursor: Cursor::new(body), writer: &resolution.writer, path: Vec::new() };
        for step in &resolution.steps {
            if let Err(fault) = step.op.run(&mut self.columns, &mut run) {
                run.path.push(step.field.clone());
                return Err(self.roll_back(fault, &run.path));
            }
        }
        match run.cursor.remaining() {
            0 => {
                self.rows += 1;
                Ok(())
            }
            left => Err(self.roll_back(Fault::Trailing(left), &[])),
        }
    }

    #[cold]
    fn roll_back(&mut self, fault: Fault, path: &[Arc<str>]) -> DecodeError {
        // A body that fills a batch by itself would never fit.
        let fault = if self.rows == 0 && fault == Fault::Full { Fault::TooLarge } else { fault };
        for root in &self.roots {
            column::truncate(&mut self.columns, *root, self.rows);
        }
        let path: Vec<&str> = path.iter().rev().map(|part| &**part).collect();
        DecodeError { field: path.join("."), fault }
    }

    /// Rows since the last [`Decoder::finish`].
    pub fn len(&self) -> usize {
        self.rows
    }

    /// True where there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Takes the rows as a batch: the reader's Arrow schema projected, but with a nullable event time.
    pub fn finish(&mut self) -> RecordBatch {
        let rows = std::mem::take(&mut self.rows);
        batch::take(&mut self.columns, &self.roots, rows, &self.schema, |arrays| arrays)
    }
}

impl DecodeError {
    /// A stable word for metrics and quarantine: `truncated`, `bad_utf8`, `unknown_symbol`, …
    pub fn reason(&self) -> &'static str {
        self.fault.reason()
    }

    /// True where the batch, and not the body, is the problem.
    pub fn is_full(&self) -> bool {
        self.fault == Fault::Full
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            self.fault.fmt(f)
        } else {
            write!(f, "field {}: {}", self.field, self.fault)
        }
    }
}

impl std::error::Error for DecodeError {}
