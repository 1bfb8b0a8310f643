//! One JSON value, as it is written, into a column: the contract's table of types, read exactly or refused.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::column::{Column, Data};
use super::fault::Fault;
use super::graph::Unit;
use super::plain::Problem;
use super::text;
use super::types::Kind;

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Appends a value that is not null to the column of its type.
pub(super) fn append(column: &mut Column, kind: &Kind, raw: &str) -> Result<(), Problem> {
    if matches!(kind, Kind::String | Kind::Uuid { .. } | Kind::Bytes | Kind::Fixed(_)) {
        return append_bytes(column, kind, raw);
    }
    match (&mut column.data, kind) {
        (Data::Boolean(values), _) => values.append(match raw {
            "true" => true,
            "false" => false,
            _ => return Err(expected("true or false", raw)),
        }),
        (Data::I32(values), Kind::Date) => values.push(date(raw)?),
        (Data::I32(values), _) => values.push(
            i32::try_from(integer(raw, "an integer")?)
                .map_err(|_| Problem::Value(format!("{raw} does not fit int")))?,
        ),
        (Data::I64(values), Kind::Time(unit)) => values.push(time(raw, *unit)?),
        (Data::I64(values), Kind::Timestamp { unit, local }) => values.push(timestamp(raw, *unit, *local)?),
        (Data::I64(values), _) => values.push(integer(raw, "an integer")?),
        (Data::F32(values), _) => {
            let value = float::<f32>(raw, &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY])?;
            if value.is_infinite() && is_number(raw) {
                return Err(Problem::Value(format!("{raw} does not fit float")));
            }
            values.push(value);
        }
        (Data::F64(values), _) => {
            let value = float::<f64>(raw, &[f64::NAN, f64::INFINITY, f64::NEG_INFINITY])?;
            if value.is_infinite() && is_number(raw) {
                return Err(Problem::Value(format!("{raw} does not fit double")));
            }
            values.push(value);
        }
        (Data::I128(values), Kind::Decimal { precision, scale, .. }) => {
            let digits = if is_number(raw) { Cow::Borrowed(raw) } else { string(raw, "a decimal")? };
            values.push(text::parse_decimal(&digits, *precision, *scale).map_err(Problem::Value)?);
        }
        (Data::Enum { keys, .. }, Kind::Enum(symbols)) => {
            let symbol = string(raw, "a symbol as text")?;
            let found = symbols.names.iter().position(|name| *name == *symbol);
            let key = found.and_then(|at| i32::try_from(at).ok()).ok_or_else(|| {
                let symbols = symbols.names.join(", ");
                Problem::Value(format!("{symbol:?} is not one of the symbols {symbols}"))
            })?;
            keys.push(key);
        }
        _ => return Err(Fault::Mismatch.into()),
    }
    Ok(())
}

fn append_bytes(column: &mut Column, kind: &Kind, raw: &str) -> Result<(), Problem> {
    match kind {
        Kind::String => column.append_bytes(string(raw, "text")?.as_bytes())?,
        Kind::Uuid { .. } => {
            let given = string(raw, "a uuid as text")?;
            let bytes =
                text::parse_uuid(&given).ok_or_else(|| Problem::Value(format!("{given:?} is not a uuid")))?;
            column.append_bytes(&text::uuid(bytes))?;
        }
        _ => {
            let given = string(raw, "bytes in base64")?;
            let bytes =
                STANDARD.decode(&*given).map_err(|e| Problem::Value(format!("is not base64: {e}")))?;
            if let Kind::Fixed(size) = kind
                && bytes.len() != *size
            {
                return Err(Problem::Value(format!("expected {size} bytes, found {}", bytes.len())));
            }
            column.append_bytes(&bytes)?;
        }
    }
    Ok(())
}

/// Exact: `1.0` and `"1"` are not integers, and nothing beyond 64 bits is.
fn integer(raw: &str, what: &str) -> Result<i64, Problem> {
    raw.parse().map_err(|_| expected(what, raw))
}

