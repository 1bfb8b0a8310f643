//! What is kept of a feature group that events look up: for each key the row of each instant.
//!
//! A row of the group is *visible* from the later of its event time and the instant at which it became
//! available, and of the visible ones the greatest (event time, commit) is picked ([`crate::pick`]). So what
//! a key has at an instant is a flight of [`steps`]: every row that is ever picked, from when on. Rows that are
//! never picked are not kept, whatever order they come in; and once no event looks back beyond an instant,
//! of the steps before it only the last one is.

mod rows;
mod steps;
mod versions;

pub(crate) use versions::{Version, Versions};
