//! Sorting streams of any size in bounded memory: DataFusion's external sort, spilling to a folder.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;
use parking_lot::Mutex;

/// Rows of one batch, here and wherever training makes batches.
pub const BATCH: usize = 8192;

/// Sorts that run at the same time in a join: labels, rows, result.
const SORTS: usize = 3;

/// The workspace of one join: a share of memory, and a folder for what does not fit.
#[derive(Clone)]
pub struct Workspace {
    session: SessionContext,
    spill: PathBuf,
    /// Bytes of memory for each sort.
    share: usize,
}

impl Workspace {
    /// At most about `memory` bytes of rows being sorted at a time; the rest goes to files in `spill`.
    pub fn new(memory: usize, spill: &Path) -> Result<Self> {
        let share = memory / SORTS;
        let mut config = SessionConfig::new().with_target_partitions(1).with_batch_size(BATCH);
        // What merging spilled runs may use besides; the default is more than a small share has.
        config.options_mut().execution.sort_spill_reservation_bytes = share / 8;
        Ok(Self { session: SessionContext::new_with_config(config), spill: spill.to_owned(), share })
    }

    /// A task with memory of its own. Sorts that shared one pool would starve each other: the one that
    /// begins first takes all of it, and the next cannot even reserve what merging needs.
    fn task(&self) -> Result<Arc<TaskContext>> {
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![self.spill.clone()]))
            .with_max_temp_directory_size(u64::MAX);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(self.share)))
            .with_disk_manager_builder(disk)
            .build_arc()?;
        let config = self.session.copied_config();
        Ok(Arc::new(TaskContext::default().with_session_config(config).with_runtime(runtime)))
    }

    /// The session to read tables with.
    pub fn session(&self) -> &SessionContext {
        &self.session
    }

    /// The rows of `input` in ascending order of `columns`, nulls first.
    pub fn sorted(
        &self,
        input: SendableRecordBatchStream,
        columns: &[&str],
    ) -> Result<SendableRecordBatchStream> {
        let schema = input.schema();
        let by = columns
            .iter()
            .map(|name| Ok(PhysicalSortExpr::new_default(col(name, &schema)?)))
            .collect::<Result<Vec<_>>>()?;
        let by =
            LexOrdering::new(by).ok_or_else(|| DataFusionError::Internal("nothing to sort by".into()))?;
        let input = pieces(input, self.share / 32);
        let once = Arc::new(Once { schema: Arc::clone(&schema), stream: Mutex::new(Some(input)) });
        let source = StreamingTableExec::try_new(schema, vec![once], None, [], false, None)?;
        SortExec::new(by, Arc::new(source)).execute(0, self.task()?)
    }
}

/// Cuts batches that are too large for a share of memory, or are slices of such: a sort accounts for all
/// that a slice holds on to, and fails on a batch that does not fit, since a batch cannot be spilled
/// in part.
fn pieces(input: SendableRecordBatchStream, bytes: usize) -> SendableRecordBatchStream {
    let schema = input.schema();
    let cut = input
        .map_ok(move |batch| {
            let held = batch.get_array_memory_size();
            let rows = if held <= bytes { batch.num_rows() } else { batch.num_rows() * bytes / held };
            let rows = rows.clamp(1, BATCH);
            let starts = (0..batch.num_rows()).step_by(rows);
            futures::stream::iter(starts.map(move |at| {
                let piece = batch.slice(at, rows.min(batch.num_rows() - at));
                if held <= bytes { Ok(piece) } else { copy(&piece) }
            }))
        })
        .try_flatten();
    Box::pin(RecordBatchStreamAdapter::new(schema, cut))
}

/// The rows in memory of their own.
fn copy(batch: &RecordBatch) -> Result<RecordBatch> {
    let all = UInt32Array::from_iter_values(0..batch.num_rows() as u32);
    Ok(take_record_batch(batch, &all)?)
}

/// A stream as a plan that runs once.
struct Once {
    schema: SchemaRef,
    stream: Mutex<Option<SendableRecordBatchStream>>,
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Once")
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let taken = self.stream.lock().take();
        taken.unwrap_or_else(|| {
            Box::pin(datafusion::physical_plan::EmptyRecordBatchStream::new(Arc::clone(&self.schema)))
        })
    }
}
