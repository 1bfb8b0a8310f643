//! The join keys of a batch.

use std::hash::BuildHasher;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use foldhash::fast::FixedState;

use crate::key;

/// The encoded key of each row, with its hash. Equal keys are equal bytes; a key with a NULL in it equals
/// nothing, not even itself.
pub(crate) struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    hashes: Vec<u64>,
    nulls: Option<NullBuffer>,
}

impl Keys {
    /// The keys of `rows` rows.
    pub(crate) fn new(columns: &[ArrayRef], rows: usize) -> Result<Self, key::Error> {
        let encoder = key::Encoder::new(columns)?;
        let mut bytes = Vec::with_capacity(rows * 24);
        let (mut ends, mut hashes) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for row in 0..rows {
            let start = bytes.len();
            encoder.append(row, &mut bytes);
            ends.push(bytes.len());
            hashes.push(hash(bytes.get(start..).unwrap_or_default()));
        }
        let nulls = columns
            .iter()
            .map(|column| column.logical_nulls())
            .fold(None, |all, nulls| NullBuffer::union(all.as_ref(), nulls.as_ref()));
        Ok(Self { bytes, ends, hashes, nulls })
    }

    /// The encoded key of a row.
    pub(crate) fn key(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(row).copied().unwrap_or(start);
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// Its hash.
    pub(crate) fn hash(&self, row: usize) -> u64 {
        self.hashes.get(row).copied().unwrap_or_default()
    }

    /// Whether the key of a row equals no key at all.
    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Number of keys.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }
}

/// The hash of an encoded key.
pub(crate) fn hash(key: &[u8]) -> u64 {
    FixedState::default().hash_one(key)
}
