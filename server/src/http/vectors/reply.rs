//! From entries to the reply's bytes.

use std::io::Write as _;

use millpond_engine::pick::{Stamp, Status};
use millpond_engine::time::{Micros, Span};
use serde_json::{Map, Value};

use super::plan::{Group, Plan};
use crate::http::Error;
use crate::http::rows::Which;
use crate::store::{OnlineVersions, ReadView, RowRef, Scalar};

/// How vectors are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// With the serving keys or without.
    pub shape: Shape,
    /// Latest or previous.
    pub which: Which,
    /// Older rows count as missing.
    pub max_age: Option<Span>,
    /// Whether each group is described.
    pub metadata: bool,
}

/// What stands in a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The features.
    Features,
    /// The serving keys, then the features.
    Keys,
}

/// What a group gave for one entry.
struct Part<'v> {
    row: Option<RowRef<'v>>,
    status: Status,
}

/// The reply of `/vectors`.
pub fn many(
    plan: &Plan,
    view: &ReadView,
    entries: &[Map<String, Value>],
    options: &Options,
) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(256 + entries.len() * (64 + 16 * plan.features.len()));
    out.extend_from_slice(b"{\"features\":[");
    for (i, name) in names(plan, options.shape).enumerate() {
        separate(&mut out, i);
        write(&mut out, name)?;
    }
    out.extend_from_slice(b"],\"vectors\":[");
    read(plan, view, entries, options, |at, entry, parts| {
        separate(&mut out, at);
        out.extend_from_slice(b"{\"values\":[");
        for (i, (_, value)) in values(plan, options.shape, entry, parts).enumerate() {
            separate(&mut out, i);
            value.write(&mut out)?;
        }
        out.extend_from_slice(b"],");
        about(&mut out, plan, parts, options.metadata)?;
        out.push(b'}');
        Ok(())
    })?;
    out.extend_from_slice(b"],");
    as_of(&mut out, plan, view)?;
    out.push(b'}');
    Ok(out)
}

/// The reply of `/vector`: values by name.
pub fn one(
    plan: &Plan,
    view: &ReadView,
    entry: &Map<String, Value>,
    options: &Options,
) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(256);
    out.push(b'{');
    read(plan, view, std::slice::from_ref(entry), options, |_, entry, parts| {
        out.extend_from_slice(b"\"values\":{");
        for (i, (name, value)) in values(plan, options.shape, entry, parts).enumerate() {
            separate(&mut out, i);
            write(&mut out, name)?;
            out.push(b':');
            value.write(&mut out)?;
        }
        out.extend_from_slice(b"},");
        about(&mut out, plan, parts, true)
    })?;
    out.push(b',');
    as_of(&mut out, plan, view)?;
    out.push(b'}');
    Ok(out)
}

/// Reads all keys of all entries at once and hands each entry's parts, in the order of the groups.
fn read<'e>(
    plan: &Plan,
    view: &ReadView,
    entries: &'e [Map<String, Value>],
    options: &Options,
    mut each: impl FnMut(usize, &'e Map<String, Value>, &[Part<'_>]) -> Result<(), Error>,
) -> Result<(), Error> {
    let width = plan.groups.len();
    let mut keys = Vec::with_capacity(entries.len() * width);
    for (at, entry) in entries.iter().enumerate() {
        plan.keys_of(entry, at, &mut keys)?;
    }
    let wanted: Vec<_> =
        plan.groups.iter().map(|g| g.id).cycle().zip(keys.iter().map(Vec::as_slice)).collect();
    let found = view.multi_get(&wanted)?;
    let instants: Vec<Option<Micros>> = plan.groups.iter().map(|g| instant(plan, view, g)).collect();
    for (at, (entry, found)) in entries.iter().zip(found.chunks(width.max(1))).enumerate() {
        let groups = plan.groups.iter().zip(&instants).zip(found);
        let parts =
            groups.map(|((group, instant), versions)| part(group, *instant, versions.as_ref(), options));
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        each(at, entry, &parts)?;
    }
    Ok(())
}

/// The rule of invariant 7 for one key; `max_age` is one more TTL.
fn part<'v>(
    group: &Group,
    as_of: Option<Micros>,
    versions: Option<&'v OnlineVersions<'_>>,
    options: &Options,
) -> Result<Part<'v>, Error> {
    let missing = Part { row: None, status: Status::Missing };
    let (Some(as_of), Some(versions)) = (as_of, versions) else { return Ok(missing) };
    let Some(row) = options.which.of(versions, as_of)? else { return Ok(missing) };
    let ttl = match (group.ttl, options.max_age) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let stamp =
        Stamp { event_time: row.event_time, available_at: row.available_at, commit: row.commit, op: row.op };
    Ok(Part { row: Some(row), status: stamp.status(as_of, ttl) })
}

