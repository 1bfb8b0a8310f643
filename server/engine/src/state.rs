//! The durable form of the state: what the `state` column family holds, and its value codec.

use crate::time::Micros;

/// Address of one partial aggregate: the part of the `state` key below (pipeline, operator).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey {
    /// Position of the operator in the query; 0 is the aggregate.
    pub operator: u16,
    /// End of the slice.
    pub slice_end: Micros,
    /// `xxh3_64(key, seed 0) mod 64`.
    pub key_group: u8,
    /// Encoded key.
    pub key: Vec<u8>,
}

/// One entry as it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRow {
    /// Where.
    pub key: StateKey,
    /// Codec version byte, then the partial aggregates.
    pub value: Vec<u8>,
}

/// A change of the durable state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateChange {
    /// Replace one entry.
    Put(StateRow),
    /// Remove all entries of one slice of one operator.
    DropSlice {
        /// The operator.
        operator: u16,
        /// The slice.
        slice_end: Micros,
    },
}
