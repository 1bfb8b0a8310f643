//! Creating, pausing and dropping feature groups.

use std::sync::Arc;

use millpond_engine::sql::{self, Mention};
use millpond_engine::time::Span;
use uuid::Uuid;

use super::{App, Error, now, sinks};
use crate::catalog::{
    self, Emit, Error as CatalogError, FeatureGroup, GroupEntry, GroupId, GroupSource, GroupSpec, Start,
    StreamEntry, TimeMode, entry, spec,
};
use crate::{log, store};

impl App {
    /// The group that `spec` asks for: the one that exists with the same definition (false), or a new
    /// one (true), whose pipeline is started. Without SQL and columns, the one that exists by that name.
    pub async fn get_or_create_group(&self, spec: GroupSpec) -> Result<(Arc<GroupEntry>, bool), Error> {
        let _turn = self.creating.lock().await;
        catalog::version(spec.version)?;
        let existing = self.catalog.group(spec.name.as_str(), spec.version).ok();
        let streams = match (&spec.sql, &existing) {
            (Some(sql), _) => {
                let (streams, new) = self.sources_of(sql).await?;
                let made = self.group_over(spec, existing, streams).await;
                // A group that is refused leaves nothing behind.
                self.drop_changes(&new)?;
                return made;
            }
            (None, Some(existing)) => self.catalog.snapshot().sources(&existing.def)?,
            (None, None) => {
                let (stream, created) = self.own_stream(&spec).await?;
                let made = self.group_over(spec, None, vec![Arc::clone(&stream)]).await;
                if made.is_err() && created {
                    // A group that is refused leaves no log behind: the mended definition may want another.
                    self.drop_log(stream.def.name.as_str())?;
                }
                return made;
            }
        };
        self.group_over(spec, existing, streams).await
    }

    /// The group of `spec` over its streams.
    async fn group_over(
        &self,
        spec: GroupSpec,
        existing: Option<Arc<GroupEntry>>,
        streams: Vec<Arc<StreamEntry>>,
    ) -> Result<(Arc<GroupEntry>, bool), Error> {
        let time = one_time(&streams)?;
        check(&spec)?;
        let def = self.define(&spec, existing.as_deref(), &streams, time).await?;
        let planned = self.catalog.plan_group(def)?;
        let planned = complete(planned, &spec)?;
        let hash = catalog::group_hash(&planned.def, &streams, &planned)?;
        if let Some(existing) = existing {
            let same_sinks = sinks::same(spec.sinks.as_deref(), &existing.def, self.sinks.root());
            if existing.def.definition_hash != hash || !agrees(&existing.def, &spec) || !same_sinks {
                return Err(conflict(&existing.def, &planned.def, &spec, same_sinks).into());
            }
            return Ok((existing, false));
        }
        let sinks = self.new_sinks(spec.sinks.as_deref().unwrap_or_default(), &planned).await?;
        // Only now: what is refused, or exists, uses up no identity.
        let id = GroupId(self.catalog.next_id()?);
        let def = FeatureGroup { id, definition_hash: hash, sinks, ..planned.def };
        let planned = GroupEntry { def, ..planned };
        let entry = self.catalog.put_group(planned)?;
        self.start_group(&entry)?;
        Ok((entry, true))
    }

    /// Registers the group's row schema and starts its sinks and its pipeline.
    pub(super) fn start_group(&self, entry: &Arc<GroupEntry>) -> Result<(), Error> {
        let versions = if entry.def.online_enabled { store::VERSIONS } else { 0 };
        self.store.register_group(entry.def.id, &entry.schema, versions)?;
        self.offline.register(&entry.def, &entry.schema)?;
        self.sinks.start(entry)?;
        let streams = self.catalog.snapshot().sources(&entry.def)?;
        self.pipelines.start(entry, &streams)?;
        Ok(())
    }

    /// Stops a group's pipeline until it is resumed, across restarts too.
    pub async fn pause_group(
        &self,
        name: &str,
        version: u32,
        paused: bool,
    ) -> Result<Arc<GroupEntry>, Error> {
        let _turn = self.creating.lock().await;
        let entry = self.catalog.group(name, version)?;
        let def = FeatureGroup { paused, ..entry.def.clone() };
        let entry = self.catalog.put_group(self.catalog.plan_group(def)?)?;
        if paused { self.pipelines.pause(entry.def.id) } else { self.pipelines.resume(entry.def.id) }?;
        Ok(entry)
    }

