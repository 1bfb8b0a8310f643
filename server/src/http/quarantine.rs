//! What became of a stream's records: dead letters, and the sum of invariant 4.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Error;
use super::extract::{Json, Path, Query};
use crate::app::App;
use crate::catalog::{GroupEntry, GroupId, StreamEntry, StreamId};
use crate::store::commit::Accounting;

/// A page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// At most this many, up to 10,000
    #[param(example = 100)]
    limit: Option<usize>,
    /// `next` of the page before
    after: Option<String>,
}

impl Page {
    /// How many.
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(100).clamp(1, 10_000)
    }

    /// The numbers that `next` of the page before was made of.
    pub fn after<const N: usize>(&self) -> Result<Option<[i64; N]>, Error> {
        let Some(text) = &self.after else { return Ok(None) };
        let numbers: Option<Vec<i64>> = text.split('.').map(|n| n.parse().ok()).collect();
        let numbers = numbers.and_then(|n| <[i64; N]>::try_from(n).ok());
        numbers.map(Some).ok_or_else(|| {
            Error::invalid(
                format!("after: '{text}' is not a place in this list"),
                "give `next` of the page before",
            )
        })
    }
}

/// Dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub struct Quarantine {
    records: Vec<Dead>,
    /// How many there are by reason, over all pages
    #[schema(value_type = Object)]
    by_reason: BTreeMap<String, u64>,
    /// Give it as `after` for the next page; null: this is the last one
    next: Option<String>,
}

/// A record that could not become part of a row.
#[derive(Debug, Serialize, ToSchema)]
pub struct Dead {
    /// The feature group that could not use it
    group: String,
    version: u32,
    partition: u32,
    offset: i64,
    /// Why: one of a closed set
    #[schema(example = "bad_body")]
    reason: String,
    /// What exactly, for people
    detail: String,
    /// Message key, base64
    key: Option<String>,
    /// Value as it came, base64
    value: Option<String>,
}

/// List dead letters
#[utoipa::path(get, path = "/api/v1/streams/{stream}/quarantine", tag = "streams", operation_id = "quarantine",
    params(("stream" = String, Path, example = "docs_events"), Page),
    responses((status = 200, description = "Records in the order of partition and offset", body = Quarantine)))]
pub async fn list(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(page): Query<Page>,
) -> Result<Json<Quarantine>, Error> {
    let entry = app.catalog.stream(&name)?;
    let after = page
        .after::<3>()?
        .map(|[partition, offset, group]| (partition as u32, offset, GroupId(group as u32)));
    let read = move || {
        let limit = page.limit();
        let letters = app.store.quarantine(entry.def.id, None, after, limit)?;
        let full = letters.len() == limit;
        let next = letters.last().filter(|_| full);
        let next =
            next.map(|l| format!("{}.{}.{}", l.record.partition.partition, l.record.offset, l.group.0));
        let snapshot = app.catalog.snapshot();
        let records = letters.into_iter().map(|letter| {
            let group = snapshot.group_by_id(letter.group);
            let record = letter.record;
            Dead {
                group: group
                    .map_or_else(|| format!("dropped {}", letter.group.0), |g| g.def.name.to_string()),
                version: group.map_or(0, |g| g.def.version),
                partition: record.partition.partition,
                offset: record.offset,
                reason: word(record.reason),
                detail: record.detail,
                key: record.key.map(|k| STANDARD.encode(k)),
                value: record.value.map(|v| STANDARD.encode(v)),
            }
        });
        Ok(Json(Quarantine { records: records.collect(), by_reason: by_reason(&app, &entry)?, next }))
    };
    tokio::task::spawn_blocking(read).await.map_err(|e| Error::Internal(e.to_string()))?
}

fn by_reason(app: &App, stream: &StreamEntry) -> Result<BTreeMap<String, u64>, Error> {
    let mut counts = BTreeMap::new();
    for group in app.catalog.snapshot().groups_of(stream.def.id) {
        let mentions: Vec<u16> = mentions(group, stream.def.id).collect();
        let reasons = match mentions[..] {
            [source] => app.store.quarantine_counts_of(group.def.id, source)?,
            _ => app.store.quarantine_reasons(stream.def.id, group.def.id)?.into_iter().collect(),
        };
        for (reason, n) in reasons {
            *counts.entry(word(reason)).or_default() += n;
        }
    }
    Ok(counts)
}

fn word(reason: millpond_engine::epoch::Reason) -> String {
    match serde_json::to_value(reason) {
        Ok(serde_json::Value::String(word)) => word,
        _ => format!("{reason:?}"),
    }
}

/// What became of every record, by feature group.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccountingBody {
    groups: Vec<GroupAccount>,
}

/// read = applied + late + filtered + quarantined + tombstones + heartbeats + superseded
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupAccount {
    name: String,
    version: u32,
    /// Which of the group's sources this is, from 0: a group that mentions the stream twice reads it twice
    source: u16,
    read: u64,
    applied: u64,
    late: u64,
    filtered: u64,
    quarantined: u64,
    tombstones: u64,
    heartbeats: u64,
    superseded: u64,
    /// Whether the sum is right
    balanced: bool,
}

/// What became of every record
#[utoipa::path(get, path = "/api/v1/streams/{stream}/accounting", tag = "streams", operation_id = "accounting",
    params(("stream" = String, Path, example = "docs_events")),
    responses((status = 200, description = "One account for each mention of the stream in a feature group", body = AccountingBody)))]
pub async fn accounting(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<AccountingBody>, Error> {
    let entry = app.catalog.stream(&name)?;
    let mut groups = Vec::new();
    for group in app.catalog.snapshot().groups_of(entry.def.id) {
        let totals = app.store.totals(group.def.id)?;
        for source in mentions(group, entry.def.id) {
            groups.push(account(group, source, totals.get(&source).copied().unwrap_or_default()));
        }
    }
    Ok(Json(AccountingBody { groups }))
}

/// Which of a group's sources are the stream.
fn mentions(group: &GroupEntry, stream: StreamId) -> impl Iterator<Item = u16> {
    let sources = (0..).zip(&group.def.sources);
    sources.filter(move |(_, source)| source.stream == stream).map(|(index, _)| index)
}

fn account(group: &GroupEntry, source: u16, sum: Accounting) -> GroupAccount {
    let Accounting { read, applied, late, filtered, quarantined, tombstones, heartbeats, superseded } = sum;
    GroupAccount {
        name: group.def.name.to_string(),
        version: group.def.version,
        source,
        read,
        applied,
        late,
        filtered,
        quarantined,
        tombstones,
        heartbeats,
        superseded,
        balanced: read == applied + late + filtered + quarantined + tombstones + heartbeats + superseded,
    }
}
