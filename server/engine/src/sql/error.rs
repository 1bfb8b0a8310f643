//! What a definition is refused with: the construct by name, and the nearest one that is supported.

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use serde::Serialize;

/// Why a feature group's SQL is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// One of a closed set.
    pub code: Code,
    /// The construct, as people search for it (`JOIN`, `ORDER BY`, `now()`) or as it is written.
    pub construct: String,
    /// One sentence: what is wrong.
    pub message: String,
    /// What to write instead; empty where nothing better than the message can be said.
    pub hint: String,
}

/// The closed set of reasons for which SQL is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The text is not SQL.
    Syntax,
    /// SQL that this server does not run.
    Unsupported,
    /// No such stream.
    UnknownTable,
    /// No such column.
    UnknownColumn,
    /// No such function.
    UnknownFunction,
    /// A name that fits several columns, or two columns that differ only in case.
    AmbiguousColumn,
    /// A function whose value depends on more than its arguments.
    NotImmutable,
    /// An expression without a name for its column.
    MissingAlias,
    /// Two output columns of one name.
    DuplicateColumn,
    /// A name that begins with `_`.
    ReservedName,
    /// A query without window, without GROUP BY, or that groups by neither of the window's columns.
    NoWindow,
    /// A window that cannot be: wrong arguments, a size that is not positive, not the event time.
    BadWindow,
    /// A selected column that has many values per group.
    NotGrouped,
    /// A GROUP BY expression that is not selected.
    KeyNotSelected,
    /// A column that can be neither a key nor a feature because of its type.
    Type,
}

impl Error {
    /// A refusal without a hint.
    pub(super) fn new(code: Code, construct: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, construct: construct.into(), message: message.into(), hint: String::new() }
    }

    /// Adds what to write instead.
    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// The usual refusal of a construct, with the nearest supported one.
    pub(super) fn unsupported(construct: &str, hint: &str) -> Self {
        Self::new(
            Code::Unsupported,
            construct,
            format!("{construct} is not supported in a feature group's SQL"),
        )
        .hint(hint)
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}

impl From<DataFusionError> for Error {
    /// Ours comes back as it was; of DataFusion's, only what names a fault of the text remains.
    fn from(error: DataFusionError) -> Self {
        let root = error.find_root();
        if let DataFusionError::External(inner) = root
            && let Some(ours) = inner.downcast_ref::<Self>()
        {
            return ours.clone();
        }
        let text = root.strip_backtrace();
        let text = text.split("\n\n").next().unwrap_or_default().trim();
        let text = [
            "Error during planning: ",
            "This feature is not implemented: ",
            "Schema error: ",
            "Arrow error: ",
        ]
        .iter()
        .fold(text, |text, prefix| text.strip_prefix(prefix).unwrap_or(text));
        match root {
            DataFusionError::NotImplemented(_) => {
                Self::new(Code::Unsupported, text, format!("not supported: {text}"))
                    .hint("docs/sql.md shows what is supported, with an example of each construct")
            }
            DataFusionError::Plan(_) if text.contains("must be in GROUP BY") => not_grouped(text),
            _ if text.starts_with("Field ") && text.ends_with("not found in struct") => {
                let field = text.split(' ').nth(1).unwrap_or_default();
                Self::new(Code::UnknownColumn, field, format!("the record has no field {field}"))
                    .hint("fields of a record are matched exactly, in their own case")
            }
            DataFusionError::SQL(..) => Self::new(Code::Syntax, "SQL", text),
            // Two functions that are called the same: DataFusion leaves casts out of what they are called.
            DataFusionError::SchemaError(error, _)
                if matches!(
                    **error,
                    SchemaError::DuplicateUnqualifiedField { .. }
                        | SchemaError::DuplicateQualifiedField { .. }
                ) =>
            {
                let construct = "a second function that differs in a CAST only";
                Self::unsupported(construct, "cast below: FROM (SELECT CAST(x AS DOUBLE) AS y, … FROM …)")
            }
            DataFusionError::SchemaError(..) => Self::new(Code::UnknownColumn, "column", text),
            _ => {
                // A function's own words are in the middle of DataFusion's.
                let own = text
                    .split_once("coercion failed with: Error during planning: ")
                    .map_or(text, |(_, own)| own);
                let own = own.split(" No function matches").next().unwrap_or(own);
                Self::new(Code::Type, "expression", own).hint("CAST(expression AS type) converts explicitly")
            }
        }
    }
}

/// A column beside the groups. DataFusion names it in the middle of its message.
fn not_grouped(text: &str) -> Error {
    let column = text.split('"').nth(1).unwrap_or_default();
    let column = column.rsplit('.').next().unwrap_or(column);
    let message = format!("the column {column} is neither in GROUP BY nor inside an aggregate");
    Error::new(Code::NotGrouped, column, message)
        .hint(format!("aggregate it, e.g. MAX({column}) AS {column}, or add it to GROUP BY"))
}

/// The candidate closest to `name`, if one is close enough to be meant.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    use datafusion::common::utils::datafusion_strsim::levenshtein;
    let name = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (levenshtein(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= (name.len() / 3).max(1) && *distance < name.len())
        .min()
        .map(|(_, candidate)| candidate)
}
