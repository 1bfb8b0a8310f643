//! Buffers of records, used again: an epoch takes megabytes of them, and memory that is given back and
//! taken again is cleared by the kernel each time, which cost more than decoding.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::log::Records;

/// At most this many are kept: those of four epochs, as many as are on their way.
const KEPT: usize = 128;
/// One that has grown beyond this is not kept.
const LARGEST: usize = 4 << 20;

/// The buffers that are not in use.
#[derive(Debug, Clone, Default)]
pub struct Buffers(Arc<Mutex<Vec<Records>>>);

impl Buffers {
    /// An empty one.
    pub fn take(&self) -> Records {
        self.0.lock().pop().unwrap_or_default()
    }

    /// Gives some back.
    pub fn give(&self, used: impl Iterator<Item = Records>) {
        let mut free = self.0.lock();
        for mut records in used {
            if free.len() < KEPT && records.bytes.capacity() <= LARGEST {
                records.clear();
                free.push(records);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Kind;

    #[test]
    fn what_is_given_back_comes_empty_and_with_its_memory() {
        let buffers = Buffers::default();
        let mut records = buffers.take();
        records.push(0, 7, Kind::Event, None, &[1; 100]);
        buffers.give(std::iter::once(records));
        let again = buffers.take();
        assert!(again.records.is_empty() && again.bytes.is_empty() && again.bytes.capacity() >= 100);
        let mut large = Records::default();
        large.bytes.reserve(LARGEST + 1);
        buffers.give(std::iter::once(large));
        assert_eq!(buffers.take().bytes.capacity(), 0, "one large record does not stay in memory for ever");
    }
}
