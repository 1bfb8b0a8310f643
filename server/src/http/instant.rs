//! Instants in requests and replies: RFC 3339.

use millpond_engine::time::Micros;

use super::Error;
use crate::catalog::spec::parse_instant;

/// A watermark as people see it: `null` until there is one.
pub fn watermark(at: Micros) -> Option<String> {
    (at != Micros::MIN).then(|| at.to_string())
}

/// Reads the instant in `field`.
pub fn parse(field: &str, text: &str) -> Result<Micros, Error> {
    parse_instant(text).ok_or_else(|| {
        Error::invalid(
            format!("{field}: '{text}' is not an instant"),
            "write RFC 3339, such as 2026-01-31T12:00:00Z",
        )
    })
}

/// The same where the field may be missing.
pub fn parse_opt(field: &str, text: Option<&str>) -> Result<Option<Micros>, Error> {
    text.map(|text| parse(field, text)).transpose()
}
