//! What a view's vectors need, worked out once per view.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use arrow::datatypes::{DataType, Schema};
use millpond_engine::key;
use millpond_engine::time::Span;
use prometheus::Histogram;
use serde_json::{Map, Value};

use crate::app::App;
use crate::catalog::{GroupId, TimeMode, ViewEntry, ViewId};
use crate::http::Error;

/// A view, ready to be read.
#[derive(Debug)]
pub struct Plan {
    /// Its groups, in order.
    pub groups: Vec<Group>,
    /// Per feature: its name, its group and its column there.
    pub features: Vec<(String, usize, usize)>,
    /// Serving keys with their types.
    pub keys: Vec<(String, DataType)>,
    /// True where the groups are historical: each has its own `as_of`.
    pub historical: bool,
    /// `vector_seconds` of this view.
    pub seconds: Histogram,
}

/// One group of a view.
#[derive(Debug)]
pub struct Group {
    /// Whose rows.
    pub id: GroupId,
    /// Name.
    pub name: String,
    /// Version.
    pub version: u32,
    /// `name_version`.
    pub label: String,
    /// Older values are not served.
    pub ttl: Option<Span>,
    key: Schema,
    key_names: Vec<String>,
}

impl Plan {
    fn new(app: &App, view: &ViewEntry) -> Self {
        let groups = view.groups.iter().zip(&view.def.groups).map(|(entry, joined)| Group {
            id: entry.def.id,
            name: entry.def.name.to_string(),
            version: entry.def.version,
            label: entry.label(),
            ttl: entry.def.ttl,
            key: entry.key_schema(),
            key_names: joined.key.clone(),
        });
        let features = view.def.features.iter().zip(&view.columns);
        Self {
            groups: groups.collect(),
            features: features.map(|(f, (group, column))| (f.name.clone(), *group, *column)).collect(),
            keys: view.serving_keys(),
            historical: view.groups.iter().any(|g| g.def.time == TimeMode::Historical),
            seconds: app.metrics.vector_seconds(&view.label()),
        }
    }

    /// The encoded keys of one entry, one for each group.
    pub fn keys_of(
        &self,
        entry: &Map<String, Value>,
        at: usize,
        keys: &mut Vec<Vec<u8>>,
    ) -> Result<(), Error> {
        for group in &self.groups {
            let mut values = Vec::with_capacity(group.key_names.len());
            for name in &group.key_names {
                values.push(entry.get(name).cloned().ok_or_else(|| {
                    Error::invalid(
                        format!("entry {at} has no {name}"),
                        format!("the view's serving keys are {}", self.key_names()),
                    )
                })?);
            }
            let key = key::from_json(&group.key, &values).map_err(|e| {
                Error::invalid(
                    format!("entry {at}: {e}"),
                    "keys are written as in the type table of the docs",
                )
            })?;
            keys.push(key);
        }
        Ok(())
    }

    /// The names of the serving keys, for people.
    pub fn key_names(&self) -> String {
        self.keys.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Keys from a URL as JSON by their types: `"42"` is 42 where the key is an integer.
    pub fn typed(&self, texts: BTreeMap<String, String>) -> Map<String, Value> {
        let mut entry = Map::new();
        for (name, text) in texts {
            let data_type = self.keys.iter().find(|(key, _)| *key == name).map(|(_, data_type)| data_type);
            let value = match data_type {
                Some(DataType::Boolean) => text.parse::<bool>().map_or(Value::String(text), Value::Bool),
                Some(t) if t.is_signed_integer() || t.is_temporal() => {
                    text.parse::<i64>().map_or(Value::String(text), Value::from)
                }
                _ => Value::String(text),
            };
            entry.insert(name, value);
        }
        entry
    }
}

/// The plans of all views that were asked for. A view never changes and its id is never reused, so a
/// plan is never wrong; reading takes no lock.
#[derive(Debug, Default)]
pub struct Plans(ArcSwap<HashMap<ViewId, Arc<Plan>>>);

impl Plans {
    /// The plan of a view.
    pub fn of(&self, app: &App, view: &ViewEntry) -> Arc<Plan> {
        if let Some(plan) = self.0.load().get(&view.def.id) {
            return Arc::clone(plan);
        }
        let plan = Arc::new(Plan::new(app, view));
        let exists = |id: &ViewId| app.catalog.snapshot().views().any(|v| v.def.id == *id);
        self.0.rcu(|plans| {
            let mut plans: HashMap<_, _> =
                plans.iter().filter(|(id, _)| exists(id)).map(|(id, plan)| (*id, Arc::clone(plan))).collect();
            plans.insert(view.def.id, Arc::clone(&plan));
            plans
        });
        plan
    }
}