    /// Drops a group: what is committed is drained to Delta and to its sinks, online rows and state go, the
    /// table stays unless `purge`. What sinks wrote stays. With `force` the views that select it go too.
    pub async fn drop_group(&self, name: &str, version: u32, purge: bool, force: bool) -> Result<(), Error> {
        let _turn = self.creating.lock().await;
        let entry = self.catalog.group(name, version)?;
        let snapshot = self.catalog.snapshot();
        let changes: Vec<_> = snapshot.changes_of(entry.def.id).cloned().into_iter().collect();
        let by: Vec<String> = changes.iter().flat_map(|stream| snapshot.readers(stream.def.id)).collect();
        if !by.is_empty() {
            return Err(CatalogError::InUse { kind: "feature group", name: entry.label(), by }.into());
        }
        let looked_up = snapshot.sources(&entry.def)?;
        let views = snapshot.views_of(entry.def.id);
        if !views.is_empty() && !force {
            self.catalog.drop_group(name, version, false)?;
        }
        let (pipelines, id) = (Arc::clone(&self.pipelines), entry.def.id);
        tokio::task::spawn_blocking(move || pipelines.stop(id)).await??;
        if !purge {
            self.offline.flush(id).await?;
            self.drain_sinks(&entry).await?;
        }
        self.stop_sinks(&entry, None).await?;
        self.catalog.drop_group(name, version, force)?;
        self.offline.forget(id, purge).await?;
        self.store.drop_group(id)?;
        if entry.def.sql.is_none() {
            for stream in &entry.def.sources {
                self.drop_log(stream.name.as_str())?;
            }
        }
        self.drop_changes(&looked_up)?;
        self.drop_changes(&changes)
    }

    /// The streams that the SQL reads, in its order: of groups that it looks up those of their changes. Then those
    /// of them that were made for it.
    async fn sources_of(&self, text: &str) -> Result<(Sources, Sources), Error> {
        let mentions = sql::tables(text).map_err(CatalogError::from)?;
        let (mut sources, mut new) = (Vec::with_capacity(mentions.len()), Vec::new());
        for mention in mentions {
            let found = match &mention {
                Mention::Stream(name) => {
                    self.stream_called(name).map(|stream| (stream, false)).map_err(Error::from)
                }
                Mention::Group(name) => self.changes_of(name).await,
            };
            match found {
                Ok((stream, is_new)) => {
                    new.extend(is_new.then(|| Arc::clone(&stream)));
                    sources.push(stream);
                }
                Err(error) => {
                    self.drop_changes(&new)?;
                    return Err(error);
                }
            }
        }
        Ok((sources, new))
    }

    fn stream_called(&self, name: &str) -> Result<Arc<StreamEntry>, CatalogError> {
        let snapshot = self.catalog.snapshot();
        let folded = || snapshot.streams().find(|s| s.def.name.as_str().eq_ignore_ascii_case(name)).cloned();
        let found = match snapshot.stream(name) {
            Ok(stream) => stream,
            Err(missing) => match folded() {
                Some(stream) => stream,
                None if snapshot.groups().any(|g| g.def.name.as_str() == name || g.label() == name) => {
                    return Err(looked_up_only(format!("{name} is a feature group and no stream")));
                }
                None => return Err(missing),
            },
        };
        match &found.def.changes_of {
            Some(of) => Err(looked_up_only(format!("{name} holds the changes of feature group {}", of.name))),
            None => Ok(found),
        }
    }

