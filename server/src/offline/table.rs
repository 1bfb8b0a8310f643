//! A feature group's Delta table: the living [`DeltaLog`] on delta-rs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, Add, StructType, Transaction};
use deltalake::parquet::basic::{Compression, ZstdLevel};
use deltalake::parquet::file::properties::WriterProperties;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::writer::{DeltaWriter, RecordBatchWriter};
use deltalake::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use futures::{StreamExt, TryStreamExt};
use url::Url;

use super::durable::{self, DurableFileSystem};
use super::protocol::{DeltaLog, Snapshot};
use super::read::conform;
use crate::catalog::history::EVENT_DATE;

/// Where a table is and what it is made with.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The table's own folder; its path has the group's uuid in it.
    pub location: Url,
    /// Options of the object store (endpoint, credentials …).
    pub storage: HashMap<String, String>,
    /// `millpond/<store uuid>/<group uuid>`.
    pub app_id: String,
    /// The history's columns.
    pub schema: SchemaRef,
    /// `<name>_<version>`, as the table is called in its own metadata.
    pub name: String,
    /// Table properties: what tells another program whose history this is.
    pub properties: Vec<(String, String)>,
}

/// One group's table, loaded or not yet.
#[derive(Debug)]
pub struct Table {
    spec: Spec,
    loaded: Option<DeltaTable>,
}

impl Table {
    /// A handle; nothing is read or made yet.
    pub fn new(spec: Spec) -> Self {
        Self { spec, loaded: None }
    }

    /// Where it is and what it is made with.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The newest version, where there is a table: it is read anew, and not made.
    pub async fn newest(&mut self) -> Result<Option<&DeltaTable>, DeltaTableError> {
        if let Some(table) = &mut self.loaded {
            table.update_state().await?;
        } else {
            // Lists the log folder first: a folder that is not there is not an error.
            let mut table = self.spec.open()?;
            if !table.verify_deltatable_existence().await? {
                return Ok(None);
            }
            table.load().await?;
            self.loaded = Some(table);
        }
        Ok(self.loaded.as_ref())
    }

    /// The newest version, as one that keeps to it, and the last outbox sequence in it.
    pub async fn newest_with_transaction(
        &mut self,
    ) -> Result<Option<(DeltaTable, Option<u64>)>, DeltaTableError> {
        let Some(table) = self.newest().await?.cloned() else { return Ok(None) };
        let transaction = self.transaction(&table).await?;
        Ok(Some((table, transaction)))
    }

    /// The version read or written last.
    pub fn loaded(&self) -> Option<&DeltaTable> {
        self.loaded.as_ref()
    }

    /// Deletes the table with all its files.
    pub async fn remove(&mut self) -> Result<(), DeltaTableError> {
        self.loaded = None;
        if let Some(path) = self.spec.local() {
            return match std::fs::remove_dir_all(path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
                _ => Ok(()),
            };
        }
        let files = self.spec.open()?.object_store();
        let all = files.list(None).map_ok(|file| file.location).boxed();
        files.delete_stream(all).try_for_each(|_| std::future::ready(Ok(()))).await.map_err(Into::into)
    }

    /// Forgets what was loaded: the next use reads the table from its beginning.
    pub fn forget(&mut self) {
        self.loaded = None;
    }

    /// The last outbox sequence in the table.
    pub async fn transaction(&self, table: &DeltaTable) -> Result<Option<u64>, DeltaTableError> {
        let version =
            table.snapshot()?.transaction_version(table.log_store().as_ref(), &self.spec.app_id).await?;
        Ok(version.and_then(|v| u64::try_from(v).ok()))
    }

    async fn create(&self) -> Result<DeltaTable, DeltaTableError> {
        let columns: StructType = self.spec.schema.as_ref().try_into_kernel()?;
        let properties = self.spec.properties.iter().map(|(k, v)| (k.clone(), Some(v.clone())));
        self.spec
            .open()?
            .create()
            .with_table_name(&self.spec.name)
            .with_columns(columns.fields().cloned())
            .with_partition_columns([EVENT_DATE])
            .with_configuration(properties)
            .with_raise_if_key_not_exists(false)
            .with_save_mode(SaveMode::Ignore)
            .await
    }
}

