//! What the body of an append holds: JSON rows and tombstones, or framed Avro.

use arrow::datatypes::Schema;
use axum::body::Bytes;
use millpond_engine::avro::{self, FRAME_LEN, JsonDecoder, JsonError};
use millpond_engine::key;
use serde_json::Value;

use crate::catalog::{Format, StreamEntry};
use crate::http::Error;
use crate::http::error::BadRow;
use crate::log::Kind;
use crate::log::writer::NewRecord;

/// The length that stands for a null value.
const NULL: u32 = u32::MAX;
/// More wrong rows than this are not listed.
const LISTED: usize = 100;
const HINT: &str = "send {\"rows\": [{…}, …]} or an array of objects";

/// JSON rows to framed records, tombstones after them; all that are wrong are named, up to a limit.
/// `key`: the primary key, where the stream is that of an ingested group.
pub fn rows(entry: &StreamEntry, key: Option<&Schema>, body: &[u8]) -> Result<Vec<NewRecord>, Error> {
    let Body { rows, tombstones } = Body::parse(body)?;
    let mut records = Vec::with_capacity(rows.len() + tombstones.len());
    let mut bad = Vec::new();
    let mut json = (entry.def.format == Format::Json).then(|| JsonDecoder::new(&entry.reader, &[]));
    for (row, value) in rows.iter().enumerate() {
        let encoded = match &mut json {
            None => framed(entry, value),
            Some(decoder) => text(decoder, entry.def.schema_id, value),
        };
        match encoded {
            Ok(value) => records.push(NewRecord { kind: Kind::Event, key: None, value }),
            Err((field, message)) => bad.push(BadRow { row, field, message }),
        }
    }
    for (row, value) in tombstones.iter().enumerate() {
        match message_key(key, value) {
            Ok(key) => records.push(NewRecord { kind: Kind::Tombstone, key: Some(key), value: Vec::new() }),
            Err(message) => bad.push(BadRow { row, field: "tombstones".to_owned(), message }),
        }
    }
    let wrong = bad.len();
    if wrong == 0 {
        return Ok(records);
    }
    bad.truncate(LISTED);
    let rows = rows.len() + tombstones.len();
    Err(Error::Rows { stream: entry.def.name.to_string(), rows, wrong, bad })
}

/// A row as framed Avro; else the field that does not fit, and why.
fn framed(entry: &StreamEntry, row: &Value) -> Result<Vec<u8>, (String, String)> {
    let mut out = Vec::with_capacity(64);
    avro::frame(entry.def.schema_id, &mut out);
    avro::encode_row(&entry.reader, row, &mut out).map_err(|e| (e.field, e.message))?;
    Ok(out)
}

/// A row as JSON text that the stream's columns can hold; framed where its JSON Schema has an id (not 0).
fn text(decoder: &mut JsonDecoder, schema: u32, row: &Value) -> Result<Vec<u8>, (String, String)> {
    let text = row.to_string().into_bytes();
    let mut pushed = decoder.push(&text);
    if pushed.as_ref().is_err_and(JsonError::is_full) {
        decoder.finish();
        pushed = decoder.push(&text);
    }
    pushed.map_err(|e| (e.field.clone(), e.message().to_owned()))?;
    if schema == 0 {
        return Ok(text);
    }
    let mut framed = Vec::with_capacity(FRAME_LEN + text.len());
    avro::frame(schema, &mut framed);
    framed.extend_from_slice(&text);
    Ok(framed)
}

/// The two lists of a body.
struct Body {
    rows: Vec<Value>,
    tombstones: Vec<Value>,
}

