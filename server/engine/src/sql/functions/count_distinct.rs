//! COUNT(DISTINCT x) for every type, vectorised over groups.
//!
//! Values are interned once for all groups in Arrow's row format, a group holds the numbers of its
//! values. All NaN are one value and −0.0 is 0.0, as in keys. The state is a list per group.

use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, ScalarValue, internal_err, not_impl_err, plan_err};
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, GroupsAccumulator, ReversedUDAF, Signature,
    Volatility,
};
use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::own::item;

/// The name of the function that `COUNT(DISTINCT x)` becomes. Its state is a set: the order of the values
/// in it says nothing.
pub(crate) const COUNT_DISTINCT: &str = "count_distinct";

static FUNCTION: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| {
    Arc::new(AggregateUDF::from(CountDistinct { signature: Signature::user_defined(Volatility::Immutable) }))
});

/// `COUNT(DISTINCT args) FILTER (WHERE filter)`.
pub(in crate::sql) fn count_distinct(args: Vec<Expr>, filter: Option<Box<Expr>>) -> Expr {
    Expr::AggregateFunction(AggregateFunction {
        func: Arc::clone(&FUNCTION),
        params: AggregateFunctionParams {
            args,
            distinct: false,
            filter,
            order_by: Vec::new(),
            null_treatment: None,
        },
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CountDistinct {
    signature: Signature,
}

/// The type of the values as they are compared and kept.
fn compared(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => compared(values),
        DataType::Null => DataType::Boolean,
        other => other.clone(),
    }
}

impl AggregateUDFImpl for CountDistinct {
    fn name(&self) -> &'static str {
        COUNT_DISTINCT
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [one] = arguments else { return plan_err!("COUNT(DISTINCT …) takes one argument") };
        let one = compared(one);
        if !RowConverter::supports_fields(&[SortField::new(one.clone())]) {
            return plan_err!("COUNT(DISTINCT …) cannot compare {one}");
        }
        Ok(vec![one])
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn is_nullable(&self) -> bool {
        false
    }

    fn default_value(&self, _: &DataType) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(Some(0)))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let [input] = args.input_fields else {
            return internal_err!("COUNT(DISTINCT …) takes one argument");
        };
        let list = DataType::List(item(input.data_type()));
        Ok(vec![Arc::new(Field::new(format!("{}[count distinct]", args.name), list, false))])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("{}: COUNT(DISTINCT …) is computed over groups", args.name)
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let [input] = args.expr_fields else {
            return internal_err!("COUNT(DISTINCT …) takes one argument");
        };
        Ok(Box::new(Sets::new(input.data_type().clone())?))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// The distinct values of every group.
pub(super) struct Sets {
    data_type: DataType,
    converter: RowConverter,
    values: Values,
    /// (group, value), each once, in the order of arrival: nothing depends on hashing.
    pairs: Vec<(u32, u32)>,
    index: HashTable<u32>,
    counts: Vec<i64>,
    hasher: FixedState,
}

/// Interned values in row format.
#[derive(Default)]
struct Values {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    index: HashTable<u32>,
}

impl Values {
    fn get(&self, value: u32) -> &[u8] {
        let value = value as usize;
        let start = value.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(value).and_then(|end| self.bytes.get(start..*end)).unwrap_or_default()
    }

    fn intern(&mut self, row: &[u8], hasher: &FixedState) -> u32 {
        let hash = hasher.hash_one(row);
        if let Some(known) = self.index.find(hash, |known| self.get(*known) == row) {
            return *known;
        }
        let value = self.ends.len() as u32;
        self.bytes.extend_from_slice(row);
        self.ends.push(self.bytes.len());
        let Self { bytes, ends, index } = self;
        index.insert_unique(hash, value, |other| {
            let other = *other as usize;
            let start = other.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
            hasher.hash_one(ends.get(other).and_then(|end| bytes.get(start..*end)).unwrap_or_default())
        });
        value
    }
}

impl Sets {
    pub(super) fn new(data_type: DataType) -> Result<Self> {
        Ok(Self {
            converter: RowConverter::new(vec![SortField::new(data_type.clone())])?,
            data_type,
            values: Values::default(),
            pairs: Vec::new(),
            index: HashTable::new(),
            counts: Vec::new(),
            hasher: FixedState::default(),
        })
    }

    /// Adds `values[row]` to `group(row)` for every row that has one.
    fn insert(&mut self, values: &ArrayRef, group: impl Fn(usize) -> Option<usize>) -> Result<()> {
        let values = canonical(values)?;
        let nulls = values.logical_nulls();
        let rows = self.converter.convert_columns(&[values])?;
        for (i, row) in rows.iter().enumerate() {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(i)) {
                continue;
            }
            let Some(group) = group(i) else { continue };
            let value = self.values.intern(row.data(), &self.hasher);
            self.pair(group as u32, value);
        }
        Ok(())
    }

    fn pair(&mut self, group: u32, value: u32) {
        let Self { pairs, index, hasher, .. } = self;
        let hash = hasher.hash_one((group, value));
        if index.find(hash, |known| pairs.get(*known as usize) == Some(&(group, value))).is_none() {
            let place = pairs.len() as u32;
            pairs.push((group, value));
            index.insert_unique(hash, place, |other| {
                pairs.get(*other as usize).map_or(0, |pair| hasher.hash_one(*pair))
            });
            if let Some(count) = self.counts.get_mut(group as usize) {
                *count += 1;
            }
        }
    }

    /// Takes the emitted groups' values, each group's in the order of their arrival.
    pub(super) fn lists(&mut self, emit: EmitTo) -> Result<ListArray> {
        let counts = emit.take_needed(&mut self.counts);
        let offsets = OffsetBuffer::<i32>::from_lengths(counts.iter().map(|count| *count as usize));
        // A counting sort by group: stable, so a group's values stay in the order of their arrival.
        let mut next: Vec<usize> = offsets.iter().map(|offset| *offset as usize).collect();
        let mut sorted = vec![0_u32; next.last().copied().unwrap_or(0)];
        for (group, value) in &self.pairs {
            if (*group as usize) < counts.len()
                && let Some(place) = next.get_mut(*group as usize)
                && let Some(slot) = sorted.get_mut(*place)
            {
                *slot = *value;
                *place += 1;
            }
        }
        // Each interned value is decoded once, however many groups hold it.
        let parser = self.converter.parser();
        let all = (0..self.values.ends.len() as u32).map(|value| parser.parse(self.values.get(value)));
        let decoded = self.converter.convert_rows(all)?;
        let [decoded] = decoded.as_slice() else { return internal_err!("one column in, one column out") };
        let values = arrow::compute::take(decoded, &UInt32Array::from(sorted), None)?;
        self.emitted(emit);
        Ok(ListArray::try_new(item(&self.data_type), offsets, values, None)?)
    }

    /// Forgets the emitted groups and renumbers the rest.
    fn emitted(&mut self, emit: EmitTo) {
        match emit {
            EmitTo::All => {
                self.pairs = Vec::new();
                self.index = HashTable::new();
                self.values = Values::default();
            }
            EmitTo::First(n) => {
                let kept = std::mem::take(&mut self.pairs);
                self.index.clear();
                let counts = std::mem::take(&mut self.counts);
                for (group, value) in kept {
                    if let Some(group) = group.checked_sub(n as u32) {
                        self.pair(group, value);
                    }
                }
                self.counts = counts; // pair() counted nothing: there were no counters
            }
        }
    }
}

impl GroupsAccumulator for Sets {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        let [values] = values else { return internal_err!("COUNT(DISTINCT …) takes one argument") };
        self.counts.resize(total_groups, 0);
        self.insert(values, |row| {
            let taken = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            groups.get(row).copied().filter(|_| taken)
        })
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let counts = emit.take_needed(&mut self.counts);
        self.emitted(emit);
        Ok(Arc::new(Int64Array::from(counts)))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(self.lists(emit)?)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        let [lists] = states else { return internal_err!("COUNT(DISTINCT …) has one state") };
        let lists = lists.as_list::<i32>();
        self.counts.resize(total_groups, 0);
        let (Some(first), Some(last)) = (lists.value_offsets().first(), lists.value_offsets().last()) else {
            return Ok(());
        };
        let mut owner = Vec::with_capacity((last - first) as usize);
        for (row, group) in groups.iter().enumerate() {
            owner.resize(owner.len() + lists.value_length(row) as usize, *group);
        }
        let values = lists.values().slice(*first as usize, (last - first) as usize);
        self.insert(&values, |row| owner.get(row).copied())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |column| column.len());
        let mut each = Self::new(self.data_type.clone())?;
        each.update_batch(values, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.values.bytes.capacity()
            + self.values.ends.capacity() * size_of::<usize>()
            + (self.values.index.capacity() + self.index.capacity()) * size_of::<u32>()
            + self.pairs.capacity() * size_of::<(u32, u32)>()
            + self.counts.capacity() * size_of::<i64>()
    }
}

/// One NaN and one zero; other types as they are.
pub(super) fn canonical(values: &ArrayRef) -> Result<ArrayRef> {
    Ok(match values.data_type() {
        DataType::Float32 => Arc::new(
            values
                .as_primitive::<Float32Type>()
                .unary::<_, Float32Type>(|v| if v.is_nan() { f32::NAN } else { v + 0.0 }),
        ),
        DataType::Float64 => Arc::new(
            values
                .as_primitive::<Float64Type>()
                .unary::<_, Float64Type>(|v| if v.is_nan() { f64::NAN } else { v + 0.0 }),
        ),
        _ => Arc::clone(values),
    })
}
