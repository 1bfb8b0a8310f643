//! MIN and MAX: DataFusion's, but for floats. Its MAX starts from the least finite number, so that a saved
//! −∞ comes back as another value than was saved, and what it makes of NaN depends on the order of the events.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::datatypes::{ArrowNativeTypeOp, DataType, FieldRef, Float32Type, Float64Type};
use datafusion::common::{Result, internal_err};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
    Volatility,
};

/// MIN. Of floats: −0.0 is less than 0.0, and NaN is the greatest of all.
pub(super) fn min() -> Arc<AggregateUDF> {
    extreme(false)
}

/// MAX, in the same order.
pub(super) fn max() -> Arc<AggregateUDF> {
    extreme(true)
}

fn extreme(greatest: bool) -> Arc<AggregateUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(AggregateUDF::from(Extreme { greatest, signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme {
    greatest: bool,
    signature: Signature,
}

impl Extreme {
    fn plain(&self) -> Arc<AggregateUDF> {
        if self.greatest { max_udaf() } else { min_udaf() }
    }
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &'static str {
        if self.greatest { "max" } else { "min" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.plain().coerce_types(arguments)
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.plain().return_type(arguments)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.plain().state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.plain().accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.plain().groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        match args.return_field.data_type() {
            DataType::Float32 => Ok(Box::new(Extremes::<Float32Type>::new(self.greatest))),
            DataType::Float64 => Ok(Box::new(Extremes::<Float64Type>::new(self.greatest))),
            _ => self.plain().create_groups_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

trait Float: ArrowPrimitiveType + Send + Sync {
    /// The value, or the one NaN that stands for all.
    fn one_nan(value: Self::Native) -> Self::Native;
}

impl Float for Float32Type {
    fn one_nan(value: f32) -> f32 {
        if value.is_nan() { f32::NAN } else { value }
    }
}

impl Float for Float64Type {
    fn one_nan(value: f64) -> f64 {
        if value.is_nan() { f64::NAN } else { value }
    }
}

/// The least or greatest float of every group; none before the first.
struct Extremes<T: Float> {
    greatest: bool,
    values: Vec<Option<T::Native>>,
    float: PhantomData<T>,
}

impl<T: Float> Extremes<T> {
    fn new(greatest: bool) -> Self {
        Self { greatest, values: Vec::new(), float: PhantomData }
    }
}

impl<T: Float> GroupsAccumulator for Extremes<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        let [values] = values else { return internal_err!("MIN and MAX take one argument") };
        self.values.resize(total_groups, None);
        let wanted = if self.greatest { std::cmp::Ordering::Greater } else { std::cmp::Ordering::Less };
        for (row, (group, value)) in groups.iter().zip(values.as_primitive::<T>().iter()).enumerate() {
            let taken = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if let (true, Some(value), Some(known)) = (taken, value, self.values.get_mut(*group)) {
                let value = T::one_nan(value);
                if known.is_none_or(|known| value.compare(known) == wanted) {
                    *known = Some(value);
                }
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let values: PrimitiveArray<T> = emit.take_needed(&mut self.values).into_iter().collect();
        Ok(Arc::new(values))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.update_batch(states, groups, None, total_groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |column| column.len());
        let mut each = Self::new(self.greatest);
        each.update_batch(values, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.values.capacity() * size_of::<Option<T::Native>>()
    }
}
