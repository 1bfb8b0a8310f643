//! Training data: a view's features joined, point in time, to label events.

pub mod merge;
pub mod sort;
pub mod spool;
