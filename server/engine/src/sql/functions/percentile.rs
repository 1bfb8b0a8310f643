//! percentile_cont(x, p) and median(x): exact, so every value is kept.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::own::{Aggregate, Bound, each, item, taken};

/// A number from 0 to 1 that is part of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Share(u64);

impl Share {
    pub(super) const HALF: Self = Self(0.5_f64.to_bits());

    /// The number, if it is a share.
    pub(super) fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then(|| Self((share + 0.0).to_bits()))
    }

    pub(crate) fn get(self) -> f64 {
        f64::from_bits(self.0)
    }

    /// Between which two of `n` values in their order (from 0) the percentile lies, and how far between them.
    pub(super) fn between(self, n: f64) -> (f64, f64, f64) {
        let place = (self.get() * (n - 1.0)).max(0.0);
        let low = place.floor();
        (low, (low + 1.0).min((n - 1.0).max(low)), place - low)
    }
}

/// Between `low` and `high`, which is not less.
pub(super) fn interpolated(low: f64, high: f64, part: f64) -> f64 {
    // Infinities have no distance from themselves; NaN, the greatest, is none less.
    if part > 0.0 && (low < high || high.is_nan()) { low + (high - low) * part } else { low }
}

/// The value below which a share of the values lies, between two of them where it does not hit one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Percentile {
    pub(crate) share: Share,
}

impl Aggregate for Percentile {
    fn name(&self) -> &'static str {
        "percentile_cont"
    }

    fn coerce(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arguments.to_vec())
    }

    fn result(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state(&self, _: &[DataType]) -> Result<Vec<DataType>> {
        Ok(vec![DataType::List(item(&DataType::Float64))])
    }

    fn groups(&self, _: &[DataType]) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Values { share: self.share, groups: Vec::new() }))
    }

    fn bound(&self) -> Bound {
        Bound::Events("approx_percentile_cont(x, p)")
    }
}

/// A column of numbers as DOUBLE.
pub(super) fn doubles(values: &ArrayRef) -> Result<ArrayRef> {
    match values.data_type() {
        DataType::Float64 => Ok(Arc::clone(values)),
        other if other.is_numeric() => Ok(arrow::compute::cast(values, &DataType::Float64)?),
        other => plan_err!("a percentile is one of numbers, not of {other}"),
    }
}

/// The values of every group.
struct Values {
    share: Share,
    groups: Vec<Vec<f64>>,
}

impl Values {
    /// Takes the emitted groups, each in order; all NaN are one value, and the greatest.
    fn sorted(&mut self, emit: EmitTo) -> Vec<Vec<f64>> {
        let mut groups = emit.take_needed(&mut self.groups);
        for values in &mut groups {
            values.sort_unstable_by(f64::total_cmp);
        }
        groups
    }

    fn add(&mut self, group: usize, value: f64) {
        if let Some(values) = self.groups.get_mut(group) {
            values.push(if value.is_nan() { f64::NAN } else { value });
        }
    }
}

impl GroupsAccumulator for Values {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        let [values] = values else { return internal_err!("percentile_cont() takes one column") };
        self.groups.resize_with(total_groups, Vec::new);
        let values = doubles(values)?;
        for (row, (group, value)) in groups.iter().zip(values.as_primitive::<Float64Type>()).enumerate() {
            if let (true, Some(value)) = (taken(filter, row), value) {
                self.add(*group, value);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let share = self.share;
        let of = |values: Vec<f64>| {
            let (low, high, part) = share.between(values.len() as f64);
            let at = |place: f64| values.get(place as usize).copied();
            Some(interpolated(at(low)?, at(high)?, part))
        };
        Ok(Arc::new(self.sorted(emit).into_iter().map(of).collect::<Float64Array>()))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = self.sorted(emit);
        let offsets = OffsetBuffer::from_lengths(groups.iter().map(Vec::len));
        let values: ArrayRef = Arc::new(Float64Array::from(groups.concat()));
        Ok(vec![Arc::new(ListArray::try_new(item(&DataType::Float64), offsets, values, None)?)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        let [states] = states else { return internal_err!("percentile_cont() has one state") };
        self.groups.resize_with(total_groups, Vec::new);
        for (group, values) in groups.iter().zip(states.as_list::<i32>().iter()) {
            for value in values.iter().flat_map(|values| values.as_primitive::<Float64Type>().values()) {
                self.add(*group, *value);
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        each(Self { share: self.share, groups: Vec::new() }, values, filter)
    }

    fn size(&self) -> usize {
        let own: usize = self.groups.iter().map(Vec::capacity).sum();
        own * size_of::<f64>() + self.groups.capacity() * size_of::<Vec<f64>>()
    }
}
