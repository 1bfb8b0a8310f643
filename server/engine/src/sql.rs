//! SQL in: one SELECT, planned by DataFusion, lowered to a [`crate::query::FeatureQuery`].
//!
//! The way of a definition: text → [`tokens`] (parse) → [`definition`], [`select`], [`from`], [`names`]
//! (refuse what is not supported, give every name its one meaning) → [`planner`] (DataFusion: types,
//! coercion, constants, column pruning; our [`arithmetic`] and [`functions`]) → [`lower`] (stages of
//! physical expressions) → [`output`] (types at rest, primary key) → [`running`] (what runs by now).
//!
//! Planning is pure: the same text over the same schemas gives the same query.

mod arithmetic;
mod call;
mod clauses;
mod columns;
mod definition;
mod error;
mod explain;
mod from;
mod functions;
mod join;
mod keys;
mod legacy;
mod lengths;
mod limits;
mod list;
mod lookup;
mod lower;
mod names;
mod output;
mod over;
mod planner;
mod running;
mod scope;
mod select;
mod streams;
mod tokens;
mod window;

#[cfg(test)]
mod tests;

use arrow::datatypes::SchemaRef;

pub use error::{Code, Error};
pub use explain::{Explain, ExplainedColumn, ExplainedSource, ExplainedState};
pub(crate) use functions::{STANDING, is_by_time, keeps_sets};
pub use streams::{Mention, tables};
pub use tokens::normalised_tokens;

use crate::query::FeatureQuery;
use crate::time::Span;

/// Version of the engine's semantics: kept beside each definition and in each journal entry, raised
/// whenever the same definition over the same records would give other rows.
pub const SEMANTICS: u32 = 1;

/// A stream as SQL sees it.
#[derive(Debug, Clone)]
pub struct Table<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its columns: [`crate::avro::ReaderSchema::arrow`].
    pub schema: SchemaRef,
    /// The column whose time decides.
    pub event_time: &'a str,
}

/// A feature group that SQL looks up.
#[derive(Debug, Clone)]
pub struct Group<'a> {
    /// What SQL calls it.
    pub names: Vec<String>,
    /// The stream of its changes: its columns, then those of [`CHANGES`].
    pub changes: Table<'a>,
    /// Its primary key.
    pub key: &'a [String],
    /// Rows that are older than this are none.
    pub ttl: Option<Span>,
}

/// The columns behind a group's own in the stream of its changes: the stamp of the row.
pub const CHANGES: [&str; 4] = ["_event_time", "_available_at", "_commit", "_op"];

/// Plans a feature group's SQL over `tables`, or says what in it is not supported.
pub fn plan(sql: &str, tables: &[Table<'_>]) -> Result<FeatureQuery, Error> {
    plan_with(sql, tables, &[])
}

/// The same, where rows of feature groups may be looked up.
pub fn plan_with(sql: &str, tables: &[Table<'_>], groups: &[Group<'_>]) -> Result<FeatureQuery, Error> {
    let query = lowered(sql, tables, groups)?;
    running::check(&query)?;
    Ok(query)
}

/// The query that the SQL is, whether it runs by now or not.
fn lowered(sql: &str, tables: &[Table<'_>], groups: &[Group<'_>]) -> Result<FeatureQuery, Error> {
    let mut tables = tables.to_vec(); // a stream that is read twice is one table
    tables.sort_by_key(|table| table.name);
    tables.dedup_by_key(|table| table.name);
    let mut query = tokens::parse(sql)?;
    streams::check(&query)?;
    let config = planner::config();
    let functions = functions::Functions::new(&config);
    definition::definition(&mut query, &tables, groups, &functions)?;
    // From here on changes are a table like others, which only a lookup names.
    tables.extend(groups.iter().map(|group| group.changes.clone()));
    let plan = planner::plan(query, &tables, &functions, &config)?;
    lower::lower(&plan, &tables, groups, config)
}
