//! SUM that cannot wrap: integers are added in 128 bits, decimals in 256, and a total that does not
//! fit the result is NULL. DataFusion's wraps without a word.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::datatypes::{
    ArrowNativeTypeOp, DataType, Decimal128Type, Decimal256Type, Field, FieldRef, Int64Type, i256,
};
use datafusion::common::{Result, internal_err, not_impl_err, plan_err};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
    Volatility,
};

/// SUM(integer) is BIGINT, SUM(decimal(p, s)) is decimal(min(38, p + 10), s), SUM(float) is DOUBLE.
pub(super) fn sum() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(Sum { signature: Signature::user_defined(Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sum {
    signature: Signature,
}

/// What numbers are added as.
fn addend(data_type: &DataType) -> Result<DataType> {
    use DataType::{Decimal32, Decimal64, Decimal128, Dictionary, Float64, Int64, UInt64};
    Ok(match data_type {
        UInt64 => Decimal128(20, 0),
        integer if integer.is_integer() || integer.is_null() => Int64,
        float if float.is_floating() => Float64,
        Decimal32(p, s) | Decimal64(p, s) | Decimal128(p, s) => Decimal128(*p, *s),
        Dictionary(_, values) => addend(values)?,
        other => return plan_err!("SUM adds numbers, not {other}"),
    })
}

fn result(addend: &DataType) -> Result<DataType> {
    match addend {
        DataType::Decimal128(p, s) => Ok(DataType::Decimal128((p + 10).min(38), *s)),
        DataType::Int64 | DataType::Float64 => Ok(addend.clone()),
        other => plan_err!("SUM adds numbers, not {other}"),
    }
}

impl AggregateUDFImpl for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match arguments {
            [one] => Ok(vec![addend(one)?]),
            _ => plan_err!("SUM takes one argument"),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [one] => result(one),
            _ => plan_err!("SUM takes one argument"),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let state = match args.return_type() {
            DataType::Int64 => DataType::Decimal128(38, 0),
            DataType::Decimal128(_, scale) => DataType::Decimal256(76, *scale),
            other => other.clone(),
        };
        Ok(vec![Arc::new(Field::new(format!("{}[sum]", args.name), state, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("{}: SUM is computed over groups", args.name)
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        match args.return_field.data_type() {
            DataType::Int64 => Ok(Box::new(WideSum::<Long>::long())),
            DataType::Decimal128(p, s) => Ok(Box::new(WideSum::<Decimal>::decimal(*p, *s))),
            _ => sum_udaf().create_groups_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// Numbers with a wider type in which every sum of them is exact.
trait Widening: Send + Sync + 'static {
    type Number: ArrowPrimitiveType;
    type Total: ArrowPrimitiveType;
    fn widen(
        number: <Self::Number as ArrowPrimitiveType>::Native,
    ) -> <Self::Total as ArrowPrimitiveType>::Native;
    /// Back, or nothing where `result` cannot hold it.
    fn narrow(
        total: <Self::Total as ArrowPrimitiveType>::Native,
        result: &DataType,
    ) -> Option<<Self::Number as ArrowPrimitiveType>::Native>;
}

/// BIGINT in 128 bits: 2^64 of the greatest fit.
struct Long;

impl Widening for Long {
    type Number = Int64Type;
    type Total = Decimal128Type;

    fn widen(number: i64) -> i128 {
        i128::from(number)
    }

    fn narrow(total: i128, _: &DataType) -> Option<i64> {
        i64::try_from(total).ok()
    }
}

/// A decimal of up to 38 digits in 256 bits.
struct Decimal;

impl Widening for Decimal {
    type Number = Decimal128Type;
    type Total = Decimal256Type;

    fn widen(number: i128) -> i256 {
        i256::from_i128(number)
    }

    fn narrow(total: i256, result: &DataType) -> Option<i128> {
        let digits = if let DataType::Decimal128(precision, _) = result { *precision } else { 38 };
        let bound = 10_i128.checked_pow(u32::from(digits))?;
        total.to_i128().filter(|total| -bound < *total && *total < bound)
    }
}

/// A total per group, and whether it has seen a number: without one it is NULL.
struct WideSum<W: Widening> {
    totals: Vec<<W::Total as ArrowPrimitiveType>::Native>,
    seen: Vec<bool>,
    result: DataType,
    state: DataType,
    widening: PhantomData<W>,
}

impl WideSum<Long> {
    fn long() -> Self {
        Self::new(DataType::Int64, DataType::Decimal128(38, 0))
    }
}

impl WideSum<Decimal> {
    fn decimal(precision: u8, scale: i8) -> Self {
        Self::new(DataType::Decimal128(precision, scale), DataType::Decimal256(76, scale))
    }
}

impl<W: Widening> WideSum<W> {
    fn new(result: DataType, state: DataType) -> Self {
        Self { totals: Vec::new(), seen: Vec::new(), result, state, widening: PhantomData }
    }

    fn add<T: ArrowPrimitiveType>(
        &mut self,
        values: &PrimitiveArray<T>,
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
        widen: impl Fn(T::Native) -> <W::Total as ArrowPrimitiveType>::Native,
    ) {
        self.totals.resize(total_groups, Default::default());
        self.seen.resize(total_groups, false);
        for (row, (group, value)) in groups.iter().zip(values.iter()).enumerate() {
            let taken = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if let (true, Some(value), Some(total), Some(seen)) =
                (taken, value, self.totals.get_mut(*group), self.seen.get_mut(*group))
            {
                *total = total.add_wrapping(widen(value));
                *seen = true;
            }
        }
    }

    fn take(
        &mut self,
        emit: EmitTo,
    ) -> impl Iterator<Item = Option<<W::Total as ArrowPrimitiveType>::Native>> {
        let (totals, seen) = (emit.take_needed(&mut self.totals), emit.take_needed(&mut self.seen));
        totals.into_iter().zip(seen).map(|(total, seen)| seen.then_some(total))
    }
}

impl<W: Widening> GroupsAccumulator for WideSum<W> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        let [values] = values else { return internal_err!("SUM takes one argument") };
        self.add(values.as_primitive::<W::Number>(), groups, filter, total_groups, W::widen);
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let result = self.result.clone();
        let sums: PrimitiveArray<W::Number> =
            self.take(emit).map(|total| total.and_then(|total| W::narrow(total, &result))).collect();
        Ok(Arc::new(sums.with_data_type(self.result.clone())))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let totals: PrimitiveArray<W::Total> = self.take(emit).collect();
        Ok(vec![Arc::new(totals.with_data_type(self.state.clone()))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        let [totals] = states else { return internal_err!("SUM has one state") };
        self.add(totals.as_primitive::<W::Total>(), groups, None, total_groups, |total| total);
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |column| column.len());
        let mut each = Self::new(self.result.clone(), self.state.clone());
        each.update_batch(values, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.totals.capacity() * size_of::<<W::Total as ArrowPrimitiveType>::Native>() + self.seen.capacity()
    }
}