impl Spec {
    /// A handle of delta-rs; on a local disk its writes are durable when they return.
    pub fn open(&self) -> Result<DeltaTable, DeltaTableError> {
        let mut builder = DeltaTableBuilder::from_url(self.location.clone())?;
        if let Some(path) = self.local() {
            let root = path.parent().map_or_else(|| path.clone(), PathBuf::from);
            let root_url =
                Url::parse("file:///").map_err(|e| DeltaTableError::InvalidTableLocation(e.to_string()))?;
            builder = builder.with_storage_backend(Arc::new(DurableFileSystem::new(root)), root_url);
        } else {
            builder = builder.with_storage_options(self.storage.clone());
        }
        builder.build()
    }

    /// The table's folder, if it is on a local disk.
    pub fn local(&self) -> Option<PathBuf> {
        (self.location.scheme() == "file").then(|| self.location.to_file_path().ok()).flatten()
    }
}

/// How Parquet is written: zstd, as every reader of Delta has it and histories compress well.
pub fn parquet() -> WriterProperties {
    WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build()
}

/// What the table does to itself after a commit: nothing. Checkpoints are maintenance's.
pub fn plain_commit() -> CommitProperties {
    CommitProperties::default().with_create_checkpoint(false).with_cleanup_expired_logs(Some(false))
}

impl DeltaLog for Table {
    type Files = Vec<Add>;
    type Error = DeltaTableError;

    async fn load(&mut self) -> Result<Snapshot, DeltaTableError> {
        if self.newest().await?.is_none() {
            self.loaded = Some(self.create().await?);
        }
        let table = self.loaded.as_ref().ok_or(DeltaTableError::NotInitialized)?;
        let version = table.version().ok_or(DeltaTableError::NotInitialized)?;
        Ok(Snapshot { version, transaction: self.transaction(table).await? })
    }

    /// On a local disk a process may have died between giving a commit its name and syncing the
    /// name's directory (the bytes were synced before). Object stores have no such state.
    async fn settle(&mut self) -> Result<(), DeltaTableError> {
        if let Some(path) = self.spec.local() {
            let synced = tokio::task::spawn_blocking(move || {
                durable::sync(&path.join("_delta_log"))?;
                durable::sync(&path)
            });
            synced.await.map_err(|e| DeltaTableError::Generic(e.to_string()))??;
        }
        Ok(())
    }

    async fn write(&mut self, rows: Vec<RecordBatch>) -> Result<Vec<Add>, DeltaTableError> {
        let table = self.loaded.as_ref().ok_or(DeltaTableError::NotInitialized)?;
        let mut writer = RecordBatchWriter::for_table(table)?.with_writer_properties(parquet());
        let schema = writer.arrow_schema();
        for batch in rows {
            writer.write(conform(&batch, &schema)?).await?;
        }
        writer.flush().await
    }

    async fn commit(&mut self, from: u64, files: Vec<Add>, transaction: u64) -> Result<(), DeltaTableError> {
        let table = self.loaded.as_ref().ok_or(DeltaTableError::NotInitialized)?;
        let state = table.snapshot()?;
        if state.version() != from {
            return Err(DeltaTableError::Generic(format!(
                "the table is at {}, not at {from}",
                state.version()
            )));
        }
        let transaction = i64::try_from(transaction).map_err(|e| DeltaTableError::Generic(e.to_string()))?;
        // No retries: delta-rs would commit onto a later version, whose transaction nobody has read.
        let properties = plain_commit()
            .with_application_transaction(Transaction::new(&self.spec.app_id, transaction))
            .with_max_retries(0);
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(vec![EVENT_DATE.to_owned()]),
            predicate: None,
        };
        let committed = CommitBuilder::from(properties)
            .with_actions(files.into_iter().map(Action::Add).collect())
            .build(Some(state), table.log_store(), operation)
            .await?;
        if let Some(table) = &mut self.loaded {
            table.state = Some(committed.snapshot);
        }
        Ok(())
    }
}