impl Body {
    fn parse(body: &[u8]) -> Result<Self, Error> {
        let parsed =
            avro::exact_json(body).map_err(|e| Error::invalid(format!("the body is not JSON: {e}"), HINT))?;
        let mut fields = match parsed {
            Value::Array(rows) => return Ok(Self { rows, tombstones: Vec::new() }),
            Value::Object(fields) => fields,
            _ => return Err(Error::invalid("the body is neither an object nor an array", HINT)),
        };
        let (rows, tombstones) = (fields.remove("rows"), fields.remove("tombstones"));
        if let Some(other) = fields.keys().next() {
            let message = format!("unknown field `{other}`, expected `rows` or `tombstones`");
            return Err(Error::invalid(message, HINT));
        }
        if rows.is_none() && tombstones.is_none() {
            return Err(Error::invalid("there are no `rows` in the body", HINT));
        }
        let list = |name: &str, value: Option<Value>| match value {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => Ok(values),
            Some(_) => Err(Error::invalid(format!("`{name}` is not an array"), HINT)),
        };
        Ok(Self { rows: list("rows", rows)?, tombstones: list("tombstones", tombstones)? })
    }
}

/// The message key of a tombstone: one value as text, or a JSON array. Checked where the key is known.
fn message_key(schema: Option<&Schema>, value: &Value) -> Result<Vec<u8>, String> {
    let text = match value {
        // Text that looks like an array is put into one, or it would be read as a compound key.
        Value::String(text) if !text.starts_with('[') => text.clone(),
        Value::Number(_) | Value::Bool(_) | Value::Array(_) => value.to_string(),
        Value::String(_) => Value::Array(vec![value.clone()]).to_string(),
        Value::Null | Value::Object(_) => {
            return Err("a primary key is one value, or an array of them".to_owned());
        }
    };
    if let Some(schema) = schema {
        key::from_alone(schema, &text).map_err(|e| e.to_string())?;
    }
    Ok(text.into_bytes())
}

/// Framed records, stored as they are: only the lengths between them are judged here.
pub fn frames(body: &Bytes) -> Result<Vec<NewRecord>, Error> {
    let mut records = Vec::new();
    let mut rest = &body[..];
    while !rest.is_empty() {
        let at = body.len() - rest.len();
        let broken = || {
            Error::invalid(
                format!("frame {} at byte {at} is cut off", records.len()),
                "before each frame stands its length as four big-endian bytes; FF FF FF FF is a null value",
            )
        };
        let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
        let length = u32::from_be_bytes(*length);
        if length == NULL {
            records.push(NewRecord { kind: Kind::Tombstone, key: None, value: Vec::new() });
            rest = tail;
            continue;
        }
        let (value, tail) = tail.split_at_checked(length as usize).ok_or_else(broken)?;
        records.push(NewRecord { kind: Kind::Event, key: None, value: value.to_vec() });
        rest = tail;
    }
    Ok(records)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn framed(parts: &[Option<&[u8]>]) -> Vec<u8> {
        parts.iter().fold(Vec::new(), |mut out, part| {
            out.extend(part.map_or(NULL, |p| p.len() as u32).to_be_bytes());
            out.extend(part.unwrap_or_default());
            out
        })
    }

    #[test]
    fn frames_are_split_and_stored_as_they_are() {
        let body = framed(&[Some(b"\0\0\0\0\x01abc"), None, Some(b""), Some(b"garbage")]);
        let records = frames(&Bytes::from(body)).unwrap();
        let kinds: Vec<Kind> = records.iter().map(|r| r.kind).collect();
        assert_eq!(kinds, [Kind::Event, Kind::Tombstone, Kind::Event, Kind::Event]);
        assert_eq!(records[3].value, b"garbage");
        assert!(frames(&Bytes::new()).unwrap().is_empty());
    }

    #[test]
    fn every_strict_prefix_is_whole_frames_or_refused() {
        let parts: [Option<&[u8]>; 3] = [Some(b"abc"), None, Some(b"defgh")];
        let body = framed(&parts);
        let whole = [0, 7, 11, body.len()];
        for n in 0..=body.len() {
            let read = frames(&Bytes::copy_from_slice(&body[..n]));
            assert_eq!(read.is_ok(), whole.contains(&n), "{n} bytes");
        }
    }
}
