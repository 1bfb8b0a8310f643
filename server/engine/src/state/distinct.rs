//! `COUNT(DISTINCT x)`: one hash table over (group, value) for all groups, instead of one per group.
//!
//! DataFusion's own falls back to an object with a hash set for each group where x is a string
//! (2,850 ns per event and 8.5 kB per group when it was measured), and saves its sets in the order of a hash table.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, Float64Array, Int64Array, ListArray, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type, Schema, UInt32Type};
use datafusion::common::{exec_err, not_impl_err};
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::codec::Column;

/// The number of distinct values of each group, with the values.
pub(super) struct CountDistinct {
    value: DataType,
    pairs: Box<dyn GroupValues>,
    counts: Vec<i64>,
    ids: Vec<usize>,
}

impl CountDistinct {
    /// The type of x where the aggregate is `COUNT(DISTINCT x)` over one expression.
    pub(super) fn value_type(aggregate: &AggregateFunctionExpr, state: &[FieldRef]) -> Option<DataType> {
        let [field] = state else { return None };
        let DataType::List(element) = field.data_type() else { return None };
        (aggregate.fun().name() == "count"
            && aggregate.is_distinct()
            && aggregate.expressions().len() == 1
            && !element.data_type().is_nested())
        .then(|| match element.data_type() {
            DataType::Dictionary(_, value) => value.as_ref().clone(),
            plain => plain.clone(),
        })
    }

    /// The saved form: the set of values.
    pub(super) fn state(value: &DataType) -> Column {
        Column { data_type: DataType::List(element(value)), set: true }
    }

    pub(super) fn new(value: &DataType) -> Result<Self> {
        let schema = Schema::new(vec![
            Field::new("group", DataType::UInt32, false),
            Field::new("value", value.clone(), false),
        ]);
        Ok(Self {
            value: value.clone(),
            pairs: new_group_values(Arc::new(schema), &GroupOrdering::None)?,
            counts: Vec::new(),
            ids: Vec::new(),
        })
    }

    /// Adds (group, value) pairs; values are not null.
    fn insert(&mut self, groups: UInt32Array, values: &ArrayRef) -> Result<()> {
        let values = if *values.data_type() == self.value {
            one_zero_one_nan(values)
        } else {
            one_zero_one_nan(&arrow::compute::cast(values, &self.value)?)
        };
        let mut next = self.pairs.len();
        let groups: ArrayRef = Arc::new(groups);
        self.pairs.intern(&[groups.clone(), values], &mut self.ids)?;
        for (id, group) in self.ids.iter().zip(groups.as_primitive::<UInt32Type>().values()) {
            if *id == next {
                next += 1;
                if let Some(count) = self.counts.get_mut(*group as usize) {
                    *count += 1;
                }
            }
        }
        Ok(())
    }

    fn grow(&mut self, total: usize) {
        if self.counts.len() < total {
            self.counts.resize(total, 0);
        }
    }

    fn take_counts(&mut self) -> Vec<i64> {
        std::mem::take(&mut self.counts)
    }
}

impl GroupsAccumulator for CountDistinct {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        let [values] = values else { return exec_err!("COUNT(DISTINCT) takes one argument") };
        let groups = UInt32Array::from_iter_values(group_indices.iter().map(|g| *g as u32));
        let nulls = values.logical_nulls().filter(|n| n.null_count() > 0);
        let present = nulls.map(|n| BooleanArray::new(n.into_inner(), None));
        let keep = match (present, opt_filter) {
            (None, None) => return self.insert(groups, values),
            (Some(p), None) => p,
            (None, Some(f)) => f.clone(),
            (Some(p), Some(f)) => arrow::compute::and(&p, f)?,
        };
        let groups = arrow::compute::filter(&groups, &keep)?.as_primitive::<UInt32Type>().clone();
        self.insert(groups, &arrow::compute::filter(values, &keep)?)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let EmitTo::All = emit_to else { return not_impl_err!("groups are emitted all at once") };
        self.pairs.clear_shrink(0);
        Ok(Arc::new(Int64Array::from(self.take_counts())))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let EmitTo::All = emit_to else { return not_impl_err!("groups are emitted all at once") };
        let pairs = self.pairs.emit(EmitTo::All)?;
        self.pairs.clear_shrink(0); // a table of several columns must not be used after emit without it
        let [groups, values] = pairs.as_slice() else { return exec_err!("a pair has two columns") };
        // Counting sort by group: where each group's next value goes.
        let counts = self.take_counts();
        let offsets = OffsetBuffer::<i32>::from_lengths(counts.iter().map(|c| *c as usize));
        let mut next: Vec<i32> = offsets.to_vec();
        let mut order = vec![0_u32; values.len()];
        for (pair, group) in groups.as_primitive::<UInt32Type>().values().iter().enumerate() {
            if let Some(slot) = next.get_mut(*group as usize) {
                if let Some(place) = order.get_mut(*slot as usize) {
                    *place = pair as u32;
                }
                *slot += 1;
            }
        }
        let sorted = arrow::compute::take(values, &UInt32Array::from(order), None)?;
        Ok(vec![Arc::new(ListArray::try_new(element(&self.value), offsets, sorted, None)?)])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        let [sets] = values else { return exec_err!("COUNT(DISTINCT) has one state column") };
        let sets = sets.as_list::<i32>();
        let mut groups = Vec::with_capacity(sets.values().len());
        for (row, group) in group_indices.iter().enumerate() {
            let len = if sets.is_null(row) { 0 } else { sets.value_length(row) };
            groups.extend(std::iter::repeat_n(*group as u32, usize::try_from(len).unwrap_or(0)));
        }
        // The codec's lists lie one after the other, nulls without elements: what is between the first
        // offset and the last is what the lengths add up to.
        let start = sets.value_offsets().first().map_or(0, |o| *o as usize);
        let elements = sets.values().slice(start, groups.len());
        self.insert(UInt32Array::from(groups), &elements)
    }

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        not_impl_err!("COUNT(DISTINCT) has no state per record")
    }

    fn size(&self) -> usize {
        self.pairs.size() + self.counts.len() * size_of::<i64>()
    }
}

fn element(value: &DataType) -> FieldRef {
    Arc::new(Field::new_list_field(value.clone(), true))
}

/// −0.0 is 0.0, and every NaN is one NaN: as in keys.
fn one_zero_one_nan(values: &ArrayRef) -> ArrayRef {
    match values.data_type() {
        DataType::Float64 => {
            let plain: Float64Array =
                values.as_primitive::<Float64Type>().unary(|v| if v.is_nan() { f64::NAN } else { v + 0.0 });
            Arc::new(plain)
        }
        DataType::Float32 => {
            let plain: Float32Array =
                values.as_primitive::<Float32Type>().unary(|v| if v.is_nan() { f32::NAN } else { v + 0.0 });
            Arc::new(plain)
        }
        _ => values.clone(),
    }
}
