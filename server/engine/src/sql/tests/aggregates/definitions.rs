//! What each aggregate is, in plain loops over the events of a key and window.

use std::collections::BTreeSet;

use Value::{Float, Int, List, Null, Text};

/// One record.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) partition: u32,
    pub(super) offset: i64,
    pub(super) user: &'static str,
    /// Seconds.
    pub(super) time: i64,
    pub(super) clicks: Option<i64>,
    pub(super) price: Option<f64>,
    pub(super) kind: Option<&'static str>,
    pub(super) ok: Option<bool>,
}

/// A value of a feature.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Value>),
}

fn float(value: Option<f64>) -> Value {
    value.map_or(Null, Float)
}

fn int(value: Option<i64>) -> Value {
    value.map_or(Null, |v| Int(v.into()))
}

fn text(value: Option<&str>) -> Value {
    value.map_or(Null, |v| Text(v.to_owned()))
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The sum of the products of two columns' distances from their means.
fn products(a: &[f64], b: &[f64]) -> f64 {
    let (Some(ma), Some(mb)) = (mean(a), mean(b)) else { return 0.0 };
    a.iter().zip(b).map(|(a, b)| (a - ma) * (b - mb)).sum()
}

/// The percentile by its definition.
fn percentile(mut values: Vec<f64>, p: f64) -> Option<(f64, f64, f64)> {
    values.sort_by(f64::total_cmp);
    let place = p * (values.len() as f64 - 1.0);
    let (low, high) =
        (*values.get(place.max(0.0).floor() as usize)?, *values.get(place.max(0.0).ceil() as usize)?);
    Some((low, high, low + (high - low) * (place - place.floor())))
}

/// Events of one key and window, in the order of time and log.
pub(super) struct Rows<'e>(pub(super) Vec<&'e Event>);

impl Rows<'_> {
    fn clicks(&self) -> Vec<i64> {
        self.0.iter().filter_map(|e| e.clicks).collect()
    }

    fn prices(&self) -> Vec<f64> {
        self.0.iter().filter_map(|e| e.price).collect()
    }

    fn kinds(&self) -> Vec<&str> {
        self.0.iter().filter_map(|e| e.kind).collect()
    }

    /// (y, x) where both are there.
    fn pairs(&self) -> (Vec<f64>, Vec<f64>) {
        self.0.iter().filter_map(|e| Some((e.price?, e.clicks? as f64))).unzip()
    }

    /// By another order, ties as they are.
    fn by<K: PartialOrd>(&self, key: impl Fn(&Event) -> K) -> Vec<&Event> {
        let mut rows = self.0.clone();
        rows.sort_by(|a, b| key(a).partial_cmp(&key(b)).unwrap());
        rows
    }
}

fn list<T>(values: impl IntoIterator<Item = T>, of: impl Fn(T) -> Value) -> Value {
    List(values.into_iter().map(of).collect())
}

/// Without its later occurrences.
fn once<T: PartialEq>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

/// NULL in the place of an empty list.
fn some(list: Value) -> Value {
    if list == List(Vec::new()) { Null } else { list }
}

