//! One feature group's offline side: where its table is, and how its drain stands.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use url::Url;
use uuid::Uuid;

use super::table::{Spec, Table};
use super::{Error, Options};
use crate::catalog::{FeatureGroup, GroupId, history};
use crate::store::commit::OutboxEntry;
use crate::store::{self, Store};
use crate::telemetry::GroupMetrics;

use super::protocol::{Outbox, Owed};

/// Table property: the definition's hash.
const DEFINITION: &str = "millpond.definition_hash";
/// Table property: the group's uuid.
const GROUP: &str = "millpond.feature_group_uuid";

/// A group, registered.
pub struct Group {
    /// Its definition.
    pub def: Arc<FeatureGroup>,
    /// The features with the primary key, as the engine makes them.
    pub features: SchemaRef,
    /// The columns of its history.
    pub history: SchemaRef,
    /// The drain's handle; locked for the length of a drain.
    pub(super) draining: tokio::sync::Mutex<Table>,
    /// The readers' handle; locked for the length of a look at the log.
    pub(super) reading: tokio::sync::Mutex<Table>,
    pub(super) state: Mutex<State>,
    pub(super) spec: Spec,
    pub(super) metrics: Option<GroupMetrics>,
}

/// How the drain of a group stands.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Version of the table after the last drain.
    pub version: Option<u64>,
    /// Why it stands still, or why the last try failed.
    pub trouble: Option<String>,
    /// True: only a restart or a flush tries again.
    pub halted: bool,
    /// True once table and store were compared in this process.
    pub checked: bool,
    /// Failures in a row.
    pub failures: u32,
    /// When the last drain began.
    pub last: Option<Instant>,
    /// When old files were last looked for.
    pub vacuumed: Option<Instant>,
}

impl Group {
    pub(super) fn new(
        def: Arc<FeatureGroup>,
        features: SchemaRef,
        store: Uuid,
        options: &Options,
    ) -> Result<Self, Error> {
        let history = history::schema(&features);
        let spec = Spec {
            location: location(&options.root, &def)?,
            storage: options.storage.clone(),
            app_id: format!("millpond/{store}/{}", def.uuid),
            schema: Arc::clone(&history),
            name: format!("{}_{}", def.name, def.version),
            properties: vec![
                (DEFINITION.to_owned(), def.definition_hash.clone()),
                (GROUP.to_owned(), def.uuid.to_string()),
            ],
        };
        let metrics = options.metrics.as_ref().map(|metrics| metrics.group(&spec.name));
        Ok(Self {
            def,
            features,
            history,
            draining: tokio::sync::Mutex::new(Table::new(spec.clone())),
            reading: tokio::sync::Mutex::new(Table::new(spec.clone())),
            state: Mutex::default(),
            spec,
            metrics,
        })
    }

    /// `<name>_<version>`: what people call it.
    pub fn label(&self) -> &str {
        &self.spec.name
    }

    /// The table's path or URL, as other programs want it.
    pub fn location(&self) -> String {
        match self.spec.local() {
            Some(path) => path.display().to_string(),
            None => self.spec.location.to_string(),
        }
    }
}

/// `<root>/<name>_<version>_<group uuid>`: a group that is made again under the same name never
/// meets the table of the one before it.
pub fn location(root: &str, def: &FeatureGroup) -> Result<Url, Error> {
    let bad = |detail: String| Error::Root { root: root.to_owned(), detail };
    let folder = format!("{}_{}_{}", def.name, def.version, def.uuid);
    if root.contains("://") {
        let base = if root.ends_with('/') { root.to_owned() } else { format!("{root}/") };
        let base = Url::parse(&base).map_err(|e| bad(e.to_string()))?;
        return base.join(&format!("{folder}/")).map_err(|e| bad(e.to_string()));
    }
    let path = std::path::absolute(Path::new(root).join(folder))?;
    Url::from_directory_path(&path).map_err(|()| bad("not an absolute path".to_owned()))
}

/// A group's outbox in the store, as the protocol sees it.
pub(super) struct StoredOutbox<'a> {
    pub store: &'a Store,
    pub group: GroupId,
}

impl Outbox for StoredOutbox<'_> {
    type Error = store::Error;

    fn owed(&self) -> Result<Owed, store::Error> {
        // What was issued first. The other way round, an entry committed in between would look like one
        // that is gone. (Entries that only a sink still wants are none of Delta's business.)
        let issued = self.store.outbox_last_issued(self.group)?;
        Ok(Owed { issued, first: self.store.outbox_first_owed(self.group)? })
    }

    fn after(&self, sequence: u64, rows: usize) -> Result<Vec<OutboxEntry>, store::Error> {
        let view = self.store.view();
        let mut count = 0;
        let mut entries = Vec::new();
        for entry in view.outbox(self.group, Some(sequence))? {
            let entry = entry?;
            count += entry.rows.num_rows();
            entries.push(entry);
            if count >= rows {
                break;
            }
        }
        Ok(entries)
    }

    fn delete(&self, through: u64) -> Result<u64, store::Error> {
        self.store.delete_outbox(self.group, through)
    }
}
