//! AVG: of integers and floats DataFusion's, which is DOUBLE; of decimals one that cannot overflow on the way.
//!
//! DataFusion adds decimals in 128 bits and fails at the end of a window where that was too narrow.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Decimal256Array, Int64Array};
use arrow::datatypes::{
    ArrowNativeTypeOp, DataType, Decimal128Type, Decimal256Type, Field, FieldRef, Int64Type, i256,
};
use datafusion::common::{Result, internal_err, not_impl_err, plan_err};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
    Volatility,
};

/// Digits that a mean of decimals has more than the decimals.
const MORE_DIGITS: u8 = 4;

/// AVG(decimal(p, s)) is decimal(min(38, p + 4), min(38, s + 4)), rounded half away from zero; NULL where it
/// does not fit. All else is DOUBLE.
pub(super) fn average() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(Average {
        signature: Signature::user_defined(Volatility::Immutable),
        aliases: vec!["mean".to_owned()],
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Average {
    signature: Signature,
    aliases: Vec<String>,
}

fn number(data_type: &DataType) -> Result<DataType> {
    use DataType::{Decimal32, Decimal64, Decimal128, Dictionary, Float64};
    Ok(match data_type {
        Decimal32(p, s) | Decimal64(p, s) | Decimal128(p, s) => Decimal128(*p, *s),
        Dictionary(_, values) => number(values)?,
        other if other.is_numeric() || other.is_null() => Float64,
        other => return plan_err!("AVG takes numbers, not {other}"),
    })
}

impl AggregateUDFImpl for Average {
    fn name(&self) -> &'static str {
        "avg"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match arguments {
            [one] => Ok(vec![number(one)?]),
            _ => plan_err!("AVG takes one argument"),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [DataType::Decimal128(p, s)] => {
                Ok(DataType::Decimal128((p + MORE_DIGITS).min(38), (s + MORE_DIGITS as i8).min(38)))
            }
            [_] => Ok(DataType::Float64),
            _ => plan_err!("AVG takes one argument"),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let [input] = args.input_fields else { return internal_err!("AVG takes one argument") };
        let (count, total) = match input.data_type() {
            DataType::Decimal128(_, scale) => (DataType::Int64, DataType::Decimal256(76, *scale)),
            _ => (DataType::UInt64, DataType::Float64),
        };
        let field =
            |part: &str, data_type| Arc::new(Field::new(format!("{}[{part}]", args.name), data_type, true));
        Ok(vec![field("count", count), field("sum", total)])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("{}: AVG is computed over groups", args.name)
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        match (args.expr_fields, args.return_field.data_type()) {
            ([input], DataType::Decimal128(precision, scale)) => match input.data_type() {
                DataType::Decimal128(_, input) => Ok(Box::new(Means::new(*input, *precision, *scale))),
                other => internal_err!("AVG of {other} is no decimal"),
            },
            _ => avg_udaf().create_groups_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// Totals and counts of decimals per group.
struct Means {
    totals: Vec<i256>,
    counts: Vec<i64>,
    /// Scale of the totals.
    scale: i8,
    /// Type of the means.
    result: (u8, i8),
}

impl Means {
    fn new(scale: i8, precision: u8, result_scale: i8) -> Self {
        Self { totals: Vec::new(), counts: Vec::new(), scale, result: (precision, result_scale) }
    }

    fn add(&mut self, group: usize, total: i256, count: i64) {
        if let (Some(sum), Some(n)) = (self.totals.get_mut(group), self.counts.get_mut(group)) {
            *sum = sum.add_wrapping(total);
            *n += count;
        }
    }

    fn grow(&mut self, groups: usize) {
        self.totals.resize(groups, i256::ZERO);
        self.counts.resize(groups, 0);
    }

    fn mean(&self, total: i256, count: i64) -> Option<i128> {
        let more = u32::try_from(self.result.1 - self.scale).ok()?;
        let total = total.checked_mul(i256::from_i128(10_i128.checked_pow(more)?))?;
        let count = i256::from_i128(i128::from(count));
        if count == i256::ZERO {
            return None;
        }
        let (quotient, rest) = (total.checked_div(count)?, total.checked_rem(count)?);
        let half_up = rest.wrapping_abs().checked_mul(i256::from_i128(2))? >= count;
        let step = i256::from_i128(if !half_up {
            0
        } else if total < i256::ZERO {
            -1
        } else {
            1
        });
        let mean = quotient.checked_add(step)?.to_i128()?;
        let bound = 10_i128.checked_pow(u32::from(self.result.0))?;
        (-bound < mean && mean < bound).then_some(mean)
    }
}

impl GroupsAccumulator for Means {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        let [values] = values else { return internal_err!("AVG takes one argument") };
        self.grow(total_groups);
        for (row, (group, value)) in
            groups.iter().zip(values.as_primitive::<Decimal128Type>().iter()).enumerate()
        {
            let taken = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if let (true, Some(value)) = (taken, value) {
                self.add(*group, i256::from_i128(value), 1);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (totals, counts) = (emit.take_needed(&mut self.totals), emit.take_needed(&mut self.counts));
        let means: Decimal128Array =
            totals.iter().zip(&counts).map(|(total, n)| self.mean(*total, *n)).collect();
        Ok(Arc::new(means.with_precision_and_scale(self.result.0, self.result.1)?))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let (totals, counts) = (emit.take_needed(&mut self.totals), emit.take_needed(&mut self.counts));
        let totals = Decimal256Array::from(totals).with_precision_and_scale(76, self.scale)?;
        Ok(vec![Arc::new(Int64Array::from(counts)), Arc::new(totals)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        let [counts, totals] = states else { return internal_err!("AVG has two states") };
        self.grow(total_groups);
        let (counts, totals) = (counts.as_primitive::<Int64Type>(), totals.as_primitive::<Decimal256Type>());
        for (group, (count, total)) in groups.iter().zip(counts.iter().zip(totals.iter())) {
            if let (Some(count), Some(total)) = (count, total) {
                self.add(*group, total, count);
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |column| column.len());
        let mut each = Self::new(self.scale, self.result.0, self.result.1);
        each.update_batch(values, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.totals.capacity() * size_of::<i256>() + self.counts.capacity() * size_of::<i64>()
    }
}
