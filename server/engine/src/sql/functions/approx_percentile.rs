//! approx_percentile_cont(x, p), its weighted form and approx_median(x): a histogram with buckets that grow
//! with the values, vectorised over groups.
//!
//! A bucket is the sign, the exponent and the first [`FRACTION`] bits of the significand of a DOUBLE: 64 to
//! each power of two, so its middle is at most 1/128 away from each value in it. That is the idea of
//! C. Masson, J. E. Rim and H. K. Lee, "DDSketch" (2019), with a mapping that takes no logarithm and is
//! the same on every machine. Merging adds, so neither order nor cuts can be seen in the state (weights
//! aside that are no whole numbers: their sums are rounded in the order of the events); a t-digest, as
//! DataFusion has it, gives another estimate for each order and has no bound on its error.
//!
//! A group has at most [`BUCKETS`] buckets for each sign: where values need more (they fill 32 powers of
//! two), those nearest to zero fall together.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, ListArray, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Int32Type};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::own::{Aggregate, Bound, each, item, taken};
use super::percentile::{Share, doubles, interpolated};

/// Bits of the significand that choose a bucket.
const FRACTION: u32 = 6;
/// Bits of a DOUBLE that do not.
const REST: u32 = 52 - FRACTION;
/// Buckets of one sign.
const BUCKETS: usize = 2_048;
/// The bucket of NaN, above all others.
const NAN: i32 = i32::MAX;
/// Bytes of a bucket with its weight, in memory; they are a byte less where they are stored.
const WIDTH: usize = size_of::<(i32, f64)>();

/// An estimate of a percentile, over values or over values with weights.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ApproxPercentile {
    pub(crate) share: Share,
    pub(crate) weighted: bool,
}

fn bucket_fields() -> Fields {
    Fields::from(vec![
        Field::new("bucket", DataType::Int32, false),
        Field::new("weight", DataType::Float64, false),
    ])
}

impl Aggregate for ApproxPercentile {
    fn name(&self) -> &'static str {
        if self.weighted { "approx_percentile_cont_with_weight" } else { "approx_percentile_cont" }
    }

    fn coerce(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arguments.to_vec())
    }

    fn result(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state(&self, _: &[DataType]) -> Result<Vec<DataType>> {
        let buckets = DataType::List(item(&DataType::Struct(bucket_fields())));
        Ok(vec![buckets, DataType::Float64, DataType::Float64])
    }

    fn groups(&self, arguments: &[DataType]) -> Result<Box<dyn GroupsAccumulator>> {
        let whole = arguments.first().is_some_and(DataType::is_integer);
        Ok(Box::new(Histograms { function: self.clone(), whole, groups: Vec::new() }))
    }

    fn bound(&self) -> Bound {
        Bound::Bytes(2 * BUCKETS * WIDTH)
    }
}

/// The bucket of a value. Buckets are in the order of their values.
fn bucket(value: f64) -> i32 {
    let magnitude = (value.abs().to_bits() >> REST) as i32;
    match value {
        value if value.is_nan() => NAN,
        value if value < 0.0 => -magnitude - 1,
        _ => magnitude,
    }
}

/// The middle of a bucket; of whole numbers, the one below it.
fn middle(bucket: i32, whole: bool) -> f64 {
    match bucket {
        NAN => return f64::NAN,
        0 => return 0.0,
        _ => {}
    }
    let (magnitude, sign) = if bucket < 0 { (-(bucket + 1), -1.0) } else { (bucket, 1.0) };
    let edge = |magnitude: i32| f64::from_bits((magnitude as u64) << REST);
    let (low, high) = (edge(magnitude), edge(magnitude + 1));
    let width = if high.is_finite() { high - low } else { 0.0 };
    let middle = low + width / 2.0;
    sign * if whole { middle.floor() } else { middle }
}

