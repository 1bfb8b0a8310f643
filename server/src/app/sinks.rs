//! A group's sinks: made with the group, dropped with it or before it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{App, Error};
use crate::catalog::{
    Error as CatalogError, FeatureGroup, GroupEntry, Sink, SinkId, SinkSpec, SinkTarget, history,
};
use crate::log::kafka;
use crate::sinks::{self, Changelog};

/// How long a group that is dropped waits for its sinks.
const LAST_ROWS: Duration = Duration::from_secs(30);

impl App {
    /// The sinks of a group that is about to be created: checked, their topics and subjects made.
    pub(super) async fn new_sinks(&self, specs: &[SinkSpec], entry: &GroupEntry) -> Result<Vec<Sink>, Error> {
        let history = history::schema(&entry.schema);
        let folder = format!("{}_{}", entry.label(), entry.def.uuid);
        let mut sinks: Vec<Sink> = Vec::with_capacity(specs.len());
        for (spec, id) in specs.iter().zip(1..) {
            let sink = spec.resolve(SinkId(id), self.sinks.root(), &folder, &history)?;
            if sinks.iter().any(|other| other.name == sink.name) {
                return Err(refused(
                    format!("two sinks are called {}", sink.name),
                    "give each a name of its own".to_owned(),
                ));
            }
            self.is_free(&sink, &sinks, &entry.def)?;
            sinks.push(sink);
        }
        for (spec, sink) in specs.iter().zip(&sinks) {
            match (&sink.target, spec) {
                (SinkTarget::Kafka { topic }, SinkSpec::Kafka { partitions, .. }) => {
                    self.make_topic(topic, *partitions, entry).await?;
                }
                (SinkTarget::Files { path, .. }, _) => {
                    is_empty(&self.sinks.root().join(path))?;
                }
                (SinkTarget::Kafka { .. }, SinkSpec::Files { .. }) => {}
            }
        }
        Ok(sinks)
    }

    /// Drops one sink of a group. What it wrote stays, what it does not have yet it will not get.
    pub async fn drop_sink(&self, name: &str, version: u32, sink: &str) -> Result<Arc<GroupEntry>, Error> {
        let _turn = self.creating.lock().await;
        let entry = self.catalog.group(name, version)?;
        let id = entry.def.sinks.iter().find(|s| s.name.as_str() == sink).map(|s| s.id).ok_or_else(|| {
            let names: Vec<&str> = entry.def.sinks.iter().map(|s| s.name.as_str()).collect();
            CatalogError::NotFound {
                kind: "sink",
                name: format!("{sink} of feature group {name} version {version}"),
                hint: if names.is_empty() {
                    "the group has none".to_owned()
                } else {
                    format!("there are: {}", names.join(", "))
                },
            }
        })?;
        let left = entry.def.sinks.iter().filter(|s| s.id != id).cloned().collect();
        let def = FeatureGroup { sinks: left, ..entry.def.clone() };
        let entry = self.catalog.put_group(self.catalog.plan_group(def)?)?;
        self.stop_sinks(&entry, Some(id)).await?;
        self.store.drop_sink(entry.def.id, id)?;
        Ok(entry)
    }

    /// Brings what a group that is about to be dropped owes to its sinks.
    pub(super) async fn drain_sinks(&self, entry: &GroupEntry) -> Result<(), Error> {
        if self.sinks.flush(entry.def.id, LAST_ROWS).await? {
            return Ok(());
        }
        let behind = self.sinks.status(entry.def.id).into_iter().find(|status| status.lag_rows > 0);
        Err(Error::Behind {
            group: entry.label(),
            sink: behind.as_ref().map(|status| status.sink.name.to_string()).unwrap_or_default(),
            reason: behind
                .and_then(|status| status.reason)
                .unwrap_or_else(|| "it is not done in time".to_owned()),
        })
    }

    /// Stops the sinks of a group, or one of them.
    pub(super) async fn stop_sinks(&self, entry: &GroupEntry, sink: Option<SinkId>) -> Result<(), Error> {
        let (sinks, group) = (Arc::clone(&self.sinks), entry.def.id);
        Ok(tokio::task::spawn_blocking(move || sinks.forget(group, sink)).await?)
    }

    /// Refuses what somebody writes to or the group reads already.
    fn is_free(&self, sink: &Sink, siblings: &[Sink], def: &FeatureGroup) -> Result<(), Error> {
        let snapshot = self.catalog.snapshot();
        let others = snapshot.groups().flat_map(|g| g.def.sinks.iter().map(move |s| (g.label(), s)));
        let mine = siblings.iter().map(|s| ("this one".to_owned(), s));
        if let Some((group, other)) = others.chain(mine).find(|(_, other)| other.target.meets(&sink.target)) {
            return Err(refused(
                format!("{} is written by sink {} of feature group {group}", other.target, other.name),
                "choose another topic or folder: rows of two sinks could not be told apart".to_owned(),
            ));
        }
        let SinkTarget::Kafka { topic } = &sink.target else { return Ok(()) };
        let reads = snapshot.sources(def)?.into_iter().find(|s| s.def.topic.as_ref() == Some(topic));
        reads.map_or(Ok(()), |stream| {
            Err(refused(
                format!("topic {topic} is what stream {} reads, and so the group itself", stream.def.name),
                "choose another topic: what comes out must not go in again".to_owned(),
            ))
        })
    }

    async fn make_topic(
        &self,
        topic: &str,
        partitions: Option<u32>,
        entry: &GroupEntry,
    ) -> Result<(), Error> {
        let def = &entry.def;
        let changelog = Changelog::new(def.name.as_str(), &entry.schema, &def.primary_key).map_err(|e| {
            refused(e.to_string(), "give the column an alias of letters, digits and underscores".to_owned())
        })?;
        if partitions.is_some_and(|n| !(1..=1024).contains(&n)) {
            return Err(refused(
                "partitions: there is no such number".to_owned(),
                "give 1 to 1024".to_owned(),
            ));
        }
        kafka::ensure_topic(&self.config.kafka, topic, partitions).await?;
        self.registry.register(&sinks::key_subject(topic), &changelog.key_schema).await?;
        self.registry.register(&sinks::value_subject(topic), &changelog.value_schema).await?;
        Ok(())
    }
}

/// What a group was asked for and has, compared.
pub(super) fn same(specs: Option<&[SinkSpec]>, def: &FeatureGroup, root: &Path) -> bool {
    specs.is_none_or(|specs| {
        specs.len() == def.sinks.len() && specs.iter().zip(&def.sinks).all(|(spec, sink)| spec.is(sink, root))
    })
}

/// Rows of another group, or of another time, must not lie beside these.
fn is_empty(folder: &Path) -> Result<(), Error> {
    let has_entries = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if !has_entries {
        return Ok(());
    }
    Err(refused(
        format!("path: {} is not empty", folder.display()),
        "choose another folder, or move away what is in it".to_owned(),
    ))
}

fn refused(message: String, hint: String) -> Error {
    CatalogError::invalid("sinks", message, hint).into()
}
