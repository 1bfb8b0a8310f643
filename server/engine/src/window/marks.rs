//! Numbers of groups that something happened to.

/// Marked numbers, each once, in the order in which they were first marked.
#[derive(Default)]
pub(crate) struct Marks {
    list: Vec<u32>,
    is_marked: Vec<bool>,
}

impl Marks {
    /// Marks numbers, which are all less than `total`.
    pub(crate) fn mark_all(&mut self, numbers: impl Iterator<Item = usize>, total: usize) {
        if self.is_marked.len() < total {
            self.is_marked.resize(total, false);
        }
        for number in numbers {
            if let Some(is_marked) = self.is_marked.get_mut(number)
                && !*is_marked
            {
                *is_marked = true;
                self.list.push(number as u32);
            }
        }
    }

    /// Marks one number.
    pub(crate) fn mark(&mut self, number: u32) {
        self.mark_all(std::iter::once(number as usize), number as usize + 1);
    }

    /// Whether none is marked.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.list.capacity() * size_of::<u32>() + self.is_marked.capacity()
    }

    /// The marked numbers; none is marked afterwards.
    pub(crate) fn take(&mut self) -> Vec<u32> {
        let list = std::mem::take(&mut self.list);
        for number in &list {
            if let Some(is_marked) = self.is_marked.get_mut(*number as usize) {
                *is_marked = false;
            }
        }
        list
    }
}