    async fn define(
        &self,
        spec: &GroupSpec,
        existing: Option<&GroupEntry>,
        streams: &[Arc<StreamEntry>],
        time: TimeMode,
    ) -> Result<FeatureGroup, Error> {
        let start = start(spec.start.as_deref())?;
        let mut sources: Vec<GroupSource> = Vec::with_capacity(streams.len());
        for stream in streams {
            // A group that exists keeps the schema and the offsets that it was created with; a stream that is
            // mentioned twice begins and ends at the same offsets for both, whatever is appended meanwhile.
            let kept = existing.map_or(&[][..], |g| &g.def.sources);
            if let Some(source) = kept.iter().chain(&sources).find(|s| s.stream == stream.def.id).cloned() {
                sources.push(source);
                continue;
            }
            // Of what is looked up all is wanted, and none of it is a backfill of this group.
            let is_changes = stream.def.changes_of.is_some();
            let end = if is_changes { vec![0] } else { self.offsets(stream, log::At::End).await? };
            let first = match start {
                _ if is_changes => vec![0],
                Start::Earliest => self.offsets(stream, log::At::Start).await?,
                Start::Latest => end.clone(),
                Start::At(time) => self.offsets(stream, log::At::Time(time)).await?,
            };
            sources.push(GroupSource {
                stream: stream.def.id,
                name: stream.def.name.clone(),
                schema: stream.def.schema.clone(),
                start: first,
                backfill_end: end,
            });
        }
        let known = existing.map(|g| &g.def);
        let ingested = spec.sql.is_none();
        let event_time = match known {
            Some(def) => def.event_time.clone(),
            None => spec.event_time.clone().unwrap_or_default(), // of a derived group, the plan says it
        };
        Ok(FeatureGroup {
            id: known.map_or(GroupId(0), |d| d.id),
            uuid: known.map_or_else(Uuid::new_v4, |d| d.uuid),
            name: spec.name.clone(),
            version: spec.version,
            description: spec
                .description
                .clone()
                .or_else(|| known.map(|d| d.description.clone()))
                .unwrap_or_default(),
            sql: spec.sql.clone().or_else(|| known.and_then(|d| d.sql.clone())),
            sources,
            primary_key: match (ingested, known) {
                (_, Some(def)) => def.primary_key.clone(),
                (true, None) => spec.primary_key.clone().unwrap_or_default(),
                (false, None) => Vec::new(),
            },
            event_time,
            columns: match (known, ingested, streams.first()) {
                (Some(def), _, _) if ingested => def.columns.clone(),
                (None, true, Some(stream)) => entry::columns(stream.reader.arrow(), &[])?,
                _ => Vec::new(),
            },
            online_enabled: spec.online_enabled.or(known.map(|d| d.online_enabled)).unwrap_or(true),
            emit: if ingested { known.map_or(spec.emit, |d| d.emit) } else { spec.emit },
            allowed_lateness: spec.allowed_lateness.map(Span::from).unwrap_or_default(),
            ttl: spec.ttl.map(Span::from).or(if ingested { known.and_then(|d| d.ttl) } else { None }),
            start: if ingested { known.map_or(start, |d| d.start) } else { start },
            time,
            paused: known.is_some_and(|d| d.paused),
            sinks: known.map(|d| d.sinks.clone()).unwrap_or_default(),
            definition_hash: String::new(),
            semantics: sql::SEMANTICS,
            created_at: known.map_or_else(now, |d| d.created_at),
        })
    }
}

/// Streams in the order of a query.
type Sources = Vec<Arc<StreamEntry>>;

fn looked_up_only(message: String) -> CatalogError {
    let hint = "FROM clicks c JOIN users FOR SYSTEM_TIME AS OF c.ts AS u ON u.user_id = c.user_id looks rows of a group up";
    CatalogError::invalid("sql", message, hint)
}

/// Fills in what follows from the plan: key and columns.
fn complete(planned: GroupEntry, spec: &GroupSpec) -> Result<GroupEntry, CatalogError> {
    let Some(query) = planned.query.clone() else { return Ok(planned) };
    let schema = query.output.as_ref();
    let primary_key: Vec<String> =
        query.key.iter().filter_map(|i| schema.fields().get(*i)).map(|f| f.name().clone()).collect();
    if let Some(asked) = &spec.primary_key {
        let mut a: Vec<&str> = asked.iter().map(String::as_str).collect();
        let mut b: Vec<&str> = primary_key.iter().map(String::as_str).collect();
        a.sort_unstable();
        b.sort_unstable();
        if a != b {
            return Err(CatalogError::invalid(
                "primary_key",
                format!("the SQL groups by {}, not by {}", primary_key.join(", "), asked.join(", ")),
                "leave primary_key out: it follows from GROUP BY",
            ));
        }
    }
    let columns = entry::columns(schema, &primary_key)?;
    let event_time = query.event_time.clone();
    let def = FeatureGroup { primary_key, event_time, columns, ..planned.def };
    Ok(GroupEntry { key: query.key.clone(), def, ..planned })
}

