//! Rows that wait for partners: the two sides of an interval join.
//!
//! A side's rows lie in slices of time, so that what no partner can reach any more goes as a whole. Within
//! a slice rows stand in the order in which they came; nothing that leaves the engine depends on it, for
//! partners are given in the order of their times and records.

mod buffer;
mod keys;
mod slice;
mod table;

pub(crate) use buffer::{Buffer, Pair, Reach};
pub(crate) use keys::{Keys, hash};
pub(crate) use slice::{Arrivals, Slice};

use crate::epoch::RecordId;

/// Stands where a row has no record: on the right of a left row without a partner.
pub(crate) const NO_RECORD: RecordId = RecordId { source: u16::MAX, partition: u32::MAX, offset: i64::MAX };
