//! The definition hash: what makes two definitions the same (`contract.md`, "Names, versions, identity").

use millpond_engine::{avro::ReaderSchema, sql};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Error, FeatureGroup, FeatureView, Stream};

/// SHA-256 over {SQL tokens, source uuids, reader schemas, emission, lateness, ttl, start}, hex.
/// An ingested group is defined by its columns and key instead of SQL.
pub fn group(group: &FeatureGroup, sources: &[(&Stream, &ReaderSchema)]) -> Result<String, Error> {
    let tokens = group.sql.as_deref().map(sql::normalised_tokens).transpose()?;
    let ingested = group.sql.is_none().then(|| json!([group.primary_key, group.event_time, group.columns]));
    Ok(of(&json!({
        "sql": tokens,
        "ingested": ingested,
        "sources": sources.iter().map(|(s, _)| s.uuid).collect::<Vec<_>>(),
        "schemas": sources.iter().map(|(_, r)| hex(&r.normalised_sha256())).collect::<Vec<_>>(),
        "emit": group.emit,
        "allowed_lateness": group.allowed_lateness,
        "ttl": group.ttl,
        "start": group.start,
    })))
}

/// SHA-256 over {groups, features, labels}, hex.
pub fn view(view: &FeatureView) -> String {
    of(&json!({
        "groups": view.groups.iter().map(|g| json!([g.id, g.key])).collect::<Vec<_>>(),
        "features": view.features,
        "labels": view.labels,
    }))
}

/// `serde_json` keeps object keys sorted, so its text is canonical.
fn of(value: &Value) -> String {
    hex(&Sha256::digest(value.to_string().as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}
