//! What each key has in the slices of the time line.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::time::Micros;

/// What a key has in one slice.
pub(crate) trait Linked: Copy {
    /// The end of the slice.
    fn slice_end(&self) -> Micros;
}

/// One stretch of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) slice_end: Micros,
    /// Its number there.
    pub(crate) number: u32,
}

impl Linked for Link {
    fn slice_end(&self) -> Micros {
        self.slice_end
    }
}

/// What is known of one key.
#[derive(Debug)]
struct Chain<L> {
    /// Encoded.
    key: Box<[u8]>,
    hash: u64,
    /// Ascending.
    links: Vec<L>,
}

/// Keys by number, each with its links in the order of time. A key is looked up once for each link, when that is
/// added; from there on its number does. A number is free for another key once its key has no links any
/// more: nothing that leaves the engine depends on numbers or on the order of the table.
pub(crate) struct Chains<L = Link> {
    /// Hash and number of each key.
    table: HashTable<(u64, u32)>,
    chains: Vec<Chain<L>>,
    free: Vec<u32>,
    hasher: FixedState,
}

impl<L> Default for Chains<L> {
    fn default() -> Self {
        Self {
            table: HashTable::default(),
            chains: Vec::new(),
            free: Vec::new(),
            hasher: FixedState::default(),
        }
    }
}

impl<L: Linked> Chains<L> {
    /// Adds a link, which was not known. Returns the number of its key.
    pub(crate) fn add(&mut self, key: &[u8], link: L) -> u32 {
        let number = self.intern(key);
        if let Some(chain) = self.chains.get_mut(number as usize) {
            let place = chain.links.partition_point(|known| known.slice_end() < link.slice_end());
            chain.links.insert(place, link);
        }
        number
    }

    /// The number of a key, if it has links.
    pub(crate) fn find(&self, key: &[u8]) -> Option<u32> {
        self.find_hashed(key, self.hasher.hash_one(key))
    }

    fn find_hashed(&self, key: &[u8], hash: u64) -> Option<u32> {
        let chains = &self.chains;
        let found = self.table.find(hash, |(known, number)| {
            *known == hash && chains.get(*number as usize).is_some_and(|chain| *chain.key == *key)
        });
        found.map(|(_, number)| *number)
    }

    fn intern(&mut self, key: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(key);
        if let Some(number) = self.find_hashed(key, hash) {
            return number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.chains.push(Chain { key: Box::default(), hash, links: Vec::new() });
            self.chains.len() as u32 - 1
        });
        if let Some(chain) = self.chains.get_mut(number as usize) {
            // The room for links stays from the key before.
            chain.key = key.into();
            chain.hash = hash;
        }
        self.table.insert_unique(hash, (hash, number), |(hash, _)| *hash);
        number
    }

    /// A key.
    pub(crate) fn key(&self, chain: u32) -> &[u8] {
        self.chains.get(chain as usize).map_or(&[], |chain| &chain.key)
    }

    /// The links of a key, in the order of time.
    pub(crate) fn links(&self, chain: u32) -> &[L] {
        self.chains.get(chain as usize).map_or(&[], |chain| &chain.links)
    }

    /// Those from slice to slice.
    pub(crate) fn between(&self, chain: u32, from: Micros, to: Micros) -> &[L] {
        let links = self.links(chain);
        let from = leading(links.len(), |at| links.get(at).is_some_and(|link| link.slice_end() < from));
        let last = links.len().saturating_sub(1);
        let after = leading(links.len(), |back| {
            let link = last.checked_sub(back).and_then(|at| links.get(at));
            link.is_some_and(|link| link.slice_end() > to)
        });
        links.get(from..links.len() - after).unwrap_or_default()
    }

    /// The link of a key in a slice.
    pub(crate) fn link_mut(&mut self, chain: u32, slice_end: Micros) -> Option<&mut L> {
        let links = &mut self.chains.get_mut(chain as usize)?.links;
        let place = links.binary_search_by_key(&slice_end, L::slice_end).ok()?;
        links.get_mut(place)
    }

    /// The link of a key in a slice is another one now.
    pub(crate) fn renumber(&mut self, chain: u32, link: L) {
        if let Some(known) = self.link_mut(chain, link.slice_end()) {
            *known = link;
        }
    }

    /// Bytes in memory, with so many links of all keys together.
    pub(crate) fn bytes(&self, links: usize) -> usize {
        // A key of its own allocation is taken to be as long as a short text.
        let chain = size_of::<Chain<L>>() + 16;
        self.table.capacity() * (size_of::<(u64, u32)>() + 1)
            + self.chains.capacity() * chain
            + self.free.capacity() * size_of::<u32>()
            + links * size_of::<L>()
    }

    /// Forgets the link of a key in a slice.
    pub(crate) fn remove(&mut self, chain: u32, slice_end: Micros) {
        self.retain(chain, |link| link.slice_end() != slice_end);
    }

    /// Forgets a key.
    pub(crate) fn forget(&mut self, chain: u32) {
        self.retain(chain, |_| false);
    }

    fn retain(&mut self, chain: u32, keep: impl Fn(&L) -> bool) {
        let Some(of_key) = self.chains.get_mut(chain as usize) else { return };
        let before = of_key.links.len();
        of_key.links.retain(keep);
        if before > 0
            && of_key.links.is_empty()
            && let Ok(entry) = self.table.find_entry(of_key.hash, |(_, number)| *number == chain)
        {
            entry.remove();
            of_key.key = Box::default();
            self.free.push(chain);
        }
    }

    /// The numbers of all keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.chains).filter(|(_, chain)| !chain.links.is_empty()).map(|(number, _)| number)
    }
}

