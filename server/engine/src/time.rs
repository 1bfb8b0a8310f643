//! Time as the engine sees it: microseconds since the Unix epoch, UTC, never a clock.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// An instant: microseconds since the Unix epoch, UTC; negative before 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(pub i64);

/// A length of time in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(pub i64);

impl Micros {
    /// Before every event: the watermark of a pipeline that has seen none.
    pub const MIN: Self = Self(i64::MIN);

    /// The next representable instant.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The start of the window of length `size`, aligned to the Unix epoch shifted by `offset`,
    /// that contains this instant. Right before 1970 too (floored, not truncated).
    #[must_use]
    pub const fn window_start(self, size: Span, offset: Span) -> Self {
        Self(self.0.saturating_sub(self.0.wrapping_sub(offset.0).rem_euclid(size.0)))
    }
}

impl Add<Span> for Micros {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Micros {
    type Output = Self;
    fn sub(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

impl fmt::Display for Micros {
    /// RFC 3339 with `Z`, as many fractional digits as needed; the number itself out of range.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match chrono::DateTime::from_timestamp_micros(self.0) {
            Some(t) => f.write_str(&t.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_floored_before_1970_too() {
        let size = Span(10);
        assert_eq!(Micros(25).window_start(size, Span(0)), Micros(20));
        assert_eq!(Micros(-1).window_start(size, Span(0)), Micros(-10));
        assert_eq!(Micros(-10).window_start(size, Span(0)), Micros(-10));
        assert_eq!(Micros(25).window_start(size, Span(7)), Micros(17));
    }

    #[test]
    fn instants_read_as_rfc_3339() {
        assert_eq!(Micros(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Micros(1_500_000).to_string(), "1970-01-01T00:00:01.500Z");
        assert_eq!(Micros(i64::MAX).to_string(), i64::MAX.to_string());
    }
}
