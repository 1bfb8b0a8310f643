//! When an epoch ends: by size, or by age. Pure, so that it can be read and tested as a table.

use std::time::Duration;

/// How large and how old an epoch may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// At most this many records …
    pub records: usize,
    /// … and about this many bytes.
    pub bytes: usize,
    /// Commits are at least this far apart while traffic is light …
    pub min_age: Duration,
    /// … and this many times as far as the last epoch took, up to [`MAX_PAUSE`].
    pub pause: u32,
    /// While there is always more to read, a commit comes at least this often.
    pub max_age: Duration,
}

/// How the epoch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Records read so far.
    pub records: usize,
    /// Bytes of them.
    pub bytes: usize,
    /// Time since the first of them was read.
    pub age: Duration,
    /// Time since the previous epoch was cut.
    pub since_cut: Duration,
    /// What the last epoch took to be computed and committed.
    pub cost: Duration,
    /// Nothing more can be read now.
    pub drained: bool,
    /// An epoch that was cut before is not being computed yet: another one would only wait behind it.
    pub behind: bool,
    /// A boundary has been reached, or the pipeline is to stop: what was read must be committed alone.
    pub must: bool,
}

/// Traffic that comes in small pieces is gathered for this long: a batch of one producer is rarely one read.
const LINGER: Duration = Duration::from_millis(2);

/// Where an epoch waits to be computed, this long until the next look whether it still does.
const GLANCE: Duration = Duration::from_millis(1);

/// However slow a commit is, light traffic does not wait longer than this for the next one.
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// `None`: cut now. `Some(wait)`: read on, waiting at most this long for more.
pub fn wait(limits: &Limits, now: &Standing) -> Option<Duration> {
    if now.must || now.records >= limits.records || now.bytes >= limits.bytes {
        return None;
    }
    if now.behind {
        return Some(if now.drained { GLANCE } else { Duration::ZERO });
    }
    if now.age >= limits.max_age {
        return None;
    }
    if !now.drained {
        return Some(Duration::ZERO);
    }
    let apart = now.cost.saturating_mul(limits.pause).min(MAX_PAUSE).max(limits.min_age);
    let due = LINGER.saturating_sub(now.age).max(apart.saturating_sub(now.since_cut));
    if due.is_zero() { None } else { Some(due) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    const LIMITS: Limits =
        Limits { records: 1000, bytes: 1 << 20, min_age: ms(5), pause: 4, max_age: ms(250) };

    fn standing(records: usize, age: u64, since_cut: u64, drained: bool) -> Standing {
        Standing {
            records,
            bytes: records * 50,
            age: ms(age),
            since_cut: ms(since_cut),
            cost: ms(1),
            drained,
            behind: false,
            must: false,
        }
    }

    #[test]
    fn a_lone_record_waits_a_moment_for_company_only() {
        assert_eq!(wait(&LIMITS, &standing(1, 0, 10_000, true)), Some(LINGER));
        assert_eq!(wait(&LIMITS, &standing(1, 2, 10_000, true)), None);
    }

    #[test]
    fn light_traffic_commits_every_min_age() {
        assert_eq!(wait(&LIMITS, &standing(10, 2, 2, true)), Some(ms(3)));
        assert_eq!(wait(&LIMITS, &standing(20, 4, 5, true)), None);
    }

    #[test]
    fn slow_commits_are_further_apart() {
        let slow = |cost| Standing { cost: ms(cost), ..standing(10, 10, 10, true) };
        assert_eq!(wait(&LIMITS, &slow(6)), Some(ms(14)));
        assert_eq!(wait(&LIMITS, &slow(900)), Some(ms(40)));
        assert_eq!(wait(&LIMITS, &Standing { drained: false, ..slow(6) }), Some(ms(0)));
    }

    #[test]
    fn a_backlog_is_cut_by_size_or_max_age() {
        assert_eq!(wait(&LIMITS, &standing(999, 100, 100, false)), Some(ms(0)));
        assert_eq!(wait(&LIMITS, &standing(1000, 1, 1, false)), None);
        assert_eq!(wait(&LIMITS, &standing(10, 250, 250, false)), None);
        assert_eq!(wait(&LIMITS, &Standing { bytes: 1 << 20, ..standing(1, 0, 0, false) }), None);
    }

    #[test]
    fn while_another_one_waits_only_size_cuts() {
        let behind = |records, drained| Standing { behind: true, ..standing(records, 300, 300, drained) };
        assert_eq!(wait(&LIMITS, &behind(10, true)), Some(GLANCE));
        assert_eq!(wait(&LIMITS, &behind(10, false)), Some(ms(0)));
        assert_eq!(wait(&LIMITS, &behind(1000, true)), None);
        assert_eq!(wait(&LIMITS, &Standing { must: true, ..behind(1, true) }), None);
    }

    #[test]
    fn a_boundary_cuts_at_once() {
        assert_eq!(wait(&LIMITS, &Standing { must: true, ..standing(1, 0, 0, true) }), None);
    }
}