fn check(spec: &GroupSpec) -> Result<(), CatalogError> {
    if spec.sql.is_none()
        && (spec.emit == Emit::OnUpdate || spec.allowed_lateness.is_some_and(|s| s.0 != 0.0))
    {
        return Err(CatalogError::invalid(
            "emit",
            "rows that are inserted come out as they are: there is no window to wait for",
            "leave emit and allowed_lateness out, or define the group by sql",
        ));
    }
    if spec.allowed_lateness.is_some_and(|s| s.0 < 0.0 || !s.0.is_finite()) {
        return Err(CatalogError::invalid(
            "allowed_lateness",
            "an allowed lateness is not negative",
            "leave it out to take no record after its window has closed",
        ));
    }
    if spec.ttl.is_some_and(|s| s.0 <= 0.0 || !s.0.is_finite()) {
        return Err(CatalogError::invalid(
            "ttl",
            "a ttl is longer than zero",
            "leave it out to keep values for good",
        ));
    }
    Ok(())
}

fn start(text: Option<&str>) -> Result<Start, CatalogError> {
    match text {
        None | Some("earliest") => Ok(Start::Earliest),
        Some("latest") => Ok(Start::Latest),
        Some(text) => spec::parse_instant(text).map(Start::At).ok_or_else(|| {
            CatalogError::invalid(
                "start",
                format!("'{text}' is not a start"),
                "give earliest, latest or an instant such as 2026-01-31T00:00:00Z",
            )
        }),
    }
}

fn one_time(streams: &[Arc<StreamEntry>]) -> Result<TimeMode, CatalogError> {
    let mut times = streams.iter().map(|s| s.def.time);
    let first = times.next().unwrap_or_default();
    if times.any(|t| t != first) {
        return Err(CatalogError::invalid(
            "sql",
            "a group reads live streams or historical streams, not both",
            "create the streams with the same `time`",
        ));
    }
    Ok(first)
}

/// What the hash leaves out, compared where the user said it.
fn agrees(def: &FeatureGroup, spec: &GroupSpec) -> bool {
    spec.online_enabled.is_none_or(|o| o == def.online_enabled)
        && spec.event_time.as_ref().is_none_or(|t| *t == def.event_time)
        && (def.sql.is_some() || spec.primary_key.as_ref().is_none_or(|k| *k == def.primary_key))
        && spec.features.as_ref().is_none_or(|features| {
            features
                .iter()
                .map(|f| (&f.name, &f.data_type))
                .eq(def.columns.iter().map(|c| (&c.name, &c.data_type)))
        })
}

fn conflict(was: &FeatureGroup, asked: &FeatureGroup, spec: &GroupSpec, same_sinks: bool) -> CatalogError {
    let mut diff = Vec::new();
    let mut compare = |what: &str, a: String, b: String| {
        if a != b {
            diff.push(format!("{what}: {a} is not {b}"));
        }
    };
    let span = |s: Option<Span>| s.map_or("(none)".to_owned(), |s| format!("{} s", s.0 as f64 / 1e6));
    compare("sql", was.sql.clone().unwrap_or_default(), asked.sql.clone().unwrap_or_default());
    compare(
        "primary_key",
        was.primary_key.join(", "),
        spec.primary_key.as_ref().unwrap_or(&asked.primary_key).join(", "),
    );
    compare(
        "event_time",
        was.event_time.clone(),
        spec.event_time.clone().unwrap_or(asked.event_time.clone()),
    );
    compare("ttl", span(was.ttl), span(asked.ttl));
    compare("start", format!("{:?}", was.start), format!("{:?}", asked.start));
    compare("online_enabled", was.online_enabled.to_string(), asked.online_enabled.to_string());
    let streams =
        |def: &FeatureGroup| def.sources.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
    compare("streams", streams(was), streams(asked));
    if !same_sinks {
        let sinks: Vec<String> = was.sinks.iter().map(|s| format!("{} ({})", s.name, s.target)).collect();
        diff.push(format!(
            "sinks: it has {}",
            if sinks.is_empty() { "none".to_owned() } else { sinks.join(", ") }
        ));
    }
    if diff.is_empty() {
        diff.push("the streams or their schemas are others than they were".to_owned());
    }
    CatalogError::Conflict {
        kind: "feature group",
        name: format!("{} version {}", was.name, was.version),
        diff,
        hint: format!("raise the version: version={}", was.version.saturating_add(1)),
    }
}