fn instant(plan: &Plan, view: &ReadView, group: &Group) -> Option<Micros> {
    if plan.historical { view.clock(group.id) } else { Some(view.as_of()) }
}

fn names(plan: &Plan, shape: Shape) -> impl Iterator<Item = &str> {
    let keys = if shape == Shape::Keys { plan.keys.as_slice() } else { &[] };
    keys.iter().map(|(name, _)| name.as_str()).chain(plan.features.iter().map(|(name, ..)| name.as_str()))
}

enum Cell<'a> {
    Key(&'a Value),
    Feature(Option<(&'a RowRef<'a>, usize)>),
}

fn values<'a>(
    plan: &'a Plan,
    shape: Shape,
    entry: &'a Map<String, Value>,
    parts: &'a [Part<'a>],
) -> impl Iterator<Item = (&'a str, Cell<'a>)> {
    let keys = if shape == Shape::Keys { plan.keys.as_slice() } else { &[] };
    let keys =
        keys.iter().map(|(name, _)| (name.as_str(), Cell::Key(entry.get(name).unwrap_or(&Value::Null))));
    let features = plan.features.iter().map(|(name, group, column)| {
        let found = parts.get(*group).filter(|part| part.status == Status::Found);
        (name.as_str(), Cell::Feature(found.and_then(|part| part.row.as_ref()).map(|row| (row, *column))))
    });
    keys.chain(features)
}

impl Cell<'_> {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let (row, column) = match self {
            Self::Key(value) => return write(out, value),
            Self::Feature(None) => return write(out, &()),
            Self::Feature(Some(found)) => found,
        };
        // The usual types need no value in between.
        match row.value(*column)? {
            Scalar::Null => write(out, &()),
            Scalar::Boolean(v) => write(out, &v),
            Scalar::Int(v) => write(out, &v),
            Scalar::Double(v) if v.is_finite() => write(out, &v),
            Scalar::Text(v) => write(out, v),
            other => write(out, &other.json()?),
        }
    }
}

/// Status and event time of an entry, and what each group gave.
fn about(out: &mut Vec<u8>, plan: &Plan, parts: &[Part<'_>], metadata: bool) -> Result<(), Error> {
    let found = parts.iter().filter(|part| part.status == Status::Found);
    let status = match found.clone().count() {
        n if n == parts.len() => "complete",
        0 => "missing",
        _ => "partial",
    };
    let oldest = found.filter_map(|part| part.row.map(|row| row.event_time)).min();
    write!(out, "\"status\":\"{status}\",\"event_time\":").map_err(|e| internal(&e))?;
    time(out, oldest)?;
    if !metadata {
        return Ok(());
    }
    out.extend_from_slice(b",\"groups\":[");
    for (i, (group, part)) in plan.groups.iter().zip(parts).enumerate() {
        separate(out, i);
        let status = match part.status {
            Status::Found => "found",
            Status::Missing => "missing",
            Status::Expired => "expired",
            Status::Deleted => "deleted",
        };
        let Group { name, version, .. } = group;
        write!(
            out,
            "{{\"feature_group\":\"{name}\",\"version\":{version},\"status\":\"{status}\",\"event_time\":"
        )
        .map_err(|e| internal(&e))?;
        time(out, part.row.map(|row| row.event_time))?;
        out.extend_from_slice(b",\"available_at\":");
        time(out, part.row.map(|row| row.available_at))?;
        out.extend_from_slice(b",\"commit\":");
        write(out, &part.row.map(|row| row.commit))?;
        out.push(b'}');
    }
    out.push(b']');
    Ok(())
}

fn as_of(out: &mut Vec<u8>, plan: &Plan, view: &ReadView) -> Result<(), Error> {
    out.extend_from_slice(b"\"as_of\":");
    if !plan.historical {
        return time(out, Some(view.as_of()));
    }
    out.push(b'{');
    // A group without rows has no instant yet.
    let clocks = plan.groups.iter().filter_map(|group| Some((&group.label, view.clock(group.id)?)));
    for (i, (label, clock)) in clocks.enumerate() {
        separate(out, i);
        write!(out, "\"{label}\":").map_err(|e| internal(&e))?;
        time(out, Some(clock))?;
    }
    out.push(b'}');
    Ok(())
}

fn time(out: &mut Vec<u8>, at: Option<Micros>) -> Result<(), Error> {
    match at {
        Some(at) => write!(out, "\"{at}\"").map_err(|e| internal(&e)),
        None => write(out, &()),
    }
}

fn separate(out: &mut Vec<u8>, at: usize) {
    if at > 0 {
        out.push(b',');
    }
}

fn write<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    serde_json::to_writer(out, value).map_err(|e| Error::Internal(format!("a value cannot be written: {e}")))
}

fn internal(e: &std::io::Error) -> Error {
    Error::Internal(format!("a value cannot be written: {e}"))
}
