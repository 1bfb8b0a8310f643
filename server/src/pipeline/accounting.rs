//! Invariant 4, checked in production: every record read has exactly one outcome.

use millpond_engine::epoch::Counts;

use super::halt::Halt;
use crate::store::commit::Accounting;

/// Joins what the decode stage and the engine counted, per source, and checks that it adds up.
///
/// A breach halts the pipeline before anything is committed: what does not add up here would be a
/// record lost or counted twice in the features.
pub fn close(decoded: &[Accounting], computed: &[Counts]) -> Result<Vec<Accounting>, Halt> {
    let mut closed = Vec::with_capacity(decoded.len());
    for (source, decoded) in decoded.iter().enumerate() {
        let computed = computed.get(source).copied().unwrap_or_default();
        let sum = Accounting {
            read: decoded.read,
            applied: computed.applied,
            late: computed.late,
            filtered: computed.filtered,
            quarantined: decoded.quarantined + computed.quarantined,
            tombstones: decoded.tombstones,
            heartbeats: decoded.heartbeats,
            superseded: computed.superseded,
        };
        if outcomes(&sum) != sum.read {
            return Err(breach(source, &sum));
        }
        closed.push(sum);
    }
    match computed.get(decoded.len()) {
        Some(stray) => {
            Err(breach(decoded.len(), &Accounting { applied: stray.applied, ..Accounting::default() }))
        }
        None => Ok(closed),
    }
}

fn outcomes(a: &Accounting) -> u64 {
    a.applied + a.late + a.filtered + a.quarantined + a.tombstones + a.heartbeats + a.superseded
}

fn breach(source: usize, sum: &Accounting) -> Halt {
    Halt::new(
        format!(
            "the accounting of source {source} does not add up: {} read, {} accounted for ({sum:?})",
            sum.read,
            outcomes(sum)
        ),
        "this is a defect: nothing of the epoch was committed; report it with the group's definition",
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DECODED: Accounting = Accounting {
        read: 10,
        applied: 0,
        late: 0,
        filtered: 0,
        quarantined: 1,
        tombstones: 1,
        heartbeats: 1,
        superseded: 0,
    };
    const COMPUTED: Counts = Counts { applied: 3, filtered: 1, late: 1, quarantined: 1, superseded: 1 };

    #[test]
    fn what_adds_up_passes() {
        let sum = close(&[DECODED], &[COMPUTED]).unwrap();
        assert_eq!(sum[0].quarantined, 2);
        assert_eq!(sum[0].applied, 3);
    }

    #[test]
    fn one_record_too_few_or_too_many_halts() {
        for applied in [2, 4] {
            let halt = close(&[DECODED], &[Counts { applied, ..COMPUTED }]).unwrap_err();
            assert!(halt.reason.contains("10 read"), "{}", halt.reason);
        }
    }

    #[test]
    fn a_source_that_is_not_there_halts() {
        assert!(close(&[], &[COMPUTED]).is_err());
        assert!(close(&[DECODED], &[]).is_err());
    }
}
