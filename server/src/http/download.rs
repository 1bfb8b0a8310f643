//! Tables as replies: Arrow IPC stream, Parquet or JSON, as `Accept` asks, written batch by batch.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use tokio::sync::mpsc;

use super::Error;
use super::upload::{ARROW, PARQUET};

/// The media type of JSON.
pub const JSON: &str = "application/json";

/// Rows in batches, as the stores give them.
pub type Rows = BoxStream<'static, Result<RecordBatch, Error>>;

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Arrow IPC stream; the default.
    Arrow,
    /// Parquet file.
    Parquet,
    /// `{"rows": […]}`.
    Json,
}

impl Format {
    /// The first format in `Accept` that is known.
    pub fn accepted(headers: &HeaderMap) -> Result<Self, Error> {
        let accept = headers.get(header::ACCEPT).and_then(|a| a.to_str().ok()).unwrap_or("*/*");
        let known = |part: &str| match part.split(';').next().unwrap_or_default().trim() {
            ARROW | "*/*" | "application/*" | "" => Some(Self::Arrow),
            PARQUET => Some(Self::Parquet),
            "application/json" => Some(Self::Json),
            _ => None,
        };
        accept.split(',').find_map(known).ok_or_else(|| {
            Error::invalid(
                format!("there is no table as '{accept}'"),
                format!("accept {ARROW}, {PARQUET} or application/json"),
            )
        })
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Arrow => ARROW,
            Self::Parquet => PARQUET,
            Self::Json => JSON,
        }
    }
}

/// Replies with a table. A failure before the first batch is an error reply; one after it breaks
/// the transfer off, so that half a table is never taken for a whole one.
pub async fn respond(format: Format, schema: SchemaRef, mut rows: Rows) -> Result<Response, Error> {
    let first = rows.try_next().await?;
    let rows = futures::stream::iter(first.map(Ok)).chain(rows).boxed();
    let (parts, body) = channel();
    tokio::spawn(async move {
        if let Err(error) = write(format, schema, rows, &parts).await {
            tracing::warn!(%error, "a table was broken off");
            let _ = parts.send(Err(error)).await;
        }
    });
    Ok(([(header::CONTENT_TYPE, format.media_type())], body).into_response())
}

/// Where a body's parts are sent; an error breaks the transfer off.
pub type Parts = mpsc::Sender<io::Result<Bytes>>;

/// A body that is written while it is sent, at most two parts ahead.
pub fn channel() -> (Parts, Body) {
    let (parts, receiver) = mpsc::channel(2);
    let body = futures::stream::unfold(receiver, |mut r: mpsc::Receiver<_>| async move {
        r.recv().await.map(|part| (part, r))
    });
    (parts, Body::from_stream(body))
}

async fn write(format: Format, schema: SchemaRef, mut rows: Rows, parts: &Parts) -> io::Result<()> {
    let buffer = Buffer::default();
    let mut writer = Writer::new(format, &schema, buffer.clone())?;
    while let Some(batch) = rows.try_next().await.map_err(io::Error::other)? {
        writer.batch(&batch)?;
        let part = buffer.take();
        // Whoever asked may be gone: then the rest is not read either.
        if !part.is_empty() && parts.send(Ok(part)).await.is_err() {
            return Ok(());
        }
    }
    writer.finish()?;
    let _ = parts.send(Ok(buffer.take())).await;
    Ok(())
}

/// What the writers write into, emptied after each batch.
#[derive(Debug, Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock()).into()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Writer {
    Arrow(Box<StreamWriter<Buffer>>),
    Parquet(Box<ArrowWriter<Buffer>>),
    Json { out: Buffer, empty: bool },
}

