//! A stream put down in a file, to be read again and in order: how training holds what it must not
//! hold in memory.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;

/// A file of Arrow batches; gone when the last handle is.
#[derive(Debug, Clone)]
pub struct Spool {
    file: Arc<tempfile::TempPath>,
    schema: SchemaRef,
}

impl Spool {
    /// Writes a stream down; `look` sees each batch on its way.
    pub async fn write(
        folder: &Path,
        mut input: SendableRecordBatchStream,
        mut look: impl FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<Self> {
        let schema = input.schema();
        let (file, path) = tempfile::Builder::new().prefix("spool-").tempfile_in(folder)?.into_parts();
        let mut writer = StreamWriter::try_new(BufWriter::new(file), &schema)?;
        while let Some(batch) = input.try_next().await? {
            look(&batch)?;
            writer.write(&batch)?;
        }
        writer.finish()?;
        writer.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        Ok(Self { file: Arc::new(path), schema })
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Reads from the beginning, in pieces as long as the caller wants them.
    pub fn open(&self) -> Result<Reader> {
        let reader = StreamReader::try_new(BufReader::new(File::open(self.file.as_ref())?), None)?;
        Ok(Reader { _file: Arc::clone(&self.file), reader, rest: None })
    }

    /// Reads from the beginning, batch by batch.
    pub fn stream(&self) -> Result<SendableRecordBatchStream> {
        let batches = futures::stream::iter(self.open()?).map_err(Into::into);
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches)))
    }
}

/// A spool being read.
#[derive(Debug)]
pub struct Reader {
    _file: Arc<tempfile::TempPath>,
    reader: StreamReader<BufReader<File>>,
    rest: Option<RecordBatch>,
}

impl Reader {
    /// The next `rows` rows, fewer only at the end.
    pub fn pull(&mut self, rows: usize) -> Result<RecordBatch, ArrowError> {
        let mut parts = Vec::new();
        let mut missing = rows;
        while missing > 0 {
            let Some(batch) = self.rest.take().map(Ok).or_else(|| self.reader.next()).transpose()? else {
                break;
            };
            let here = batch.num_rows().min(missing);
            if here < batch.num_rows() {
                self.rest = Some(batch.slice(here, batch.num_rows() - here));
            }
            parts.push(batch.slice(0, here));
            missing -= here;
        }
        concat_batches(&self.reader.schema(), &parts)
    }
}

impl Iterator for Reader {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rest.take().map(Ok).or_else(|| self.reader.next())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;

    #[tokio::test]
    async fn what_is_put_down_comes_back_in_any_pieces() {
        let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, true)]));
        let batch = |from: i64, to: i64| {
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from_iter_values(from..to))])
                .unwrap()
        };
        let batches = vec![Ok(batch(0, 5)), Ok(batch(5, 5)), Ok(batch(5, 12)), Ok(batch(12, 13))];
        let input = RecordBatchStreamAdapter::new(Arc::clone(&schema), futures::stream::iter(batches));
        let folder = tempfile::tempdir().unwrap();
        let mut seen = 0;
        let spool = Spool::write(folder.path(), Box::pin(input), |b| {
            seen += b.num_rows();
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(seen, 13);
        let mut reader = spool.open().unwrap();
        let mut all = Vec::new();
        for rows in [3, 4, 5, 9] {
            let part = reader.pull(rows).unwrap();
            all.push(part.num_rows());
        }
        assert_eq!(all, [3, 4, 5, 1]);
        let again: Vec<RecordBatch> = spool.stream().unwrap().try_collect().await.unwrap();
        let values: Vec<i64> =
            again.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!(values, (0..13).collect::<Vec<_>>());
        drop((spool, reader));
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "the file goes with its last handle"
        );
    }
}
