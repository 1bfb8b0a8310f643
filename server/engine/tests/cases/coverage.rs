//! What the cases of a run went through, so that the run cannot quietly become empty.

use std::collections::BTreeMap;

/// How often each thing was there.
#[derive(Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<String, usize>,
    /// The operator of the case at hand.
    operator: &'static str,
}

impl Coverage {
    /// Of a case with this operator.
    pub fn of(operator: &'static str) -> Self {
        Self { counts: BTreeMap::from([(operator.to_owned(), 1)]), operator }
    }

    pub fn add(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    /// The same, for this operator too.
    pub fn add_of(&mut self, what: &str) {
        self.add(what);
        self.add(&format!("{}: {what}", self.operator));
    }

    pub fn merge(&mut self, other: Self) {
        for (what, count) in other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }

    /// What was there less often than in so many of a thousand cases.
    pub fn missing<'w>(&self, wanted: &[(&'w str, usize)], cases: usize) -> Vec<(&'w str, usize)> {
        let count = |what: &str| self.counts.get(what).copied().unwrap_or(0);
        let all = wanted.iter().map(|(what, least)| (*what, count(what), least * cases / 1000));
        all.filter(|(_, count, least)| count < least).map(|(what, count, _)| (what, count)).collect()
    }

    pub fn described(&self) -> String {
        self.counts.iter().map(|(what, count)| format!("{count:>8} {what}\n")).collect()
    }
}