impl Writer {
    fn new(format: Format, schema: &SchemaRef, mut out: Buffer) -> io::Result<Self> {
        Ok(match format {
            Format::Arrow => {
                Self::Arrow(Box::new(StreamWriter::try_new(out, schema).map_err(io::Error::other)?))
            }
            Format::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                let writer = ArrowWriter::try_new(out, Arc::clone(schema), Some(properties));
                Self::Parquet(Box::new(writer.map_err(io::Error::other)?))
            }
            Format::Json => {
                out.write_all(b"{\"rows\":[")?;
                Self::Json { out, empty: true }
            }
        })
    }

    fn batch(&mut self, batch: &RecordBatch) -> io::Result<()> {
        match self {
            Self::Arrow(writer) => writer.write(batch).map_err(io::Error::other),
            Self::Parquet(writer) => writer.write(batch).map_err(io::Error::other),
            Self::Json { out, empty } => {
                for row in millpond_engine::json::rows(batch) {
                    if !std::mem::take(empty) {
                        out.write_all(b",")?;
                    }
                    serde_json::to_writer(&mut *out, &row)?;
                }
                Ok(())
            }
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Arrow(writer) => writer.finish().map_err(io::Error::other),
            Self::Parquet(writer) => writer.finish().map(drop).map_err(io::Error::other),
            Self::Json { out, .. } => out.write_all(b"]}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use arrow::ipc::reader::StreamReader;
    use axum::body::to_bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("id", DataType::Utf8, false),
            Field::new("n", DataType::Int64, true),
        ]))
    }

    fn batch(n: i64) -> RecordBatch {
        let ids = StringArray::from(vec!["a", "b"]);
        RecordBatch::try_new(schema(), vec![Arc::new(ids), Arc::new(Int64Array::from(vec![Some(n), None]))])
            .unwrap()
    }

    async fn body(format: Format, batches: Vec<Result<RecordBatch, Error>>) -> Result<Bytes, String> {
        let rows = futures::stream::iter(batches).boxed();
        let response = respond(format, schema(), rows).await.map_err(|e| format!("before: {e}"))?;
        to_bytes(response.into_body(), usize::MAX).await.map_err(|e| format!("within: {e}"))
    }

    #[tokio::test]
    async fn each_format_reads_back() {
        let two = || vec![Ok(batch(1)), Ok(batch(2))];
        let arrow = body(Format::Arrow, two()).await.unwrap();
        let read: Vec<RecordBatch> =
            StreamReader::try_new(&arrow[..], None).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, [batch(1), batch(2)]);
        let parquet = body(Format::Parquet, two()).await.unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(parquet).unwrap().build().unwrap();
        assert_eq!(reader.map(|b| b.unwrap().num_rows()).sum::<usize>(), 4);
        let json = body(Format::Json, two()).await.unwrap();
        assert_eq!(
            json,
            r#"{"rows":[{"id":"a","n":1},{"id":"b","n":null},{"id":"a","n":2},{"id":"b","n":null}]}"#
                .as_bytes()
        );
    }

    #[tokio::test]
    async fn no_rows_are_still_a_table() {
        let arrow = body(Format::Arrow, Vec::new()).await.unwrap();
        assert_eq!(StreamReader::try_new(&arrow[..], None).unwrap().schema(), schema());
        assert_eq!(body(Format::Json, Vec::new()).await.unwrap(), r#"{"rows":[]}"#.as_bytes());
        assert!(
            ParquetRecordBatchReaderBuilder::try_new(body(Format::Parquet, Vec::new()).await.unwrap())
                .is_ok()
        );
    }

    #[tokio::test]
    async fn a_failure_is_an_error_or_a_broken_transfer_never_half_a_table() {
        let failure = || Err(Error::Internal("disk".to_owned()));
        assert_eq!(body(Format::Arrow, vec![failure()]).await, Err("before: disk".to_owned()));
        let broken = body(Format::Arrow, vec![Ok(batch(1)), failure()]).await;
        assert!(broken.unwrap_err().starts_with("within: "));
    }

    #[test]
    fn accept_chooses() {
        let accepted = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            Format::accepted(&headers).ok()
        };
        assert_eq!(accepted("*/*"), Some(Format::Arrow));
        assert_eq!(accepted("text/html, application/json;q=0.9"), Some(Format::Json));
        assert_eq!(accepted(PARQUET), Some(Format::Parquet));
        assert_eq!(accepted("text/csv"), None);
        assert_eq!(Format::accepted(&HeaderMap::new()).unwrap(), Format::Arrow);
    }
}