fn is_number(raw: &str) -> bool {
    raw.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

/// A number rounded once, to the column's own width; `special` are NaN and the infinities.
fn float<T: std::str::FromStr + Copy>(raw: &str, special: &[T; 3]) -> Result<T, Problem> {
    let [nan, infinity, negative] = *special;
    let known = match raw {
        "\"NaN\"" => Some(nan),
        "\"Infinity\"" => Some(infinity),
        "\"-Infinity\"" => Some(negative),
        number if is_number(number) => number.parse().ok(),
        _ => None,
    };
    known.ok_or_else(|| expected("a number, \"NaN\", \"Infinity\" or \"-Infinity\"", raw))
}

fn date(raw: &str) -> Result<i32, Problem> {
    const WHAT: &str = "a date like 2026-01-31";
    if is_number(raw) {
        return raw.parse().map_err(|_| expected("days since 1970-01-01", raw));
    }
    let given = string(raw, WHAT)?;
    text::parse_date(&given).ok_or_else(|| expected(WHAT, raw))
}

/// Microseconds since midnight.
fn time(raw: &str, unit: Unit) -> Result<i64, Problem> {
    const WHAT: &str = "a time like 12:34:56.789";
    let micros = if is_number(raw) {
        in_micros(raw, unit).ok_or_else(|| expected(WHAT, raw))?
    } else {
        text::parse_time(&string(raw, WHAT)?, Unit::Us).ok_or_else(|| expected(WHAT, raw))?
    };
    if (0..86_400_000_000).contains(&micros) {
        Ok(micros)
    } else {
        Err(Problem::Value(format!("{raw} is not within a day")))
    }
}

/// Microseconds since 1970: of ISO text, or of a number in the column's unit.
fn timestamp(raw: &str, unit: Unit, local: bool) -> Result<i64, Problem> {
    let what =
        if local { "a timestamp like 2026-01-31T12:00:00" } else { "a timestamp like 2026-01-31T12:00:00Z" };
    if is_number(raw) {
        let out = || Problem::Value(format!("{raw} is no number of {} since 1970", named(unit)));
        return in_micros(raw, unit).ok_or_else(out);
    }
    let given = string(raw, what)?;
    let micros = if local {
        text::parse_local_timestamp(&given, Unit::Us)
    } else {
        text::parse_timestamp(&given, Unit::Us)
    };
    micros.ok_or_else(|| expected(what, raw))
}

const fn named(unit: Unit) -> &'static str {
    match unit {
        Unit::S => "seconds",
        Unit::Ms => "milliseconds",
        Unit::Us => "microseconds",
        Unit::Ns => "nanoseconds",
    }
}

/// A decimal number of a unit as microseconds, floored. Its digits are taken as they stand: a binary
/// fraction in between would move an instant.
fn in_micros(raw: &str, unit: Unit) -> Option<i64> {
    let (whole, fraction) = raw.split_once('.').unwrap_or((raw, ""));
    let negative = whole.starts_with('-');
    let whole: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let places = match unit {
        Unit::S => 6,
        Unit::Ms => 3,
        Unit::Us => 0,
        Unit::Ns => return Some(whole.div_euclid(1_000)),
    };
    let scaled = whole.checked_mul(10_i64.pow(places))?;
    let (kept, rest) = fraction.split_at(fraction.len().min(places as usize));
    let kept =
        if kept.is_empty() { 0 } else { kept.parse::<i64>().ok()? * 10_i64.pow(places - kept.len() as u32) };
    if !negative {
        return scaled.checked_add(kept);
    }
    let floored = i64::from(rest.bytes().any(|b| b != b'0'));
    scaled.checked_sub(kept)?.checked_sub(floored)
}

/// The text of a JSON string.
fn string<'a>(raw: &'a str, what: &str) -> Result<Cow<'a, str>, Problem> {
    let inside =
        raw.strip_prefix('"').and_then(|r| r.strip_suffix('"')).ok_or_else(|| expected(what, raw))?;
    if !inside.contains('\\') {
        return Ok(Cow::Borrowed(inside));
    }
    serde_json::from_str(raw).map(Cow::Owned).map_err(|e| Problem::Value(format!("is not text: {e}")))
}

fn expected(what: &str, raw: &str) -> Problem {
    Problem::Value(format!("expected {what}, found {}", kind_of(raw)))
}

/// A JSON value in words, for messages.
pub(super) fn kind_of(raw: &str) -> String {
    match raw.as_bytes().first() {
        Some(b'{') => "an object".into(),
        Some(b'[') => "an array".into(),
        Some(b't' | b'f') => "a boolean".into(),
        Some(b'n') => "null".into(),
        _ if raw.chars().count() <= 40 => raw.into(),
        Some(b'"') => "a longer text".into(),
        _ => "a longer number".into(),
    }
}
