//! JSON whose numbers are what they say.
//!
//! `serde_json` reads floats fast and up to one unit in the last place off, unless it is built with
//! `float_roundtrip`; a value that a client sent and reads back must be the same, bit for bit.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::value::RawValue;
use serde_json::{Error, Map, Number, Value};

/// Rows are not nested deeper, whatever their schema ([`super::MAX_DEPTH`]) and what holds them.
const MAX_NESTING: usize = 64;

/// Parses JSON with every number rounded correctly.
///
/// # Errors
/// The text is not JSON, or is nested deeper than any row.
pub fn exact_json(text: &[u8]) -> Result<Value, Error> {
    let text = std::str::from_utf8(text).map_err(Error::custom)?;
    value(serde_json::from_str(text)?, 0)
}

fn value(raw: &RawValue, depth: usize) -> Result<Value, Error> {
    if depth > MAX_NESTING {
        return Err(Error::custom(format!("nested deeper than {MAX_NESTING} levels")));
    }
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'{') => {
            let Members(members) = serde_json::from_str(text)?;
            let members = members.into_iter().map(|(key, raw)| Ok((key, value(raw, depth + 1)?)));
            Ok(Value::Object(members.collect::<Result<Map<_, _>, Error>>()?))
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            items.into_iter().map(|raw| value(raw, depth + 1)).collect()
        }
        Some(b'-' | b'0'..=b'9') if text.contains(['.', 'e', 'E']) => {
            let number = text.parse::<f64>().ok().and_then(Number::from_f64);
            number.map(Value::Number).ok_or_else(|| Error::custom(format!("{text} is beyond a double")))
        }
        _ => serde_json::from_str(text),
    }
}

/// An object; of a key that comes twice the last one counts, as in `serde_json`.
#[derive(Deserialize)]
struct Members<'a>(#[serde(borrow)] BTreeMap<String, &'a RawValue>);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn doubles_are_read_as_they_were_written(double in any::<f64>().prop_filter("JSON has no others", |d| d.is_finite())) {
            let text = format!(r#"{{"a":[{{"b":{double:?}}}]}}"#);
            let read = exact_json(text.as_bytes()).unwrap();
            prop_assert_eq!(read.pointer("/a/0/b").unwrap().as_f64().unwrap().to_bits(), double.to_bits());
        }
    }

    #[test]
    fn everything_else_is_as_usual() {
        for text in [
            r#"{"a": 1, "b": [true, null, "x\u00e9\n\"{"], "c": {}, "d": -9223372036854775808, "e": 18446744073709551615}"#,
            "[]",
            " 5 ",
            r#""text""#,
            r#"{"a": 1, "a": 2}"#,
        ] {
            assert_eq!(exact_json(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        }
        for bad in ["", "{", "[1,]", "01", "1.", ".5", "1e999", "{'a':1}", "nul", "[1] 2", "\"\u{1}\""] {
            assert!(exact_json(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(exact_json(&[b'"', 0xff, b'"']).is_err());
        assert!(exact_json("[".repeat(1_000_000).as_bytes()).is_err());
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(exact_json(deep.as_bytes()).unwrap_err().to_string().contains("64 levels"));
    }
}
