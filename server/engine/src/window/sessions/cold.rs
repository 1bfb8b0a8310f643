//! Keys of which no stretch is in memory: which of them are let go of, and what is known of the others.

use std::collections::BTreeSet;

use arrow::datatypes::SchemaRef;

use super::{Error, Link, Sessions};
use crate::state::{StateRow, Unreadable, Wanted};
use crate::time::Micros;

impl Sessions {
    /// Whether a key is in memory.
    pub(crate) fn has(&self, key: &[u8]) -> bool {
        self.chains.find(key).is_some()
    }

    /// The numbers of the keys in memory.
    pub(crate) fn keys(&self) -> impl Iterator<Item = u32> {
        self.chains.iter()
    }

    /// The keys that may have something to do: see [`crate::state::Cold::due`].
    pub(crate) fn due<E: From<Unreadable>>(
        &mut self,
        now: Micros,
        until: Micros,
        wakes: &dyn Fn(Micros, &[StateRow]) -> Result<Vec<Micros>, E>,
    ) -> Result<Wanted, E> {
        let Self { cold, chains, .. } = self;
        cold.due(now, until, &|key| chains.find(key).is_some(), wakes)
    }

    /// At a checkpoint: the keys of these numbers changed since the last one.
    pub(crate) fn saved(&mut self, changed: Vec<u32>) {
        self.ages.checkpoint();
        for chain in changed {
            self.ages.note(chain);
        }
        self.cold.saved();
        // What was in it is removed from the store, and what else lies there is cold.
        self.slices.retain(|_, slice| slice.len() > 0);
    }

    /// Right after a checkpoint that is durable: lets go of the keys of these numbers. The stretches that are left have
    /// other numbers then.
    pub(crate) fn evict(&mut self, schema: &SchemaRef, chains: &BTreeSet<u32>) -> Result<(), Error> {
        let mut emptied = Vec::new();
        for (slice_end, slice) in &mut self.slices {
            let stays = |number: &u32| !chains.contains(&slice.chain(*number));
            let left: Vec<u32> = slice.all().filter(stays).collect();
            let gone = slice.len() - left.len();
            if gone == 0 {
                continue;
            }
            self.cold.let_go(*slice_end, Some(gone));
            if left.is_empty() {
                emptied.push(*slice_end);
                continue;
            }
            slice.keep(schema, &left)?;
            for number in slice.all() {
                self.chains.renumber(slice.chain(number), Link { slice_end: *slice_end, number });
            }
        }
        for slice_end in emptied {
            self.slices.remove(&slice_end);
        }
        for chain in chains {
            self.chains.forget(*chain);
            self.long.remove(chain);
        }
        Ok(())
    }
}