/// How many of the first of `all` things are so, where none is behind one that is not. What is asked for mostly lies
/// at an end of what there is, and less of it is read than by halving.
fn leading(all: usize, is_so: impl Fn(usize) -> bool) -> usize {
    let mut step = 1;
    while step <= all && is_so(step - 1) {
        step *= 2;
    }
    let (mut from, mut to) = (step / 2, all.min(step - 1));
    while from < to {
        let middle = from.midpoint(to);
        if is_so(middle) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    from
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(slice_end: i64, number: u32) -> Link {
        Link { slice_end: Micros(slice_end), number }
    }

    #[test]
    fn the_leading_ones_are_counted() {
        for all in 0..40 {
            for so in 0..=all {
                assert_eq!(leading(all, |at| at < so), so, "of {all}");
            }
        }
    }

    #[test]
    fn stretches_lie_in_the_order_of_time_and_numbers_are_used_again() {
        let mut chains = Chains::default();
        let ann = chains.add(b"ann", link(20, 0));
        let bob = chains.add(b"bob", link(20, 1));
        assert_eq!((chains.add(b"ann", link(40, 7)), chains.add(b"ann", link(30, 5))), (ann, ann));
        assert_eq!(chains.links(ann), [link(20, 0), link(30, 5), link(40, 7)]);
        assert_eq!(chains.between(ann, Micros(21), Micros(40)), [link(30, 5), link(40, 7)]);
        chains.renumber(ann, link(30, 6));
        assert_eq!(chains.link_mut(ann, Micros(31)), None);
        chains.remove(ann, Micros(20));
        assert_eq!((chains.links(ann), chains.key(ann)), (&[link(30, 6), link(40, 7)][..], &b"ann"[..]));
        chains.remove(bob, Micros(20));
        chains.remove(bob, Micros(20));
        assert_eq!((chains.find(b"bob"), chains.find(b"ann")), (None, Some(ann)));
        assert_eq!(chains.add(b"cat", link(50, 0)), bob, "a number that is free");
        assert_eq!((chains.links(bob), chains.key(bob)), (&[link(50, 0)][..], &b"cat"[..]));
        chains.forget(ann);
        assert_eq!((chains.find(b"ann"), chains.iter().collect::<Vec<_>>()), (None, vec![bob]));
    }
}
