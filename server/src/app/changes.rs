//! Streams of the changes of groups that others look up: made with the first of these, gone with the last.

use std::sync::Arc;

use futures::TryStreamExt as _;
use millpond_engine::sql::CHANGES;
use millpond_engine::time::Span;
use uuid::Uuid;

use super::{App, Error, declared, now};
use crate::catalog::{
    ChangesOf, ColumnSpec, Error as CatalogError, Format, GroupEntry, Name, OnBadRecord, Stream, StreamEntry,
    StreamId, history,
};
use crate::offline::Range;

impl App {
    /// The stream of the changes of a group, by what SQL calls the group. True: it is new.
    pub(super) async fn changes_of(&self, name: &str) -> Result<(Arc<StreamEntry>, bool), Error> {
        let group = self.group_called(name)?;
        if let Some(stream) = self.catalog.snapshot().changes_of(group.def.id) {
            return Ok((Arc::clone(stream), false));
        }
        let def = self.new_changes(&group)?;
        let (id, stream) = (group.def.id, def.id);
        let written = self.write_history(&group, stream).await;
        let entry = match written {
            Ok(()) => self.catalog.put_stream(def).map_err(Error::from),
            Err(error) => Err(error),
        };
        match entry {
            Ok(entry) => Ok((entry, true)),
            Err(error) => {
                self.store.follow(id, None)?;
                self.store.drop_log(stream)?;
                Err(error)
            }
        }
    }

    /// Drops streams of changes that no group reads any more.
    pub(super) fn drop_changes(&self, streams: &[Arc<StreamEntry>]) -> Result<(), Error> {
        for stream in streams {
            let Some(of) = &stream.def.changes_of else { continue };
            let snapshot = self.catalog.snapshot();
            if snapshot.stream_by_id(stream.def.id).is_none()
                || snapshot.groups_of(stream.def.id).next().is_some()
            {
                continue;
            }
            self.store.follow(of.group, None)?;
            self.drop_log(stream.def.name.as_str())?;
        }
        Ok(())
    }

    /// Tells the store which groups others look up: before their pipelines start.
    pub(super) fn follow_all(&self) -> Result<(), Error> {
        for stream in self.catalog.snapshot().streams() {
            if let Some(of) = &stream.def.changes_of {
                self.store.follow(of.group, Some(stream.def.id))?;
            }
        }
        Ok(())
    }

    /// `users` is version 1 of the group, `users_2` its version 2.
    fn group_called(&self, name: &str) -> Result<Arc<GroupEntry>, CatalogError> {
        let snapshot = self.catalog.snapshot();
        let missing = match snapshot.group(name, 1) {
            Ok(group) => return Ok(group),
            Err(missing) => missing,
        };
        let versioned = name.rsplit_once('_').and_then(|(name, version)| Some((name, version.parse().ok()?)));
        versioned.and_then(|(name, version)| snapshot.group(name, version).ok()).ok_or(missing)
    }

    fn new_changes(&self, group: &GroupEntry) -> Result<Stream, Error> {
        let def = &group.def;
        let refused = |message: String| {
            CatalogError::invalid("sql", message, "look up a group with another name, or without that column")
        };
        if def.primary_key.is_empty() {
            return Err(
                refused(format!("feature group {} has no primary key to look it up by", def.name)).into()
            );
        }
        let name = format!("{}_changes", group.label());
        if self.catalog.stream(&name).is_ok() {
            return Err(refused(format!("a stream is called {name}, as the group's changes would be")).into());
        }
        let name = Name::try_from(name).map_err(|e| refused(e.to_string()))?;
        let features = def.columns.iter().map(|column| ColumnSpec {
            name: column.name.clone(),
            data_type: column.data_type.clone(),
            nullable: column.nullable,
        });
        let [event_time, available_at, commit, op] = CHANGES;
        let stamp =
            [(event_time, "timestamp"), (available_at, "timestamp"), (commit, "bigint"), (op, "string")];
        let stamp = stamp.map(|(name, data_type)| ColumnSpec {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            nullable: false,
        });
        let columns: Vec<ColumnSpec> = features.chain(stamp).collect();
        let schema = declared::record(name.as_str(), "sql", &columns)?.to_string();
        Ok(Stream {
            id: StreamId(self.catalog.next_id()?),
            uuid: Uuid::new_v4(),
            subject: name.to_string(),
            name,
            topic: None,
            partitions: 1,
            schema,
            schema_id: 0,
            format: Format::Changes,
            event_time: history::AVAILABLE_AT.to_owned(),
            event_time_unit: None,
            watermark_delay: Span(0),
            idle_timeout: None,
            idle_advance: false,
            max_future_skew: Span(0),
            time: def.time,
            on_bad_record: OnBadRecord::Quarantine,
            created_at: now(),
            finish: None,
            changes_of: Some(ChangesOf {
                group: def.id,
                name: def.name.clone(),
                version: def.version,
                primary_key: def.primary_key.clone(),
                ttl: def.ttl,
                backfills: def.sources.iter().any(|source| source.backfill_end.iter().any(|end| *end > 0)),
            }),
        })
    }

    /// From here on every commit of the group is followed; what was before comes from its history.
    async fn write_history(&self, group: &GroupEntry, stream: StreamId) -> Result<(), Error> {
        let id = group.def.id;
        self.store.follow(id, Some(stream))?;
        let mut rows = self.offline.read(id, Range::default()).await?;
        while let Some(batch) = rows.try_next().await.map_err(crate::offline::Error::from)? {
            let store = Arc::clone(&self.store);
            tokio::task::spawn_blocking(move || store.append_changes(id, stream, &batch)).await??;
        }
        Ok(())
    }
}