pub(super) type Definition = fn(&Rows<'_>) -> Value;

/// Each aggregate with what it is.
pub(super) fn definitions() -> Vec<(&'static str, Definition)> {
    let all: &[(&str, Definition)] = &[
        ("COUNT(clicks)", |r| Int(r.clicks().len() as i128)),
        ("COUNT(*) FILTER (WHERE ok)", |r| Int(r.0.iter().filter(|e| e.ok == Some(true)).count() as i128)),
        ("COUNT(DISTINCT kind)", |r| Int(once(r.kinds()).len() as i128)),
        ("SUM(DISTINCT clicks)", |r| some_int(once(r.clicks()))),
        ("AVG(DISTINCT price)", |r| float(mean(&once(r.prices())))),
        ("MAX(DISTINCT clicks)", |r| int(r.clicks().into_iter().max())),
        ("bit_and(clicks)", |r| int(r.clicks().into_iter().reduce(|a, b| a & b))),
        ("bit_or(clicks)", |r| int(r.clicks().into_iter().reduce(|a, b| a | b))),
        ("bit_xor(clicks)", |r| int(r.clicks().into_iter().reduce(|a, b| a ^ b))),
        ("bool_and(ok)", |r| r.0.iter().filter_map(|e| e.ok).reduce(|a, b| a && b).map_or(Null, Value::Bool)),
        ("bool_or(ok)", |r| r.0.iter().filter_map(|e| e.ok).reduce(|a, b| a || b).map_or(Null, Value::Bool)),
        ("var_pop(price)", |r| {
            let p = r.prices();
            float((!p.is_empty()).then(|| products(&p, &p) / p.len() as f64))
        }),
        ("var_samp(clicks)", |r| {
            let c: Vec<f64> = r.clicks().iter().map(|c| *c as f64).collect();
            float((c.len() > 1).then(|| products(&c, &c) / (c.len() as f64 - 1.0)))
        }),
        ("stddev_pop(price)", |r| {
            let p = r.prices();
            float((!p.is_empty()).then(|| (products(&p, &p) / p.len() as f64).sqrt()))
        }),
        ("stddev(price)", |r| {
            let p = r.prices();
            float((p.len() > 1).then(|| (products(&p, &p) / (p.len() as f64 - 1.0)).sqrt()))
        }),
        ("covar_pop(price, clicks)", |r| {
            let (y, x) = r.pairs();
            float((!x.is_empty()).then(|| products(&x, &y) / x.len() as f64))
        }),
        ("covar_samp(price, clicks)", |r| {
            let (y, x) = r.pairs();
            float((x.len() > 1).then(|| products(&x, &y) / (x.len() as f64 - 1.0)))
        }),
        ("corr(price, clicks)", |r| {
            let (y, x) = r.pairs();
            let (xx, yy) = (products(&x, &x), products(&y, &y));
            float((varies(&x) && varies(&y)).then(|| products(&x, &y) / (xx * yy).sqrt()))
        }),
        ("regr_slope(price, clicks)", |r| {
            let (y, x) = r.pairs();
            float(varies(&x).then(|| products(&x, &y) / products(&x, &x)))
        }),
        ("regr_intercept(price, clicks)", |r| {
            let (y, x) = r.pairs();
            float(
                varies(&x)
                    .then(|| mean(&y).unwrap() - products(&x, &y) / products(&x, &x) * mean(&x).unwrap()),
            )
        }),
        ("regr_r2(price, clicks)", |r| {
            let (y, x) = r.pairs();
            let defined = varies(&x) && varies(&y);
            float(defined.then(|| products(&x, &y).powi(2) / products(&x, &x) / products(&y, &y)))
        }),
        ("regr_count(price, clicks)", |r| Int(r.pairs().0.len() as i128)),
        ("regr_avgx(price, clicks)", |r| float(mean(&r.pairs().1))),
        ("regr_avgy(price, clicks)", |r| float(mean(&r.pairs().0))),
        ("regr_sxx(price, clicks)", |r| {
            let (_, x) = r.pairs();
            float((!x.is_empty()).then(|| products(&x, &x)))
        }),
        ("regr_syy(price, clicks)", |r| {
            let (y, _) = r.pairs();
            float((!y.is_empty()).then(|| products(&y, &y)))
        }),
        ("regr_sxy(price, clicks)", |r| {
            let (y, x) = r.pairs();
            float((!x.is_empty()).then(|| products(&x, &y)))
        }),
        ("median(price)", |r| float(percentile(r.prices(), 0.5).map(|(.., p)| p))),
        ("percentile_cont(price, 0.9)", |r| float(percentile(r.prices(), 0.9).map(|(.., p)| p))),
        ("quantile_cont(0.25) WITHIN GROUP (ORDER BY clicks DESC)", |r| {
            float(percentile(r.clicks().iter().map(|c| *c as f64).collect(), 0.75).map(|(.., p)| p))
        }),
        ("first_value(clicks)", |r| int(r.0.first().and_then(|e| e.clicks))),
        ("last_value(clicks)", |r| int(r.0.last().and_then(|e| e.clicks))),
        ("last_value(kind) IGNORE NULLS", |r| text(r.kinds().last().copied())),
        ("first_value(clicks) FILTER (WHERE ok)", |r| {
            int(r.0.iter().find(|e| e.ok == Some(true)).and_then(|e| e.clicks))
        }),
        ("last_value(kind ORDER BY clicks NULLS FIRST)", |r| {
            text(r.by(|e| e.clicks).last().and_then(|e| e.kind))
        }),
        ("first_value(kind ORDER BY price DESC NULLS LAST, clicks NULLS FIRST)", |r| {
            text(
                r.by(|e| (e.price.is_none(), -e.price.unwrap_or(0.0), e.clicks)).first().and_then(|e| e.kind),
            )
        }),
        ("nth_value(clicks, 2)", |r| int(r.0.get(1).and_then(|e| e.clicks))),
        ("nth_value(clicks, -3)", |r| int(r.0.iter().rev().nth(2).and_then(|e| e.clicks))),
        ("first_k(clicks, 2)", |r| list(r.clicks().into_iter().take(2), |c| Int(c.into()))),
        ("last_k(kind, 3)", |r| list(r.kinds().into_iter().rev().take(3), |k| text(Some(k)))),
        ("last_k(DISTINCT kind, 2)", |r| {
            list(once(r.kinds().into_iter().rev()).into_iter().take(2), |k| text(Some(k)))
        }),
        ("first_k(DISTINCT clicks, 3)", |r| list(once(r.clicks()).into_iter().take(3), |c| Int(c.into()))),
        ("last_k(price, 2 ORDER BY clicks NULLS FIRST)", |r| {
            list(r.by(|e| e.clicks).into_iter().rev().filter_map(|e| e.price).take(2), Float)
        }),
        ("top_k(clicks, 3)", |r| {
            let mut clicks = r.clicks();
            clicks.sort_by_key(|c| -c);
            list(clicks.into_iter().take(3), |c| Int(c.into()))
        }),
        ("top_k(DISTINCT kind, 2)", |r| {
            let kinds: BTreeSet<&str> = r.kinds().into_iter().collect();
            list(kinds.into_iter().rev().take(2), |k| text(Some(k)))
        }),
        ("bottom_k(price, 2)", |r| {
            let mut prices = r.prices();
            prices.sort_by(f64::total_cmp);
            list(prices.into_iter().take(2), Float)
        }),
        ("collect_set(clicks, 4)", |r| {
            let clicks: BTreeSet<i64> = r.clicks().into_iter().collect();
            list(clicks.into_iter().take(4), |c| Int(c.into()))
        }),
        ("bounded_unique_count(clicks, 4)", |r| Int(once(r.clicks()).len().min(4) as i128)),
        ("array_agg(clicks LIMIT 4)", |r| some(list(r.0.iter().take(4), |e| int(e.clicks)))),
        ("array_agg(kind ORDER BY clicks DESC NULLS LAST LIMIT 3) FILTER (WHERE kind IS NOT NULL)", |r| {
            let rows = r.by(|e| (e.clicks.is_none(), -e.clicks.unwrap_or(0)));
            some(list(rows.into_iter().filter_map(|e| e.kind).take(3), |k| text(Some(k))))
        }),
        ("array_agg(DISTINCT kind ORDER BY kind DESC LIMIT 2) IGNORE NULLS", |r| {
            let kinds: BTreeSet<&str> = r.kinds().into_iter().collect();
            some(list(kinds.into_iter().rev().take(2), |k| text(Some(k))))
        }),
        ("string_agg(kind, '; ' LIMIT 3)", |r| {
            let kinds: Vec<&str> = r.kinds().into_iter().take(3).collect();
            text((!kinds.is_empty()).then(|| kinds.join("; ")).as_deref())
        }),
    ];
    all.to_vec()
}

fn some_int(values: Vec<i64>) -> Value {
    int((!values.is_empty()).then(|| values.iter().sum()))
}

/// More than one value.
fn varies(values: &[f64]) -> bool {
    values.iter().any(|v| Some(v) != values.first())
}

/// A value, and how far an estimate may be from it.
pub(super) type Estimate = fn(&Rows<'_>) -> Option<(f64, f64)>;

/// Each estimate with what it may be.
pub(super) fn estimates() -> Vec<(&'static str, Estimate)> {
    fn near(found: Option<(f64, f64, f64)>) -> Option<(f64, f64)> {
        // Each of the two neighbours is at most 1/128 wrong.
        found.map(|(low, high, p)| (p, low.abs().max(high.abs()) / 64.0))
    }
    let all: &[(&str, Estimate)] = &[
        ("approx_median(price)", |r| near(percentile(r.prices(), 0.5))),
        ("approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY price)", |r| {
            near(percentile(r.prices(), 0.95))
        }),
        ("approx_percentile_cont(clicks, 0.5)", |r| {
            // Small whole numbers are exact.
            let clicks = r.clicks().iter().map(|c| *c as f64).collect();
            percentile(clicks, 0.5).map(|(.., p)| (p, 1e-9))
        }),
        ("approx_percentile_cont_with_weight(price, 2, 0.5)", |r| {
            near(percentile([r.prices(), r.prices()].concat(), 0.5))
        }),
        ("approx_distinct(price)", |r| {
            let n = once(r.prices()).len() as f64;
            Some((n, 1.0 + n * 0.065))
        }),
        ("approx_distinct(kind)", |r| Some((once(r.kinds()).len() as f64, 0.5))),
    ];
    all.to_vec()
}
