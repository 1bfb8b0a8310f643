//! A row of the query, recomputed one event at a time.

use std::collections::BTreeSet;

use super::Event;

/// What a row should be: recomputed one event at a time.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Naive {
    pub(super) n: i64,
    positive: i64,
    clicks: Option<i64>,
    total: Option<f64>,
    prices: Vec<f64>,
    notes: BTreeSet<&'static str>,
}

impl Naive {
    pub(super) fn add(&mut self, event: &Event) {
        self.n += 1;
        if let Some(clicks) = event.clicks {
            self.clicks = Some(self.clicks.unwrap_or(0) + clicks);
        }
        if let Some(price) = event.price {
            self.positive += i64::from(price > 0.0);
            self.total = Some(self.total.unwrap_or(0.0) + price);
            self.prices.push(price);
        }
        self.notes.extend(event.note);
    }

    /// In the columns of the query, as text: floats by their bits, −0.0 and 0.0 as one.
    pub(super) fn row(&self) -> Vec<String> {
        let bits = |v: Option<f64>| v.map_or("null".into(), |v| format!("{:x}", (v + 0.0).to_bits()));
        let text = |v: Option<&&'static str>| v.map_or("null".to_owned(), |v| (*v).to_owned());
        let least = self.prices.iter().copied().reduce(f64::min);
        let distinct: BTreeSet<u64> = self.prices.iter().map(|p| (p + 0.0).to_bits()).collect();
        vec![
            self.n.to_string(),
            self.positive.to_string(),
            self.clicks.map_or("null".into(), |c| c.to_string()),
            bits(self.total),
            bits(self.total.map(|t| t / self.prices.len() as f64)),
            bits(least),
            text(self.notes.first()),
            text(self.notes.last()),
            self.notes.len().to_string(),
            distinct.len().to_string(),
        ]
    }
}
