//! Plain JSON to a body under the reader's own schema.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::graph::Unit;
use super::reader::ReaderSchema;
use super::text;
use super::types::{Field, Kind, Type};
use super::wire::{put_bytes, put_long};

/// Why a row cannot be written, and at which field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// Path of the field: `items[2].price`; empty for the row as a whole.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.field, self.message)
        }
    }
}

impl std::error::Error for RowError {}

impl RowError {
    fn new(message: impl Into<String>) -> Self {
        Self { field: String::new(), message: message.into() }
    }

    fn within(mut self, part: &str) -> Self {
        let dot = if self.field.is_empty() || self.field.starts_with('[') { "" } else { "." };
        self.field = format!("{part}{dot}{}", self.field);
        self
    }
}

/// Appends the body of one row, without a frame.
///
/// The row is plain JSON by the contract's table of types: no union tags, decimals as strings,
/// times as text or as integers in the field's own unit (text is floored to it), bytes in base64,
/// `"NaN"`, `"Infinity"`, `"-Infinity"`. A missing field takes its default, else null.
///
/// # Errors
/// Names the first field that does not fit, or that the schema does not have; `out` is as it was.
pub fn encode_row(reader: &ReaderSchema, row: &Value, out: &mut Vec<u8>) -> Result<(), RowError> {
    let start = out.len();
    let Value::Object(row) = row else {
        return Err(RowError::new(format!("a row is a JSON object, not {}", kind_of(row))));
    };
    record(&reader.fields, row, Form::Row, out).inspect_err(|_| out.truncate(start))
}

/// Appends a default of a schema: as a row, but bytes are text of the code points 0 to 255.
pub(super) fn default(ty: &Type, value: &Value, out: &mut Vec<u8>) -> Result<(), RowError> {
    encode(ty, value, Form::Default, out)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Row,
    Default,
}

fn record(fields: &[Field], row: &Map<String, Value>, form: Form, out: &mut Vec<u8>) -> Result<(), RowError> {
    let mut known = 0;
    for field in fields {
        let result = match (row.get(&*field.name), &field.default) {
            (Some(value), _) => {
                known += 1;
                encode(&field.ty, value, form, out)
            }
            (None, Some(default)) => encode(&field.ty, default, Form::Default, out),
            (None, None) if field.ty.null.is_some() => encode(&field.ty, &Value::Null, form, out),
            (None, None) => Err(RowError::new("is missing, and has no default")),
        };
        result.map_err(|error| error.within(&field.name))?;
    }
    if known < row.len() {
        let unknown = row.keys().find(|key| !fields.iter().any(|field| *field.name == **key));
        if let Some(unknown) = unknown {
            let names: Vec<&str> = fields.iter().map(|field| &*field.name).collect();
            let message = format!("is not a field of the schema, which has {}", names.join(", "));
            return Err(RowError::new(message).within(unknown));
        }
    }
    Ok(())
}

fn encode(ty: &Type, value: &Value, form: Form, out: &mut Vec<u8>) -> Result<(), RowError> {
    match (ty.null, value) {
        (Some(null), Value::Null) => {
            put_long(i64::from(null), out);
            Ok(())
        }
        (Some(null), _) => {
            put_long(1 - i64::from(null), out);
            encode_kind(&ty.kind, value, form, out)
        }
        (None, Value::Null) => Err(RowError::new("is null, and the schema does not allow null")),
        (None, _) => encode_kind(&ty.kind, value, form, out),
    }
}

