//! Arrow and Parquet bodies: streamed to an unnamed file under a quota, then read batch by batch.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek as _, Write as _};
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use futures::StreamExt as _;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::Error;

/// The media type of an Arrow IPC stream.
pub const ARROW: &str = "application/vnd.apache.arrow.stream";
/// The media type of a Parquet file.
pub const PARQUET: &str = "application/vnd.apache.parquet";

/// Batches as they come out of an upload.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// A format of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Arrow IPC stream.
    Arrow,
    /// Parquet file.
    Parquet,
}

/// True for bodies that go to disk.
pub fn is_upload(content_type: &HeaderValue) -> bool {
    format(content_type).is_some()
}

fn format(content_type: &HeaderValue) -> Option<Format> {
    match content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim() {
        ARROW => Some(Format::Arrow),
        PARQUET => Some(Format::Parquet),
        _ => None,
    }
}

/// A received table. The file has no name, so no crash leaves it behind.
#[derive(Debug)]
pub struct Upload {
    file: File,
    format: Format,
}

impl Upload {
    /// Receives a body into `dir`, up to `quota` bytes.
    pub async fn receive(headers: &HeaderMap, body: Body, dir: &Path, quota: u64) -> Result<Self, Error> {
        let Some(format) = headers.get(header::CONTENT_TYPE).and_then(format) else {
            return Err(Error::invalid(
                "the body is neither an Arrow IPC stream nor a Parquet file",
                format!("send 'Content-Type: {ARROW}' or '{PARQUET}'"),
            ));
        };
        let limit = || Error::TooLarge {
            message: format!("the table is larger than {quota} bytes"),
            hint: "send it in parts, or raise http.max_upload_bytes",
        };
        let declared = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|l| l.to_str().ok())
            .and_then(|l| l.parse::<u64>().ok());
        if declared.is_some_and(|length| length > quota) {
            return Err(limit());
        }
        let disk = |e: std::io::Error| Error::Internal(format!("the upload cannot be kept: {e}"));
        std::fs::create_dir_all(dir).map_err(disk)?;
        let mut file = BufWriter::with_capacity(1 << 18, tempfile::tempfile_in(dir).map_err(disk)?);
        let mut received = 0_u64;
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk =
                chunk.map_err(|e| Error::invalid(format!("the body ended early: {e}"), "send it again"))?;
            received += chunk.len() as u64;
            if received > quota {
                return Err(limit());
            }
            // Page-cache writes of at most a few hundred kilobytes: shorter than a hop to another thread.
            file.write_all(&chunk).map_err(disk)?;
        }
        let mut file = file.into_inner().map_err(|e| disk(e.into_error()))?;
        file.rewind().map_err(disk)?;
        Ok(Self { file, format })
    }

    /// The table's schema and its batches. Blocking: reads the file.
    pub fn batches(self) -> Result<(SchemaRef, Batches), Error> {
        let unreadable = |e: &dyn std::fmt::Display| {
            Error::invalid(
                format!("the table cannot be read: {e}"),
                "send a complete Arrow IPC stream or Parquet file",
            )
        };
        match self.format {
            Format::Arrow => {
                let reader = StreamReader::try_new(BufReader::with_capacity(1 << 18, self.file), None);
                let reader = reader.map_err(|e| unreadable(&e))?;
                Ok((reader.schema(), Box::new(reader)))
            }
            Format::Parquet => {
                let builder =
                    ParquetRecordBatchReaderBuilder::try_new(self.file).map_err(|e| unreadable(&e))?;
                let schema = builder.schema().clone();
                let reader = builder.with_batch_size(8_192).build().map_err(|e| unreadable(&e))?;
                Ok((schema, Box::new(reader)))
            }
        }
    }
}
