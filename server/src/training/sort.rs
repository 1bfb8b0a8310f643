//! Sorting streams of any size in bounded memory: DataFusion's external sort, spilling to a folder.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

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
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::prelude::{SessionConfig, SessionContext};
use parking_lot::Mutex;

/// Rows of one batch, here and wherever training makes batches.
pub const BATCH: usize = 8192;

/// The workspace of one join: a share of memory, and a folder for what does not fit.
#[derive(Clone)]
pub struct Workspace {
    session: SessionContext,
}

impl Workspace {
    /// At most about `memory` bytes of rows being sorted at a time; the rest goes to files in `spill`.
    pub fn new(memory: usize, spill: &Path) -> Result<Self> {
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![spill.to_owned()]))
            .with_max_temp_directory_size(u64::MAX);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(memory)))
            .with_disk_manager_builder(disk)
            .build_arc()?;
        let mut config = SessionConfig::new().with_target_partitions(1).with_batch_size(BATCH);
        // What merging spilled runs may use besides; the default is more than a small share has.
        config.options_mut().execution.sort_spill_reservation_bytes = memory / 16;
        Ok(Self { session: SessionContext::new_with_config_rt(config, runtime) })
    }

    /// The session to read tables with: its scans and sorts share the memory.
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
        let once = Arc::new(Once { schema: Arc::clone(&schema), stream: Mutex::new(Some(input)) });
        let source = StreamingTableExec::try_new(schema, vec![once], None, [], false, None)?;
        SortExec::new(by, Arc::new(source)).execute(0, self.session.task_ctx())
    }
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
