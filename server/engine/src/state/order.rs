//! Sorting many keys: most comparisons are settled by eight bytes that lie beside the index.

/// Length of the prefix that two keys share.
pub(crate) fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// The eight bytes of `key` after `skip`, as a number that orders as they do (short keys padded with
/// zeros: equal numbers say nothing, the keys themselves decide then).
pub(crate) fn prefix(key: &[u8], skip: usize) -> u64 {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(key.iter().skip(skip)) {
        *to = *from;
    }
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_never_contradict_the_order_of_the_keys() {
        let keys: [&[u8]; 6] = [b"user", b"user\0", b"user_1", b"user_10", b"user_2", b"user_22222222222"];
        let shared = common_prefix(keys[0], keys[5]);
        assert_eq!(shared, 4);
        for pair in keys.windows(2) {
            assert!(prefix(pair[0], shared) <= prefix(pair[1], shared), "{pair:?}");
        }
        assert_eq!(common_prefix(b"", b"x"), 0);
    }
}
