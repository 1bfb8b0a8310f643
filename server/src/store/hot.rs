//! Keys that are merged again and again.
//!
//! A row goes to `online` as a merge operand, without reading what is there. Under light traffic a hot key
//! gets one in every epoch, hundreds a second, and every read would merge all that lie in the memtable. So
//! every so many merges of a key, what is there is written anew as one value, in the same batch, before the
//! operand. A large epoch has no need of it: few of its kind fit into a memtable.
//!
//! (RocksDB has `max_successive_merges` for this, but looks each key up in the memtable on each insertion.)

use xxhash_rust::xxh3::xxh3_64;

/// An epoch with more rows than this is large.
pub(super) const SMALL: usize = 1_024;

/// So many operands may lie above a value.
const LIMIT: u8 = 8;

/// Keys share counters: a value is written more often than it must be, never less.
const SLOTS: usize = 4_096;

/// How often keys were merged since their value was written.
#[derive(Debug, Default)]
pub(super) struct Merges(Vec<u8>);

impl Merges {
    /// Counts a merge. True: what is there is to be written anew before it.
    pub fn count(&mut self, key: &[u8]) -> bool {
        self.0.resize(SLOTS, 0);
        let Some(count) = self.0.get_mut(xxh3_64(key) as usize % SLOTS) else { return false };
        *count += 1;
        let is_due = *count >= LIMIT;
        if is_due {
            *count = 0;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_eighth_merge_of_a_key() {
        let mut merges = Merges::default();
        let due = |key: &[u8], merges: &mut Merges| (0..20).filter(|_| merges.count(key)).count();
        assert_eq!(due(b"a", &mut merges), 2);
        assert_eq!(due(b"b", &mut merges), 2);
    }
}