/// The values of one group.
#[derive(Debug, Clone)]
struct Histogram {
    /// Weight by bucket, in their order.
    buckets: Vec<(i32, f64)>,
    /// The least and the greatest value, NaN aside: no estimate lies beyond them.
    least: f64,
    greatest: f64,
}

impl Histogram {
    fn new() -> Self {
        Self { buckets: Vec::new(), least: f64::INFINITY, greatest: f64::NEG_INFINITY }
    }

    fn add(&mut self, value: f64, weight: f64) {
        self.least = self.least.min(value);
        self.greatest = self.greatest.max(value);
        self.fill(bucket(value), weight);
    }

    /// More weight for a bucket. Where a sign has too many, the one nearest to zero falls into the next:
    /// what is left are the farthest of all that ever were, however they came.
    fn fill(&mut self, bucket: i32, weight: f64) {
        let place = self.buckets.partition_point(|(known, _)| *known < bucket);
        if let Some((_, known)) = self.buckets.get_mut(place).filter(|(known, _)| *known == bucket) {
            *known += weight;
            return;
        }
        self.buckets.insert(place, (bucket, weight));
        if self.buckets.len() <= BUCKETS {
            return;
        }
        let negative = self.buckets.partition_point(|(known, _)| *known < 0);
        let (nearest, next) = if negative > BUCKETS {
            (negative - 1, negative - 2)
        } else if self.buckets.len() - negative > BUCKETS {
            (negative, negative)
        } else {
            return;
        };
        let (_, weight) = self.buckets.remove(nearest);
        if let Some((_, known)) = self.buckets.get_mut(next) {
            *known += weight;
        }
    }

    /// The value at a place in the order of all (from 0).
    fn at(&self, place: f64, whole: bool) -> f64 {
        let mut before = 0.0;
        let found = self.buckets.iter().find(|(_, weight)| {
            before += weight;
            before > place
        });
        let value = found.or(self.buckets.last()).map_or(f64::NAN, |(bucket, _)| middle(*bucket, whole));
        if value.is_nan() { value } else { value.max(self.least).min(self.greatest) }
    }

    fn percentile(&self, share: Share, whole: bool) -> Option<f64> {
        let weight: f64 = self.buckets.iter().map(|(_, weight)| weight).sum();
        if weight <= 0.0 {
            return None;
        }
        let (low, high, part) = share.between(weight);
        Some(interpolated(self.at(low, whole), self.at(high, whole), part))
    }
}

/// The values of every group.
struct Histograms {
    function: ApproxPercentile,
    /// The values are whole numbers.
    whole: bool,
    groups: Vec<Histogram>,
}