fn encode_kind(kind: &Kind, value: &Value, form: Form, out: &mut Vec<u8>) -> Result<(), RowError> {
    let expected = |what: &str| RowError::new(format!("expected {what}, found {}", kind_of(value)));
    match kind {
        Kind::Boolean => out.push(u8::from(value.as_bool().ok_or_else(|| expected("true or false"))?)),
        Kind::Int => {
            let int = integer(value, "an integer")?;
            put_long(
                i64::from(i32::try_from(int).map_err(|_| RowError::new(format!("{int} does not fit int")))?),
                out,
            );
        }
        Kind::Long => put_long(integer(value, "an integer")?, out),
        Kind::Float => {
            let number = float(value)?;
            let narrow = number as f32;
            if narrow.is_infinite() && number.is_finite() {
                return Err(RowError::new(format!("{number} does not fit float")));
            }
            out.extend_from_slice(&narrow.to_le_bytes());
        }
        Kind::Double => out.extend_from_slice(&float(value)?.to_le_bytes()),
        Kind::Decimal { precision, scale, fixed } => {
            let bytes = match (form, value) {
                (Form::Default, Value::String(text)) => code_points(text)?,
                _ => decimal(value, *precision, *scale)?.to_be_bytes().to_vec(),
            };
            put_decimal(&bytes, *fixed, out)?;
        }
        Kind::String | Kind::Uuid { fixed: false } => {
            put_bytes(value.as_str().ok_or_else(|| expected("text"))?.as_bytes(), out);
        }
        Kind::Uuid { fixed: true } => {
            let text = value.as_str().ok_or_else(|| expected("a uuid as text"))?;
            let bytes = match form {
                Form::Default => code_points(text)?.try_into().ok(),
                Form::Row => text::parse_uuid(text),
            };
            out.extend_from_slice(&bytes.ok_or_else(|| RowError::new(format!("{text:?} is not a uuid")))?);
        }
        Kind::Enum(symbols) => {
            let text = value.as_str().ok_or_else(|| expected("a symbol as text"))?;
            let index = symbols.names.iter().position(|symbol| symbol == text).ok_or_else(|| {
                RowError::new(format!("{text:?} is not one of the symbols {}", symbols.names.join(", ")))
            })?;
            put_long(index as i64, out);
        }
        Kind::Bytes => put_bytes(&bytes(value, form)?, out),
        Kind::Fixed(size) => {
            let bytes = bytes(value, form)?;
            if bytes.len() != *size {
                return Err(RowError::new(format!("expected {size} bytes, found {}", bytes.len())));
            }
            out.extend_from_slice(&bytes);
        }
        Kind::Date => {
            let days = match value {
                Value::String(text) => {
                    text::parse_date(text).ok_or_else(|| not_a(text, "a date like 2026-01-31"))?
                }
                _ => i32::try_from(integer(value, "a date like 2026-01-31")?)
                    .map_err(|_| expected("days since 1970-01-01"))?,
            };
            put_long(i64::from(days), out);
        }
        Kind::Time(unit) => put_long(time(value, *unit)?, out),
        Kind::Timestamp { unit, local, .. } => put_long(timestamp(value, *unit, *local)?, out),
        Kind::Record(fields) => match value {
            Value::Object(row) => record(fields, row, form, out)?,
            _ => return Err(expected("an object")),
        },
        Kind::Array(item) => {
            let Value::Array(items) = value else { return Err(expected("an array")) };
            if !items.is_empty() {
                put_long(items.len() as i64, out);
            }
            for (i, value) in items.iter().enumerate() {
                encode(item, value, form, out).map_err(|error| error.within(&format!("[{i}]")))?;
            }
            put_long(0, out);
        }
        Kind::Map(ty) => {
            let Value::Object(entries) = value else { return Err(expected("an object")) };
            if !entries.is_empty() {
                put_long(entries.len() as i64, out);
            }
            for (key, value) in entries {
                put_bytes(key.as_bytes(), out);
                encode(ty, value, form, out).map_err(|error| error.within(&format!("[{key:?}]")))?;
            }
            put_long(0, out);
        }
    }
    Ok(())
}

/// Exact: `1.0` and `"1"` are not integers, and nothing beyond 64 bits is.
fn integer(value: &Value, what: &str) -> Result<i64, RowError> {
    match value {
        Value::Number(number) => number.as_i64().ok_or_else(|| {
            RowError::new(format!("expected {what}, found {number}, which is no 64-bit integer"))
        }),
        _ => Err(RowError::new(format!("expected {what}, found {}", kind_of(value)))),
    }
}

fn float(value: &Value) -> Result<f64, RowError> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
    .ok_or_else(|| {
        RowError::new(format!(
            "expected a number, \"NaN\", \"Infinity\" or \"-Infinity\", found {}",
            kind_of(value)
        ))
    })
}

