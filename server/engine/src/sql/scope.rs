//! What names mean at one place of a query.
//!
//! An identifier matches exactly, else as the one case-insensitive match.

use datafusion::sql::sqlparser::ast::{Expr, Ident};

use super::error::{Code, Error, nearest};

/// The columns that a window adds.
pub(super) const WINDOW_COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];

/// How far events have come at a place of the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    /// Rows are events.
    Events,
    /// Rows are events with their window.
    Windowed,
    /// Rows are features.
    Aggregated,
}

/// A relation after FROM: what it is called and the columns it has.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// The name that qualifies its columns.
    pub relation: String,
    /// Its columns in order.
    pub columns: Vec<String>,
    /// How far its rows have come.
    pub progress: Progress,
}

/// A name of the select list with what it stands for, its own names resolved.
#[derive(Debug, Clone)]
pub(super) struct Alias {
    pub name: String,
    pub expr: Expr,
    /// Whether it holds an aggregate function.
    pub aggregate: bool,
    /// How many parts it has.
    pub parts: usize,
}

/// The select list so far.
pub(super) type Aliases = Vec<Alias>;

impl Scope {
    /// Refuses columns that differ only in case: no rule could tell them apart later.
    pub fn new(relation: String, columns: Vec<String>, progress: Progress) -> Result<Self, Error> {
        for (i, column) in columns.iter().enumerate() {
            if let Some(other) = columns.iter().take(i).find(|c| c.eq_ignore_ascii_case(column)) {
                return Err(Error::new(
                    Code::AmbiguousColumn,
                    column.clone(),
                    format!("the columns {other:?} and {column:?} of {relation:?} differ at most in case"),
                )
                .hint("rename one of them in a CTE"));
            }
        }
        Ok(Self { relation, columns, progress })
    }

    /// The column that `ident` means, if any.
    pub fn column(&self, ident: &Ident) -> Result<Option<&str>, Error> {
        find(&ident.value, self.columns.iter().map(String::as_str))
    }

    /// The column as an expression that nothing later reads differently: qualified and quoted.
    pub fn qualified(&self, column: &str) -> Expr {
        Expr::CompoundIdentifier(vec![quoted(&self.relation), quoted(column)])
    }

    /// The refusal of a name that means nothing here.
    pub fn unknown(&self, name: &str, aliases: &Aliases) -> Error {
        let known = self.columns.iter().map(String::as_str).chain(aliases.iter().map(|a| a.name.as_str()));
        let error = Error::new(
            Code::UnknownColumn,
            name,
            format!("there is no column {name:?} in {:?}", self.relation),
        );
        match nearest(name, known) {
            Some(near) => error.hint(format!("did you mean {near:?}?")),
            None if WINDOW_COLUMNS.contains(&name.to_lowercase().as_str()) => error.hint(format!(
                "{name} is a column of FROM TUMBLE(stream, DESCRIPTOR(event time), INTERVAL '5' MINUTES)"
            )),
            None => error.hint(format!("its columns are {}", self.columns.join(", "))),
        }
    }
}

/// Exactly, else the one case-insensitive match, else nothing.
pub(super) fn find<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Result<Option<&'a str>, Error> {
    let mut loose = Vec::new();
    for candidate in candidates {
        if candidate == name {
            return Ok(Some(candidate));
        }
        if candidate.eq_ignore_ascii_case(name) {
            loose.push(candidate);
        }
    }
    match loose.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => Err(Error::new(
            Code::AmbiguousColumn,
            name,
            format!("{name:?} could be each of {}", several.join(", ")),
        )
        .hint("write the name exactly, in double quotes")),
    }
}

/// An identifier that is read exactly as it stands.
pub(super) fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}
