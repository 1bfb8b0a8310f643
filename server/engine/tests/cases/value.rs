//! What a cell of a stream or of a feature holds.

use std::cmp::Ordering;

/// The type of a column, as far as the recomputation tells types apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Int,
    Float,
    Text,
    /// A text of few: an enum of the stream's schema.
    Symbol,
    Time,
    List,
}

#[derive(Debug, Clone)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// Exact.
    Float(f64),
    /// Exact but for rounding: what is computed in another order is another number.
    About(f64),
    Text(String),
    /// Microseconds.
    Time(i64),
    List(Vec<Value>),
}

impl Value {
    /// A float without the sign of zero, which nothing is said about.
    pub fn float(value: f64) -> Self {
        Self::Float(value + 0.0)
    }

    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// A number as a float.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) | Self::About(value) => Some(*value),
            _ => None,
        }
    }

    /// Whether this, which was computed, is what is wanted.
    pub fn is(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Float(found), Self::About(wanted)) => {
                (found - wanted).abs() <= 1e-9 * found.abs().max(wanted.abs()).max(1.0)
            }
            _ => self == wanted,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |value: &Self| match value {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Int(_) => 2,
            Self::Float(_) | Self::About(_) => 3,
            Self::Text(_) => 4,
            Self::Time(_) => 5,
            Self::List(_) => 6,
        };
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) | (Self::Time(a), Self::Time(b)) => a.cmp(b),
            (Self::Float(a) | Self::About(a), Self::Float(b) | Self::About(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::List(a), Self::List(b)) => a.cmp(b),
            _ => rank(self).cmp(&rank(other)),
        }
    }
}
