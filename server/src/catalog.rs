//! Streams, feature groups and feature views: their definitions, identities and rules.
//!
//! Readers take a [`Snapshot`] and never wait; writers take turns, write the store first and then
//! publish the next snapshot.

pub mod definition;
pub mod entry;
mod error;
mod hash;
pub mod history;
pub mod name;
pub mod sink;
mod snapshot;
pub mod spec;
pub mod types;
mod view;

use std::sync::Arc;

use arc_swap::ArcSwap;
use millpond_engine::time::Micros;
use parking_lot::Mutex;

use crate::store::Kind;
use crate::store::Store;

pub use definition::*;
pub use entry::{GroupEntry, StreamEntry, ViewEntry};
pub use error::Error;
pub use name::Name;
pub use sink::{FileFormat, Sink, SinkId, SinkSpec, SinkTarget};
pub use snapshot::Snapshot;
pub use spec::{
    ColumnSpec, FeatureSpec, GroupRef, GroupSpec, JoinSpec, QuerySpec, Seconds, StreamSpec, ViewSpec,
};

/// What exists.
pub struct Catalog {
    store: Arc<Store>,
    current: ArcSwap<Snapshot>,
    writing: Mutex<()>,
}

impl Catalog {
    /// Reads every definition and plans every group again.
    pub fn open(store: Arc<Store>) -> Result<Self, Error> {
        let mut snapshot = Snapshot::default();
        for json in store.definitions(Kind::Stream)? {
            snapshot.insert_stream(Arc::new(StreamEntry::new(stored("a stream", &json)?)?));
        }
        for json in store.definitions(Kind::Group)? {
            let def: FeatureGroup = stored("a feature group", &json)?;
            let streams = snapshot.sources(&def)?;
            snapshot.insert_group(Arc::new(GroupEntry::new(def, &streams)?));
        }
        for json in store.definitions(Kind::View)? {
            let def: FeatureView = stored("a feature view", &json)?;
            let groups = def
                .groups
                .iter()
                .map(|g| snapshot.group(g.name.as_str(), g.version))
                .collect::<Result<Vec<_>, _>>()?;
            snapshot.insert_view(Arc::new(ViewEntry::new(def, groups)?));
        }
        Ok(Self { store, current: ArcSwap::from_pointee(snapshot), writing: Mutex::new(()) })
    }

    /// What exists now; stays as it is while others write.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// A stream by name.
    pub fn stream(&self, name: &str) -> Result<Arc<StreamEntry>, Error> {
        self.current.load().stream(name)
    }

    /// A feature group by name and version.
    pub fn group(&self, name: &str, version: u32) -> Result<Arc<GroupEntry>, Error> {
        self.current.load().group(name, version)
    }

    /// A feature view by name and version.
    pub fn view(&self, name: &str, version: u32) -> Result<Arc<ViewEntry>, Error> {
        self.current.load().view(name, version)
    }

    /// The next identity.
    pub fn next_id(&self) -> Result<u32, Error> {
        Ok(self.store.next_id()?)
    }

    /// Adds a stream, or replaces the definition of the one with the same identity.
    pub fn put_stream(&self, def: Stream) -> Result<Arc<StreamEntry>, Error> {
        let entry = Arc::new(StreamEntry::new(def)?);
        self.write(|next| {
            self.store.put_definition(Kind::Stream, entry.def.name.as_str(), 1, &json(&entry.def)?)?;
            next.insert_stream(Arc::clone(&entry));
            Ok(())
        })?;
        Ok(entry)
    }

    /// Plans a group against its sources without adding it.
    pub fn plan_group(&self, def: FeatureGroup) -> Result<GroupEntry, Error> {
        let streams = self.current.load().sources(&def)?;
        GroupEntry::new(def, &streams)
    }

    /// Adds a group, or replaces the definition of the one with the same identity.
    pub fn put_group(&self, entry: GroupEntry) -> Result<Arc<GroupEntry>, Error> {
        let entry = Arc::new(entry);
        self.write(|next| {
            let def = &entry.def;
            self.store.put_definition(Kind::Group, def.name.as_str(), def.version, &json(def)?)?;
            next.insert_group(Arc::clone(&entry));
            Ok(())
        })?;
        Ok(entry)
    }

    /// The view that `spec` asks for: the one that exists with the same definition (false), or a new one (true).
    pub fn get_or_create_view(&self, spec: &ViewSpec, now: Micros) -> Result<(Arc<ViewEntry>, bool), Error> {
        version(spec.version)?;
        let mut result = None;
        self.write(|next| {
            let (def, groups) = view::define(spec, now, &|g| next.group(g.name.as_str(), g.version))?;
            if let Ok(existing) = next.view(spec.name.as_str(), spec.version) {
                if existing.def.definition_hash != def.definition_hash {
                    return Err(view_conflict(&existing.def, &def));
                }
                result = Some((existing, false));
                return Ok(());
            }
            let id = ViewId(self.store.next_id()?);
            let entry = Arc::new(ViewEntry::new(FeatureView { id, ..def }, groups)?);
            self.store.put_definition(Kind::View, spec.name.as_str(), spec.version, &json(&entry.def)?)?;
            next.insert_view(Arc::clone(&entry));
            result = Some((entry, true));
            Ok(())
        })?;
        result.ok_or_else(|| Error::Stored {
            what: spec.name.to_string(),
            detail: "it was not written".to_owned(),
        })
    }