impl GroupsAccumulator for Histograms {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        let Some((values, weights)) = values.split_first() else {
            return internal_err!("{}() takes a column", self.function.name());
        };
        let values = doubles(values)?;
        let weights = weights.first().map(doubles).transpose()?;
        let weights = weights.as_ref().map(|weights| weights.as_primitive::<Float64Type>());
        self.groups.resize_with(total_groups, Histogram::new);
        for (row, (group, value)) in groups.iter().zip(values.as_primitive::<Float64Type>()).enumerate() {
            let weight = weights.map_or(1.0, |w| if w.is_null(row) { 0.0 } else { w.value(row) });
            // A weight that is none (NULL, negative, infinite, NaN) is that of a value that is not there.
            if let (true, true, Some(value), Some(histogram)) =
                (taken(filter, row), weight > 0.0 && weight.is_finite(), value, self.groups.get_mut(*group))
            {
                histogram.add(value, weight);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let groups = emit.take_needed(&mut self.groups);
        let of = |histogram: &Histogram| histogram.percentile(self.function.share, self.whole);
        Ok(Arc::new(groups.iter().map(of).collect::<Float64Array>()))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = emit.take_needed(&mut self.groups);
        let offsets = OffsetBuffer::from_lengths(groups.iter().map(|group| group.buckets.len()));
        let all = || groups.iter().flat_map(|group| &group.buckets);
        let buckets: ArrayRef = Arc::new(Int32Array::from_iter_values(all().map(|(bucket, _)| *bucket)));
        let weights: ArrayRef = Arc::new(Float64Array::from_iter_values(all().map(|(_, weight)| *weight)));
        let entries: ArrayRef =
            Arc::new(StructArray::try_new(bucket_fields(), vec![buckets, weights], None)?);
        let list = ListArray::try_new(item(entries.data_type()), offsets, entries, None)?;
        let ends = |of: fn(&Histogram) -> f64| Float64Array::from_iter_values(groups.iter().map(of));
        Ok(vec![Arc::new(list), Arc::new(ends(|h| h.least)), Arc::new(ends(|h| h.greatest))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        let [lists, least, greatest] = states else {
            return internal_err!("{}() has three states", self.function.name());
        };
        let (lists, least, greatest) = (
            lists.as_list::<i32>(),
            least.as_primitive::<Float64Type>(),
            greatest.as_primitive::<Float64Type>(),
        );
        let [buckets, weights] = lists.values().as_struct().columns() else {
            return internal_err!("a bucket has a weight");
        };
        let (buckets, weights) = (buckets.as_primitive::<Int32Type>(), weights.as_primitive::<Float64Type>());
        self.groups.resize_with(total_groups, Histogram::new);
        for (row, group) in groups.iter().enumerate() {
            let Some(histogram) = self.groups.get_mut(*group) else { continue };
            histogram.least = histogram.least.min(least.value(row));
            histogram.greatest = histogram.greatest.max(greatest.value(row));
            let start = lists.value_offsets().get(row).map_or(0, |offset| *offset as usize);
            for entry in start..start + lists.value_length(row) as usize {
                histogram.fill(buckets.value(entry), weights.value(entry));
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let (function, whole) = (self.function.clone(), self.whole);
        each(Self { function, whole, groups: Vec::new() }, values, filter)
    }

    fn size(&self) -> usize {
        let own: usize = self.groups.iter().map(|group| group.buckets.capacity()).sum();
        own * size_of::<(i32, f64)>() + self.groups.capacity() * size_of::<Histogram>()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_their_middle_is_near() {
        let mut values = vec![0.0, f64::MIN_POSITIVE, 1e-300, 0.1, 1.0, 1.5, 2.0, 127.0, 1e9, f64::MAX];
        values.push(f64::INFINITY);
        values.extend(values.clone().into_iter().map(|v| -v));
        values.sort_by(f64::total_cmp);
        for pair in values.windows(2) {
            assert!(bucket(pair[0]) <= bucket(pair[1]), "{pair:?}");
        }
        for value in values {
            let near = middle(bucket(value), false);
            assert!(near == value || (near - value).abs() <= value.abs() / 128.0, "{value} becomes {near}");
        }
        assert!(middle(bucket(f64::NAN), false).is_nan());
        for whole in -127..128_i32 {
            assert_eq!(
                middle(bucket(f64::from(whole)), true),
                f64::from(whole),
                "small whole numbers are exact"
            );
        }
    }

    /// More buckets than are kept: which ones are left does not depend on the order.
    #[test]
    fn what_falls_together_is_nearest_to_zero() {
        let values: Vec<f64> =
            (0..9_000).map(|i| 1.01_f64.powi(i % 4_500) * if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let of = |values: &mut dyn Iterator<Item = &f64>| {
            let mut histogram = Histogram::new();
            values.for_each(|v| histogram.add(*v, 1.0));
            histogram
        };
        let (one, other) = (of(&mut values.iter()), of(&mut values.iter().rev()));
        assert_eq!(one.buckets, other.buckets);
        assert_eq!(one.buckets.len(), 2 * BUCKETS);
        assert_eq!(one.buckets.iter().map(|(_, w)| w).sum::<f64>(), 9_000.0);
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let near = one.percentile(Share::new(0.99).unwrap(), false).unwrap();
        assert!((near / sorted[8_909] - 1.0).abs() < 0.01, "{near}");
    }
}
