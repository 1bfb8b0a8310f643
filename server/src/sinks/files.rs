//! Files that appear whole: `<folder>/<column>=<value>/part-<first>-<last>.<csv|parquet>`.
//!
//! A file is written where no reader looks (outside the folder, on the same disk), synced, and then given
//! its name, which says which outbox entries its rows are from. So a reader sees every file whole, a
//! write that is done again after a crash gives the same files, and no row is in two of them. The
//! files of one write appear one after the other, not all at once.

mod csv;
mod disk;
mod partition;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;

use super::Error;
use super::protocol::{Found, Target};
use crate::catalog::FileFormat;
use crate::offline::{read, table};
use crate::store::SinkProgress;
use crate::store::commit::OutboxEntry;

pub use disk::Disk;

/// The folder of a sink. Living twice: a disk, and one in memory that fails in every way.
pub trait Folder {
    /// Removes what was written and never got its name.
    fn clear(&mut self) -> Result<(), Error>;
    /// Writes a file where no reader looks, durably.
    fn stage(&mut self, number: usize, bytes: &[u8]) -> Result<(), Error>;
    /// Gives a staged file its name below the folder; what had the name is replaced.
    fn publish(&mut self, number: usize, name: &str) -> Result<(), Error>;
    /// Makes all names given so far durable.
    fn settle(&mut self) -> Result<(), Error>;
    /// The greatest last sequence in the names of all files.
    fn newest(&mut self) -> Result<Option<u64>, Error>;
}

/// Files in a folder.
#[derive(Debug)]
pub struct Files<F> {
    /// The folder.
    pub folder: F,
    /// How files hold rows.
    pub format: FileFormat,
    /// Column of the folders `column=value`.
    pub partition_by: Option<String>,
    /// The columns of the history.
    pub history: SchemaRef,
}

impl<F: Folder> Target for Files<F> {
    type Error = Error;

    fn recover(&mut self, progress: SinkProgress) -> Result<Found, Error> {
        self.folder.clear()?;
        let known = progress.planned.map_or(progress.through, |planned| planned.last);
        let newest = self.folder.newest()?.filter(|newest| *newest > known);
        Ok(newest.map_or(Found::Nothing, Found::Beyond))
    }

    fn write(&mut self, entries: &[OutboxEntry]) -> Result<(), Error> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
        let file = file_name(first.sequence, last.sequence, self.format);
        let rows = self.rows(entries)?;
        let mut names = Vec::new();
        for part in partition::split(&rows, self.partition_by.as_deref())? {
            let bytes = match self.format {
                FileFormat::Csv => csv::encode(&part.rows)?,
                FileFormat::Parquet => parquet(&without(&part.rows, self.partition_by.as_deref())?)?,
            };
            self.folder.stage(names.len(), &bytes)?;
            names.push(part.folder.map_or_else(|| file.clone(), |folder| format!("{folder}/{file}")));
        }
        for (number, name) in names.iter().enumerate() {
            self.folder.publish(number, name)?;
        }
        self.folder.settle()
    }
}

impl<F> Files<F> {
    fn rows(&self, entries: &[OutboxEntry]) -> Result<RecordBatch, Error> {
        let batches = entries
            .iter()
            .map(|entry| read::conform(&entry.rows, &self.history))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(concat_batches(&self.history, &batches)?)
    }
}

/// Sequences are padded, so that the order of names is the order of rows.
fn file_name(first: u64, last: u64, format: FileFormat) -> String {
    let suffix = match format {
        FileFormat::Csv => "csv",
        FileFormat::Parquet => "parquet",
    };
    format!("part-{first:012}-{last:012}.{suffix}")
}

/// The last sequence in a file's name; `None` for what is no file of a sink.
fn last_sequence(name: &str) -> Option<u64> {
    let (stem, suffix) = name.strip_prefix("part-")?.split_once('.')?;
    let (first, last) = stem.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (matches!(suffix, "csv" | "parquet") && first <= last).then_some(last)
}

/// Parquet files leave the partition's column to the path: readers that find it in both places stumble
/// over its two types.
fn without(rows: &RecordBatch, column: Option<&str>) -> Result<RecordBatch, Error> {
    let kept = |name: &str| column != Some(name);
    let columns: Vec<usize> = rows
        .schema_ref()
        .fields()
        .iter()
        .enumerate()
        .filter(|(_, f)| kept(f.name()))
        .map(|(i, _)| i)
        .collect();
    Ok(rows.project(&columns)?)
}

fn parquet(rows: &RecordBatch) -> Result<Vec<u8>, Error> {
    let bad = |e: ParquetError| Error::Rows(e.to_string());
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(table::parquet())).map_err(bad)?;
    writer.write(rows).map_err(bad)?;
    writer.into_inner().map_err(bad)
}

#[cfg(test)]
mod tests;