fn decimal(value: &Value, precision: u8, scale: i8) -> Result<i128, RowError> {
    match value {
        Value::String(text) => text::parse_decimal(text, precision, scale).map_err(RowError::new),
        Value::Number(number) if number.is_i64() || number.is_u64() => {
            text::parse_decimal(&number.to_string(), precision, scale).map_err(RowError::new)
        }
        _ => Err(RowError::new(format!(
            "expected a decimal as text, like \"12.50\", found {}",
            kind_of(value)
        ))),
    }
}

/// Two's complement, as short as it goes for bytes, as long as the type says for fixed.
fn put_decimal(bytes: &[u8], fixed: Option<usize>, out: &mut Vec<u8>) -> Result<(), RowError> {
    let sign = sign_of(bytes);
    let short = shortest(bytes);
    match fixed {
        None => put_bytes(short, out),
        Some(size) => {
            let padding = size.checked_sub(short.len()).ok_or_else(|| {
                RowError::new(format!("the decimal needs {} bytes, its fixed type has {size}", short.len()))
            })?;
            out.extend(std::iter::repeat_n(sign, padding));
            out.extend_from_slice(short);
        }
    }
    Ok(())
}

/// The byte that continues a number in two's complement to the left.
fn sign_of(bytes: &[u8]) -> u8 {
    if bytes.first().is_some_and(|byte| *byte >= 0x80) { 0xff } else { 0 }
}

/// A number in two's complement, without the bytes that only continue its sign.
pub(super) fn shortest(bytes: &[u8]) -> &[u8] {
    let sign = sign_of(bytes);
    let mut short = bytes;
    while let [first, rest @ ..] = short {
        let same_sign = rest.first().is_some_and(|next| (*next >= 0x80) == (sign == 0xff));
        if *first != sign || !same_sign {
            break;
        }
        short = rest;
    }
    short
}

fn bytes(value: &Value, form: Form) -> Result<Vec<u8>, RowError> {
    match (form, value) {
        (Form::Default, Value::String(text)) => code_points(text),
        (Form::Row, Value::String(text)) => {
            STANDARD.decode(text).map_err(|error| RowError::new(format!("is not base64: {error}")))
        }
        _ => Err(RowError::new(format!("expected bytes in base64, found {}", kind_of(value)))),
    }
}

fn code_points(text: &str) -> Result<Vec<u8>, RowError> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).map_err(|_| RowError::new(format!("{c:?} is no byte"))))
        .collect()
}

fn time(value: &Value, unit: Unit) -> Result<i64, RowError> {
    const WHAT: &str = "a time like 12:34:56.789";
    let limit = if unit == Unit::Ms { 86_400_000 } else { 86_400_000_000 };
    let number = match value {
        Value::String(text) => text::parse_time(text, unit).ok_or_else(|| not_a(text, WHAT))?,
        _ => integer(value, WHAT)?,
    };
    if (0..limit).contains(&number) {
        Ok(number)
    } else {
        Err(RowError::new(format!("{number} is not within a day")))
    }
}

fn timestamp(value: &Value, unit: Unit, local: bool) -> Result<i64, RowError> {
    let what =
        if local { "a timestamp like 2026-01-31T12:00:00" } else { "a timestamp like 2026-01-31T12:00:00Z" };
    let number = match value {
        Value::String(text) if local => {
            text::parse_local_timestamp(text, unit).ok_or_else(|| not_a(text, what))?
        }
        Value::String(text) => text::parse_timestamp(text, unit).ok_or_else(|| not_a(text, what))?,
        _ => integer(value, what)?,
    };
    let micros = match unit {
        Unit::S => 1_000_000,
        Unit::Ms => 1_000,
        Unit::Us | Unit::Ns => 1,
    };
    // What the decoder would refuse later is refused here, where the sender still listens.
    number
        .checked_mul(micros)
        .ok_or_else(|| RowError::new(format!("{number} is out of the range of time")))?;
    Ok(number)
}

fn not_a(text: &str, what: &str) -> RowError {
    RowError::new(format!("{text:?} is not {what}"))
}

fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "a boolean".into(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(_) => "text".into(),
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
    }
}
