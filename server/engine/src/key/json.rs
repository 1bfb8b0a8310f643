//! Keys from what people and clients write: JSON entries and text in URLs.

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use base64::Engine as _;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use serde_json::Value;

use super::{Error, VALUE, put_bytes, put_f32, put_f64, put_i32, put_i64, put_i128};

/// The key of one entry: `values` in key order, in the JSON types of the contract.
///
/// Integers are exact (`1.0` is refused), decimals are strings or integers, timestamps RFC 3339 or
/// integers in the column's unit, bytes base64. Null is refused.
pub fn from_json(schema: &Schema, values: &[Value]) -> Result<Vec<u8>, Error> {
    if schema.fields().len() != values.len() {
        return Err(Error::Count { wanted: schema.fields().len(), found: values.len() });
    }
    let mut out = Vec::with_capacity(16 * values.len());
    for (field, value) in schema.fields().iter().zip(values) {
        if value.is_null() {
            return Err(Error::Null { column: field.name().clone() });
        }
        out.push(VALUE);
        put(field, value, &mut out)?;
    }
    Ok(out)
}

/// The key of texts as they stand in a URL: `"42"` is 42 where the column is an integer.
pub fn from_text(schema: &Schema, values: &[&str]) -> Result<Vec<u8>, Error> {
    if schema.fields().len() != values.len() {
        return Err(Error::Count { wanted: schema.fields().len(), found: values.len() });
    }
    let values: Vec<Value> = schema
        .fields()
        .iter()
        .zip(values)
        .map(|(field, text)| match field.data_type() {
            DataType::Boolean => match *text {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                other => Value::String(other.to_owned()),
            },
            t if t.is_signed_integer() || t.is_temporal() => {
                text.parse::<i64>().map_or_else(|_| Value::String((*text).to_owned()), Value::from)
            }
            _ => Value::String((*text).to_owned()),
        })
        .collect();
    from_json(schema, &values)
}

/// The key as it stands alone, in a URL or as the key of a message: one value as text, or a JSON array
/// of the values in key order (which a text that is itself a JSON array must come in).
pub fn from_alone(schema: &Schema, text: &str) -> Result<Vec<u8>, Error> {
    let array = text.starts_with('[').then(|| serde_json::from_str::<Vec<Value>>(text).ok()).flatten();
    match array {
        Some(values) => from_json(schema, &values),
        None if schema.fields().is_empty() => from_text(schema, &[]),
        None => from_text(schema, &[text]),
    }
}

fn put(field: &Field, value: &Value, out: &mut Vec<u8>) -> Result<(), Error> {
    let wrong = |wanted: &str| Error::Mismatch {
        column: field.name().clone(),
        wanted: wanted.to_owned(),
        found: shown(value),
    };
    let integer = |bits: u32| {
        let v = value.as_i64().ok_or_else(|| wrong("an integer"))?;
        let limit = i64::MAX >> (64 - bits);
        if v > limit || v < -limit - 1 { Err(wrong(&format!("an integer of {bits} bits"))) } else { Ok(v) }
    };
    match field.data_type() {
        DataType::Boolean => out.push(u8::from(value.as_bool().ok_or_else(|| wrong("true or false"))?)),
        DataType::Int8 => put_i32(integer(8)? as i32, out),
        DataType::Int16 => put_i32(integer(16)? as i32, out),
        DataType::Int32 => put_i32(integer(32)? as i32, out),
        DataType::Int64 => put_i64(integer(64)?, out),
        DataType::Float32 => put_f32(float(value).ok_or_else(|| wrong("a number"))? as f32, out),
        DataType::Float64 => put_f64(float(value).ok_or_else(|| wrong("a number"))?, out),
        DataType::Decimal128(precision, scale) => put_i128(
            decimal(value, *precision, *scale)
                .ok_or_else(|| wrong(&format!("a decimal({precision}, {scale}) as a string")))?,
            out,
        ),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(_, _) => {
            put_bytes(value.as_str().ok_or_else(|| wrong("a string"))?.as_bytes(), out);
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let bytes = value
                .as_str()
                .and_then(|s| base64::engine::general_purpose::STANDARD.decode(s).ok())
                .ok_or_else(|| wrong("bytes in base64"))?;
            put_bytes(&bytes, out);
        }
        DataType::Date32 => put_i32(date(value).ok_or_else(|| wrong("a date like 2024-01-31"))?, out),
        DataType::Time64(_) => put_i64(time(value).ok_or_else(|| wrong("a time like 13:45:00"))?, out),
        DataType::Timestamp(unit, zone) => put_i64(
            timestamp(value, *unit, zone.is_some())
                .ok_or_else(|| wrong("a timestamp like 2024-01-31T13:45:00Z"))?,
            out,
        ),
        other => {
            return Err(Error::Unsupported { column: field.name().clone(), data_type: other.clone() });
        }
    }
    Ok(())
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 40 { text } else { text.chars().take(40).chain(['…']).collect() }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::String(s) => match s.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        other => other.as_f64(),
    }
}

/// The unscaled value; `None` where digits would be lost or the precision is exceeded.
fn decimal(value: &Value, precision: u8, scale: i8) -> Option<i128> {
    let text = match value {
        Value::String(s) => s.clone(),
        Value::Number(n) if n.is_i64() || n.is_u64() => n.to_string(),
        _ => return None,
    };
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty()
        || !(whole.bytes().chain(fraction.bytes())).all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let scale = usize::try_from(scale).ok()?;
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > scale {
        return None;
    }
    let mut unscaled: i128 = 0;
    let padding = std::iter::repeat_n(b'0', scale - fraction.len());
    for digit in whole.bytes().chain(fraction.bytes()).chain(padding) {
        unscaled = unscaled.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    if unscaled >= 10_i128.checked_pow(u32::from(precision))? {
        return None;
    }
    Some(if negative { -unscaled } else { unscaled })
}

fn date(value: &Value) -> Option<i32> {
    match value {
        Value::String(s) => {
            let days =
                NaiveDate::parse_from_str(s, "%Y-%m-%d").ok()?.signed_duration_since(NaiveDate::default());
            i32::try_from(days.num_days()).ok()
        }
        other => i32::try_from(other.as_i64()?).ok(),
    }
}

fn time(value: &Value) -> Option<i64> {
    match value {
        Value::String(s) => {
            let t = NaiveTime::parse_from_str(s, "%H:%M:%S%.f").ok()?;
            Some(i64::from(t.num_seconds_from_midnight()) * 1_000_000 + i64::from(t.nanosecond() / 1_000))
        }
        other => other.as_i64(),
    }
}

fn timestamp(value: &Value, unit: TimeUnit, zoned: bool) -> Option<i64> {
    let Value::String(s) = value else { return value.as_i64() };
    let t = if zoned {
        DateTime::parse_from_rfc3339(s).ok()?.to_utc()
    } else {
        s.parse::<NaiveDateTime>().ok()?.and_utc()
    };
    match unit {
        TimeUnit::Second => Some(t.timestamp()),
        TimeUnit::Millisecond => Some(t.timestamp_millis()),
        TimeUnit::Microsecond => Some(t.timestamp_micros()),
        TimeUnit::Nanosecond => t.timestamp_nanos_opt(),
    }
}
