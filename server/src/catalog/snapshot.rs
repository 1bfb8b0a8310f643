//! What exists at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Error, FeatureGroup, GroupEntry, GroupId, StreamEntry, StreamId, ViewEntry};

/// All objects by name, and by identity where they refer to each other.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    streams: BTreeMap<String, Arc<StreamEntry>>,
    groups: BTreeMap<(String, u32), Arc<GroupEntry>>,
    views: BTreeMap<(String, u32), Arc<ViewEntry>>,
}

impl Snapshot {
    /// All streams by name.
    pub fn streams(&self) -> impl Iterator<Item = &Arc<StreamEntry>> {
        self.streams.values()
    }

    /// All feature groups by name and version.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<GroupEntry>> {
        self.groups.values()
    }

    /// All feature views by name and version.
    pub fn views(&self) -> impl Iterator<Item = &Arc<ViewEntry>> {
        self.views.values()
    }

    /// A stream by name.
    pub fn stream(&self, name: &str) -> Result<Arc<StreamEntry>, Error> {
        self.streams.get(name).cloned().ok_or_else(|| self.no_stream(name))
    }

    /// A stream by identity.
    pub fn stream_by_id(&self, id: StreamId) -> Option<&Arc<StreamEntry>> {
        self.streams.values().find(|s| s.def.id == id)
    }

    /// A feature group by name and version.
    pub fn group(&self, name: &str, version: u32) -> Result<Arc<GroupEntry>, Error> {
        self.groups.get(&(name.to_owned(), version)).cloned().ok_or_else(|| self.no_group(name, version))
    }

    /// A feature group by identity.
    pub fn group_by_id(&self, id: GroupId) -> Option<&Arc<GroupEntry>> {
        self.groups.values().find(|g| g.def.id == id)
    }

    /// A feature view by name and version.
    pub fn view(&self, name: &str, version: u32) -> Result<Arc<ViewEntry>, Error> {
        self.views.get(&(name.to_owned(), version)).cloned().ok_or_else(|| Error::NotFound {
            kind: "feature view",
            name: format!("{name} version {version}"),
            hint: known(self.views.keys().map(|(n, v)| format!("{n} version {v}"))),
        })
    }

    /// The streams that a group reads, in order.
    pub fn sources(&self, def: &FeatureGroup) -> Result<Vec<Arc<StreamEntry>>, Error> {
        def.sources
            .iter()
            .map(|s| self.stream_by_id(s.stream).cloned().ok_or_else(|| self.no_stream(s.name.as_str())))
            .collect()
    }

    /// The stream of the changes of a group, if others look it up.
    pub fn changes_of(&self, group: GroupId) -> Option<&Arc<StreamEntry>> {
        self.streams.values().find(|s| s.def.changes_of.as_ref().is_some_and(|of| of.group == group))
    }

    /// The groups that read a stream, for people.
    pub fn readers(&self, stream: StreamId) -> Vec<String> {
        self.groups_of(stream)
            .map(|g| format!("feature group {} version {}", g.def.name, g.def.version))
            .collect()
    }

    /// The groups that read a stream.
    pub fn groups_of(&self, stream: StreamId) -> impl Iterator<Item = &Arc<GroupEntry>> {
        self.groups.values().filter(move |g| g.def.sources.iter().any(|s| s.stream == stream))
    }

    /// The views that select a group.
    pub fn views_of(&self, group: GroupId) -> Vec<Arc<ViewEntry>> {
        self.views.values().filter(|v| v.def.groups.iter().any(|g| g.id == group)).cloned().collect()
    }

    pub(super) fn no_stream(&self, name: &str) -> Error {
        Error::NotFound { kind: "stream", name: name.to_owned(), hint: known(self.streams.keys().cloned()) }
    }

    pub(super) fn no_group(&self, name: &str, version: u32) -> Error {
        Error::NotFound {
            kind: "feature group",
            name: format!("{name} version {version}"),
            hint: known(self.groups.keys().map(|(n, v)| format!("{n} version {v}"))),
        }
    }

    pub(super) fn insert_stream(&mut self, entry: Arc<StreamEntry>) {
        self.streams.insert(entry.def.name.to_string(), entry);
    }

    pub(super) fn insert_group(&mut self, entry: Arc<GroupEntry>) {
        self.groups.insert((entry.def.name.to_string(), entry.def.version), entry);
    }

    pub(super) fn insert_view(&mut self, entry: Arc<ViewEntry>) {
        self.views.insert((entry.def.name.to_string(), entry.def.version), entry);
    }

    pub(super) fn remove_stream(&mut self, entry: &StreamEntry) {
        self.streams.remove(entry.def.name.as_str());
    }

    pub(super) fn remove_group(&mut self, entry: &GroupEntry) {
        self.groups.remove(&(entry.def.name.to_string(), entry.def.version));
    }

    pub(super) fn remove_view(&mut self, entry: &ViewEntry) {
        self.views.remove(&(entry.def.name.to_string(), entry.def.version));
    }
}

/// What there is instead, as a hint.
fn known(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.take(10).collect();
    if names.is_empty() {
        "there is none yet: create it first".to_owned()
    } else {
        format!("there are: {}", names.join(", "))
    }
}
