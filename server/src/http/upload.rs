//! Arrow and Parquet bodies: streamed to an unnamed file under a quota, then read batch by batch.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Bytes that all uploads together may take on disk.
#[derive(Debug)]
pub struct Quota {
    limit: u64,
    used: AtomicU64,
}

/// One upload's part of the quota, given back when its file is gone.
#[derive(Debug)]
struct Share {
    quota: Arc<Quota>,
    bytes: u64,
}

impl Quota {
    /// Room for `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { limit, used: AtomicU64::new(0) }
    }
}

impl Share {
    /// Takes room for `more` bytes: too large where no quota could hold the table, busy where the others leave too little.
    fn take(&mut self, more: u64) -> Result<(), Error> {
        let Quota { limit, used } = &*self.quota;
        if self.bytes.saturating_add(more) > *limit {
            return Err(Error::TooLarge {
                message: format!("the table is larger than {limit} bytes"),
                hint: "send it in parts, or raise http.max_upload_bytes",
            });
        }
        let fits = |used: u64| used.checked_add(more).filter(|sum| sum <= limit);
        if used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            return Err(Error::Busy("other uploads take up the room for tables"));
        }
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.quota.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A received table. The file has no name, so no crash leaves it behind.
#[derive(Debug)]
pub struct Upload {
    file: File,
    format: Format,
    share: Share,
}

impl Upload {
    /// Receives a body into `dir`.
    pub async fn receive(
        headers: &HeaderMap,
        body: Body,
        dir: &Path,
        quota: Arc<Quota>,
    ) -> Result<Self, Error> {
        let Some(format) = headers.get(header::CONTENT_TYPE).and_then(format) else {
            return Err(Error::invalid(
                "the body is neither an Arrow IPC stream nor a Parquet file",
                format!("send 'Content-Type: {ARROW}' or '{PARQUET}'"),
            ));
        };
        let disk = |e: std::io::Error| Error::Internal(format!("the upload cannot be kept: {e}"));
        std::fs::create_dir_all(dir).map_err(disk)?;
        let mut file = BufWriter::with_capacity(1 << 18, tempfile::tempfile_in(dir).map_err(disk)?);
        let mut share = Share { quota, bytes: 0 };
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk =
                chunk.map_err(|e| Error::invalid(format!("the body ended early: {e}"), "send it again"))?;
            share.take(chunk.len() as u64)?;
            // Page-cache writes of at most a few hundred kilobytes: shorter than a hop to another thread.
            file.write_all(&chunk).map_err(disk)?;
        }
        let mut file = file.into_inner().map_err(|e| disk(e.into_error()))?;
        file.rewind().map_err(disk)?;
        Ok(Self { file, format, share })
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
                Ok((reader.schema(), shared(reader, self.share)))
            }
            Format::Parquet => {
                let builder =
                    ParquetRecordBatchReaderBuilder::try_new(self.file).map_err(|e| unreadable(&e))?;
                let schema = builder.schema().clone();
                let reader = builder.with_batch_size(8_192).build().map_err(|e| unreadable(&e))?;
                Ok((schema, shared(reader, self.share)))
            }
        }
    }
}

/// Batches that hold their share of the quota for as long as their file is open.
fn shared(
    batches: impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'static,
    share: Share,
) -> Batches {
    Box::new(batches.inspect(move |_| {
        let _held = &share;
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    async fn receive(quota: &Arc<Quota>, bytes: usize) -> Result<Upload, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(ARROW));
        let body = Body::from(vec![0; bytes]);
        let received = Upload::receive(&headers, body, &std::env::temp_dir(), Arc::clone(quota)).await;
        received.map_err(|e| e.reply().code.status().as_u16())
    }

    #[tokio::test]
    async fn all_uploads_share_one_quota() {
        let quota = Arc::new(Quota::new(100));
        let first = receive(&quota, 60).await.unwrap();
        assert_eq!(receive(&quota, 41).await.unwrap_err(), 429, "room comes back");
        assert_eq!(receive(&quota, 101).await.unwrap_err(), 413, "room for that never comes");
        let second = receive(&quota, 40).await.unwrap();
        drop(first);
        drop(second);
        assert!(receive(&quota, 100).await.is_ok());
        assert_eq!(quota.used.load(Ordering::Relaxed), 0);
    }
}
