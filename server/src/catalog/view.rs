//! From a query over groups to a view's definition.

use std::sync::Arc;

use millpond_engine::time::Micros;
use uuid::Uuid;

use super::entry::names;
use super::{
    Error, FeatureView, GroupEntry, JoinSpec, QuerySpec, TimeMode, ViewFeature, ViewGroup, ViewId, ViewSpec,
    hash,
};

/// Makes a view of a query, without an identity yet. `group` finds a group by name and version.
pub fn define(
    spec: &ViewSpec,
    now: Micros,
    group: &dyn Fn(&super::GroupRef) -> Result<Arc<GroupEntry>, Error>,
) -> Result<(FeatureView, Vec<Arc<GroupEntry>>), Error> {
    let mut build = Build { groups: Vec::new(), view_groups: Vec::new(), features: Vec::new() };
    build.query(&spec.query, None, group)?;
    let times: Vec<TimeMode> = build.groups.iter().map(|g| g.def.time).collect();
    if times.iter().any(|t| Some(t) != times.first()) {
        return Err(Error::invalid(
            "query",
            "a view joins live groups or historical groups, not both",
            "make one view of the live groups and another one of the historical groups",
        ));
    }
    for (at, feature) in build.features.iter().enumerate() {
        if build.features.iter().take(at).any(|f| f.name.eq_ignore_ascii_case(&feature.name)) {
            return Err(Error::invalid(
                "query",
                format!("two features are called {}", feature.name),
                "give one of the joins a prefix",
            ));
        }
    }
    let mut view = FeatureView {
        id: ViewId(0),
        uuid: Uuid::new_v4(),
        name: spec.name.clone(),
        version: spec.version,
        description: spec.description.clone().unwrap_or_default(),
        groups: build.view_groups,
        features: build.features,
        labels: spec.labels.clone(),
        definition_hash: String::new(),
        created_at: now,
    };
    view.definition_hash = hash::view(&view);
    Ok((view, build.groups))
}

struct Build {
    groups: Vec<Arc<GroupEntry>>,
    view_groups: Vec<ViewGroup>,
    features: Vec<ViewFeature>,
}

impl Build {
    fn query(
        &mut self,
        query: &QuerySpec,
        join: Option<&JoinSpec>,
        group: &dyn Fn(&super::GroupRef) -> Result<Arc<GroupEntry>, Error>,
    ) -> Result<(), Error> {
        let entry = group(&query.feature_group)?;
        if !entry.def.online_enabled {
            tracing::debug!(group = %entry.label(), "a view over a group without online rows serves nulls");
        }
        let at = self.groups.len();
        let prefix = join.and_then(|j| j.prefix.as_deref()).unwrap_or_default();
        let selected = match &query.features {
            Some(names) => names.clone(),
            None => features(&entry),
        };
        for column in selected {
            let found = find(&entry, &column)?;
            self.features.push(ViewFeature { group: at, name: format!("{prefix}{found}"), column: found });
        }
        self.view_groups.push(ViewGroup {
            id: entry.def.id,
            name: entry.def.name.clone(),
            version: entry.def.version,
            key: join.map_or_else(|| Ok(entry.def.primary_key.clone()), |j| entry_key(&entry, j))?,
        });
        self.groups.push(entry);
        query.joins.iter().try_for_each(|j| self.query(&j.query, Some(j), group))
    }
}

/// What `select_all()` means: neither the key nor the event time.
fn features(entry: &GroupEntry) -> Vec<String> {
    let is_feature = |name: &&String| !entry.def.primary_key.contains(name) && **name != entry.def.event_time;
    entry.def.columns.iter().map(|c| &c.name).filter(is_feature).cloned().collect()
}

/// A column by its exact name, else by the one that differs in case only.
fn find(entry: &GroupEntry, column: &str) -> Result<String, Error> {
    let fields = entry.schema.fields();
    let exact = fields.iter().find(|f| f.name() == column);
    let found = exact.or_else(|| fields.iter().find(|f| f.name().eq_ignore_ascii_case(column)));
    found.map(|f| f.name().clone()).ok_or_else(|| {
        Error::invalid(
            "query",
            format!("feature group {} version {} has no column {column}", entry.def.name, entry.def.version),
            format!("its columns are {}", names(&entry.schema)),
        )
    })
}

/// The names under which entries carry the joined group's primary key.
fn entry_key(entry: &GroupEntry, join: &JoinSpec) -> Result<Vec<String>, Error> {
    if join.join_type.as_deref().is_some_and(|t| !t.eq_ignore_ascii_case("left")) {
        return Err(Error::invalid(
            "join_type",
            "a view joins by key from the left",
            "use join_type=\"left\": an entity without a row has nulls",
        ));
    }
    let (left, right) = match (&join.on, &join.left_on, &join.right_on) {
        (None, None, None) => return Ok(entry.def.primary_key.clone()),
        (Some(on), None, None) => (on, on),
        (None, Some(left), Some(right)) if left.len() == right.len() => (left, right),
        _ => {
            return Err(Error::invalid(
                "joins",
                "a join names its columns by `on`, or by `left_on` and `right_on` of the same length",
                "leave them out to join on the group's primary key",
            ));
        }
    };
    entry
        .def
        .primary_key
        .iter()
        .map(|key| {
            let at = right.iter().position(|r| r == key);
            at.and_then(|at| left.get(at)).cloned().ok_or_else(|| {
                Error::invalid(
                    "joins",
                    format!("{key} of the primary key of {} is not among the join's columns", entry.def.name),
                    format!("join on {}", entry.def.primary_key.join(", ")),
                )
            })
        })
        .collect()
}
