//! The contract's text forms of values, read exactly or refused.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

use super::graph::Unit;

/// `7d444840-9dc0-11d1-b245-5ffdce74fad2`
pub(super) fn uuid(bytes: [u8; 16]) -> [u8; 36] {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
    let mut out = [b'-'; 36];
    let mut slots = out.iter_mut().enumerate().filter(|(i, _)| ![8, 13, 18, 23].contains(i));
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            if let Some((_, slot)) = slots.next() {
                *slot = digit(nibble);
            }
        }
    }
    out
}

/// The sixteen bytes of a uuid's text: hyphenated, or 32 digits.
pub(super) fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let hyphens: &[usize] = if text.len() == 36 { &[8, 13, 18, 23] } else { &[] };
    if text.len() != 32 + hyphens.len() {
        return None;
    }
    let mut value: u128 = 0;
    for (i, c) in text.char_indices() {
        if hyphens.contains(&i) {
            if c != '-' {
                return None;
            }
        } else {
            value = value << 4 | u128::from(c.to_digit(16)?);
        }
    }
    Some(value.to_be_bytes())
}

/// The unscaled value of a decimal's text. Zeros behind the scale are fine, other digits are not.
pub(super) fn parse_decimal(text: &str, precision: u8, scale: i8) -> Result<i128, String> {
    let bad = || format!("{text:?} is not a decimal number");
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, text.get(1..).unwrap_or_default()),
        [b'+', ..] => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(bad());
    }
    let scale = usize::try_from(scale).map_err(|_| bad())?;
    let mut value: i128 = 0;
    let too_wide = || format!("{text:?} does not fit decimal({precision}, {scale})");
    for (i, c) in whole.chars().chain(fraction.chars()).enumerate() {
        let digit = c.to_digit(10).ok_or_else(bad)?;
        if i >= whole.len() + scale {
            if digit != 0 {
                return Err(too_wide());
            }
            continue;
        }
        value = value.checked_mul(10).and_then(|v| v.checked_add(i128::from(digit))).ok_or_else(too_wide)?;
    }
    for _ in fraction.len()..scale {
        value = value.checked_mul(10).ok_or_else(too_wide)?;
    }
    if value >= 10_i128.pow(u32::from(precision)) {
        return Err(too_wide());
    }
    Ok(if negative { -value } else { value })
}

/// RFC 3339 → a number in `unit`, floored to it.
pub(super) fn parse_timestamp(text: &str, unit: Unit) -> Option<i64> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    in_unit(time.timestamp(), time.timestamp_subsec_nanos(), unit)
}

/// ISO 8601 without a zone → a number in `unit`, floored to it.
pub(super) fn parse_local_timestamp(text: &str, unit: Unit) -> Option<i64> {
    let time = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())?
        .and_utc();
    in_unit(time.timestamp(), time.timestamp_subsec_nanos(), unit)
}

/// `2026-11-21` → days since the epoch.
pub(super) fn parse_date(text: &str) -> Option<i32> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

/// `12:34:56.789` → a number in `unit` since midnight, floored to it.
pub(super) fn parse_time(text: &str, unit: Unit) -> Option<i64> {
    let time = ["%H:%M:%S%.f", "%H:%M"].iter().find_map(|f| NaiveTime::parse_from_str(text, f).ok())?;
    in_unit(i64::from(time.num_seconds_from_midnight()), time.nanosecond().min(999_999_999), unit)
}

fn in_unit(seconds: i64, nanos: u32, unit: Unit) -> Option<i64> {
    let (per_second, nanos_per) = match unit {
        Unit::S => (1, 1_000_000_000),
        Unit::Ms => (1_000, 1_000_000),
        Unit::Us => (1_000_000, 1_000),
        Unit::Ns => (1_000_000_000, 1),
    };
    seconds.checked_mul(per_second)?.checked_add(i64::from(nanos.min(999_999_999) / nanos_per))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_or_refused() {
        assert_eq!(parse_decimal("12.34", 4, 2), Ok(1234));
        assert_eq!(parse_decimal("-0.5", 4, 2), Ok(-50));
        assert_eq!(parse_decimal("+7", 4, 2), Ok(700));
        assert_eq!(parse_decimal(".5", 4, 2), Ok(50));
        assert_eq!(parse_decimal("1.500", 4, 2), Ok(150));
        assert!(parse_decimal("1.501", 4, 2).is_err());
        assert!(parse_decimal("100", 4, 2).is_err());
        for bad in ["", "-", ".", "1e3", "NaN", "1.2.3", "0x1", "١"] {
            assert!(parse_decimal(bad, 20, 2).is_err(), "{bad}");
        }
        let widest = "9".repeat(38);
        assert_eq!(parse_decimal(&widest, 38, 0), Ok(10_i128.pow(38) - 1));
        assert!(parse_decimal(&"9".repeat(60), 38, 0).is_err());
    }

    #[test]
    fn times_are_floored_to_their_unit() {
        assert_eq!(parse_timestamp("1969-12-31T23:59:59.9999Z", Unit::Ms), Some(-1));
        assert_eq!(parse_timestamp("2024-01-01T02:00:00+02:00", Unit::S), Some(1_704_067_200));
        assert_eq!(parse_timestamp("2024-01-01T00:00:00", Unit::S), None, "an instant needs a zone");
        assert_eq!(parse_timestamp("3000-01-01T00:00:00Z", Unit::Ns), None, "beyond 64 bits");
        assert_eq!(parse_local_timestamp("1970-01-01T00:00:01.5", Unit::Us), Some(1_500_000));
        assert_eq!(parse_local_timestamp("1970-01-01T00:00:01Z", Unit::Us), None);
        assert_eq!(parse_date("1969-12-31"), Some(-1));
        assert_eq!(parse_time("23:59:59.999999", Unit::Us), Some(86_399_999_999));
    }

    #[test]
    fn uuids_go_both_ways() {
        let text = "7d444840-9dc0-11d1-b245-5ffdce74fad2";
        assert_eq!(uuid(parse_uuid(text).unwrap()), text.as_bytes());
        assert_eq!(parse_uuid(&text.replace('-', "")), parse_uuid(text));
        for bad in
            ["", "7d444840", "7d444840-9dc0-11d1-b245-5ffdce74fadg", "7d4448409-dc0-11d1-b245-5ffdce74fad2"]
        {
            assert_eq!(parse_uuid(bad), None);
        }
    }
}