    /// Removes a stream that no group reads.
    pub fn drop_stream(&self, name: &str) -> Result<Arc<StreamEntry>, Error> {
        let mut dropped = None;
        self.write(|next| {
            let entry = next.stream(name)?;
            let by = next.readers(entry.def.id);
            if !by.is_empty() {
                return Err(Error::InUse { kind: "stream", name: name.to_owned(), by });
            }
            self.store.delete_definition(Kind::Stream, name, 1)?;
            next.remove_stream(&entry);
            dropped = Some(entry);
            Ok(())
        })?;
        dropped.ok_or_else(|| self.current.load().no_stream(name))
    }

    /// Removes a group that no view selects; with `force` the views go with it.
    pub fn drop_group(&self, name: &str, version: u32, force: bool) -> Result<Arc<GroupEntry>, Error> {
        let mut dropped = None;
        self.write(|next| {
            let entry = next.group(name, version)?;
            let views = next.views_of(entry.def.id);
            if !views.is_empty() && !force {
                let by =
                    views.iter().map(|v| format!("feature view {} version {}", v.def.name, v.def.version));
                return Err(Error::InUse { kind: "feature group", name: entry.label(), by: by.collect() });
            }
            for view in views {
                self.store.delete_definition(Kind::View, view.def.name.as_str(), view.def.version)?;
                next.remove_view(&view);
            }
            self.store.delete_definition(Kind::Group, name, version)?;
            next.remove_group(&entry);
            dropped = Some(entry);
            Ok(())
        })?;
        dropped.ok_or_else(|| self.current.load().no_group(name, version))
    }

    /// Removes a view.
    pub fn drop_view(&self, name: &str, version: u32) -> Result<(), Error> {
        self.write(|next| {
            let entry = next.view(name, version)?;
            self.store.delete_definition(Kind::View, name, version)?;
            next.remove_view(&entry);
            Ok(())
        })
    }

    /// Runs one change: the store first, then the snapshot that everyone sees.
    fn write(&self, change: impl FnOnce(&mut Snapshot) -> Result<(), Error>) -> Result<(), Error> {
        let _turn = self.writing.lock();
        let mut next = Snapshot::clone(&self.current.load());
        change(&mut next)?;
        self.current.store(Arc::new(next));
        Ok(())
    }
}

/// Versions count from 1.
pub fn version(version: u32) -> Result<(), Error> {
    if version == 0 {
        return Err(Error::invalid("version", "versions count from 1", "leave it out for version 1"));
    }
    Ok(())
}

/// SHA-256 over what makes a group the group it is; see `contract.md`.
pub fn group_hash(
    def: &FeatureGroup,
    streams: &[Arc<StreamEntry>],
    entry: &GroupEntry,
) -> Result<String, Error> {
    let sources: Vec<_> = streams.iter().zip(&entry.readers).map(|(s, r)| (&s.def, r.as_ref())).collect();
    hash::group(def, &sources)
}

fn stored<T: serde::de::DeserializeOwned>(what: &str, json: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|e| Error::Stored { what: what.to_owned(), detail: e.to_string() })
}

fn json<T: serde::Serialize>(def: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(def)
        .map_err(|e| Error::Stored { what: "a definition".to_owned(), detail: e.to_string() })
}

fn view_conflict(was: &FeatureView, asked: &FeatureView) -> Error {
    let list =
        |view: &FeatureView| view.features.iter().map(|f| f.name.as_str()).collect::<Vec<_>>().join(", ");
    let groups = |view: &FeatureView| {
        view.groups.iter().map(|g| format!("{} version {}", g.name, g.version)).collect::<Vec<_>>().join(", ")
    };
    let mut diff = Vec::new();
    for (what, a, b) in [
        ("features", list(was), list(asked)),
        ("feature groups", groups(was), groups(asked)),
        ("labels", was.labels.join(", "), asked.labels.join(", ")),
    ] {
        if a != b {
            diff.push(format!("{what}: [{a}] is not [{b}]"));
        }
    }
    if diff.is_empty() {
        diff.push("its groups are joined or identified differently".to_owned());
    }
    Error::Conflict {
        kind: "feature view",
        name: format!("{} version {}", was.name, was.version),
        diff,
        hint: format!("raise the version: version={}", was.version.saturating_add(1)),
    }
}
