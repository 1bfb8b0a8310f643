//! Compatibility levels.
//!
//! <https://docs.confluent.io/platform/current/schema-registry/fundamentals/schema-evolution.html>

use std::str::FromStr;

use millpond_engine::avro::compatibility;
use serde::{Deserialize, Serialize};

use super::schema::{Kind, Stored};
use super::{Error, json};

/// What a new schema must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Level {
    /// Nothing.
    None,
    /// It reads what the latest one wrote.
    #[default]
    Backward,
    /// It reads what any earlier one wrote.
    BackwardTransitive,
    /// The latest one reads what it writes.
    Forward,
    /// Every earlier one reads what it writes.
    ForwardTransitive,
    /// Both, with the latest one.
    Full,
    /// Both, with every earlier one.
    FullTransitive,
}

impl Level {
    /// Whether all earlier versions count, or the latest only.
    pub fn is_transitive(self) -> bool {
        matches!(self, Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive)
    }

    /// What keeps `new` from following `old`; empty: nothing.
    pub fn check(self, new: &Stored, old: &Stored) -> Result<Vec<String>, Error> {
        let (backward, forward) = match self {
            Self::None => (false, false),
            Self::Backward | Self::BackwardTransitive => (true, false),
            Self::Forward | Self::ForwardTransitive => (false, true),
            Self::Full | Self::FullTransitive => (true, true),
        };
        if self != Self::None && new.schema.kind != old.schema.kind {
            return Ok(vec!["the schema type is another one".to_owned()]);
        }
        let mut reasons = Vec::new();
        for (wanted, reader, writer, sides) in [
            (backward, new, old, "the new schema reading the old one's data"),
            (forward, old, new, "the old schema reading the new one's data"),
        ] {
            if wanted {
                let found = differences(reader, writer)?;
                reasons.extend(found.into_iter().map(|reason| format!("{reason} ({sides})")));
            }
        }
        Ok(reasons)
    }
}

/// What keeps one schema from reading what another one wrote, of the same kind.
fn differences(reader: &Stored, writer: &Stored) -> Result<Vec<String>, Error> {
    match reader.schema.kind {
        Kind::Json => json::compatibility(&reader.whole, &writer.whole),
        Kind::Avro => {
            let found = compatibility(&reader.whole, &writer.whole)
                .map_err(|e| Error::InvalidSchema(e.to_string()))?;
            Ok(found.iter().map(ToString::to_string).collect())
        }
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text.to_ascii_uppercase().as_str() {
            "NONE" => Self::None,
            "BACKWARD" => Self::Backward,
            "BACKWARD_TRANSITIVE" => Self::BackwardTransitive,
            "FORWARD" => Self::Forward,
            "FORWARD_TRANSITIVE" => Self::ForwardTransitive,
            "FULL" => Self::Full,
            "FULL_TRANSITIVE" => Self::FullTransitive,
            _ => return Err(Error::InvalidLevel(text.to_owned())),
        })
    }
}
