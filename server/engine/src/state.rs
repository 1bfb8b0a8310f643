//! The state of the operators: its durable form, and the accumulators it is made of.
//!
//! One entry is the partial aggregate of one key over one slice, or a row that waits for partners in a join.
//! Accumulators live in memory from the first event of a slice on; at a checkpoint they are saved, and the engine goes on from what it saved
//! ([`codec`]: the same bytes come back as the same columns). So an engine that was restored and one that
//! never stopped do not differ, whatever an aggregate does when it is saved and merged, provided that one
//! who is saved, merged and saved again gives the same state (which is tested of every one that is allowed).

mod accumulators;
mod ages;
pub mod codec;
mod cold;
mod merge;
mod order;
pub(crate) mod view;

pub(crate) use accumulators::{Accumulators, Function, STANDING, evaluate, over};
pub(crate) use ages::{Ages, oldest};
pub(crate) use cold::{Cold, Wanted};
pub(crate) use merge::Merge;
pub(crate) use order::{common_prefix, prefix};
pub use view::{Entries, StateView, Unreadable};

use crate::key::KEY_GROUPS;
use crate::time::Micros;

/// The operator number of the aggregate in [`StateKey::operator`]. Under sessions the four times of a
/// stretch lie behind the partial aggregates: first and last event, and the event times of rows that are out
/// (null: none).
pub(crate) const AGGREGATE: u16 = 0;

/// The operator number of the rows that are owed: an entry for each key that gets a row when the window
/// that ends at `slice_end` closes, though its slices do not say so.
pub(crate) const OWED: u16 = 1;

/// The operator number of the records that rolling features look back on.
pub(crate) const ROLLING: u16 = 16;

/// The operator number of the instants at which a frame of a rolling feature was reported to be empty.
pub(crate) const EMPTIED: u16 = 17;

/// The operator number of the left rows of the first join or lookup; those of its right rows (of a lookup: of
/// what is looked up), then of the next one, follow.
pub(crate) const JOIN: u16 = 256;

/// Address of one partial aggregate: the part of the `state` key below (pipeline, operator).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey {
    /// Position of the operator in the query; 0 is the aggregate.
    pub operator: u16,
    /// End of the slice.
    pub slice_end: Micros,
    /// `xxh3_64(key, seed 0) mod 64`, of the encoded key alone.
    pub key_group: u8,
    /// Encoded key; of a row of a join, the records that it is made of follow.
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
    /// Remove one entry.
    Delete(StateKey),
    /// Remove all entries of one slice of one operator, of keys in some key groups.
    DropSlice {
        /// The operator.
        operator: u16,
        /// The slice.
        slice_end: Micros,
        /// The key groups.
        key_groups: KeyGroups,
    },
}

impl StateChange {
    /// Remove all entries of one slice of one operator.
    pub(crate) fn drop_slice(operator: u16, slice_end: Micros) -> Self {
        Self::DropSlice { operator, slice_end, key_groups: KeyGroups::ALL }
    }
}

/// Key groups that follow each other, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyGroups {
    /// The first.
    pub first: u8,
    /// The last.
    pub last: u8,
}

impl KeyGroups {
    /// All of them.
    pub const ALL: Self = Self { first: 0, last: (KEY_GROUPS - 1) as u8 };

    /// Those of share number `share` of so many, all of which are much alike in size. There are no more shares
    /// than groups.
    pub(crate) fn share(share: usize, of: usize) -> Self {
        let begin = |share: usize| (share * KEY_GROUPS as usize).div_ceil(of) as u8;
        Self { first: begin(share), last: begin(share + 1).saturating_sub(1) }
    }

    /// The share of so many that a group is in.
    pub(crate) fn share_of(group: u8, of: usize) -> usize {
        (usize::from(group) * of / KEY_GROUPS as usize).min(of.saturating_sub(1))
    }

    /// Whether a group is one of them.
    pub fn contains(self, group: u8) -> bool {
        (self.first..=self.last).contains(&group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_group_is_in_one_share() {
        for of in 1..=KEY_GROUPS as usize {
            let shares: Vec<KeyGroups> = (0..of).map(|share| KeyGroups::share(share, of)).collect();
            for group in 0..KEY_GROUPS as u8 {
                let within: Vec<usize> = (0..of).filter(|share| shares[*share].contains(group)).collect();
                assert_eq!(within, [KeyGroups::share_of(group, of)], "{group} of {of}");
            }
        }
        assert_eq!(KeyGroups::share(0, 1), KeyGroups::ALL);
    }
}
