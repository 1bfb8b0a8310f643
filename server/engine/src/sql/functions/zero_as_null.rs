//! `zero_as_null(x)`: the divisor of every division, so that `x / 0` is NULL.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, downcast_primitive};
use arrow::compute::nullif;
use arrow::datatypes::{ArrowNativeTypeOp, DataType};
use datafusion::common::{Result, exec_err, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Its name, which `explain` leaves out.
pub(in crate::sql) const ZERO_AS_NULL: &str = "zero_as_null";

static FUNCTION: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(ZeroAsNull::new())));

/// `divisor`, NULL where it is zero (negative zero too).
pub(in crate::sql) fn zero_as_null(divisor: Expr) -> Expr {
    FUNCTION.call(vec![divisor])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ZeroAsNull {
    signature: Signature,
}

impl ZeroAsNull {
    fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ZeroAsNull {
    fn name(&self) -> &'static str {
        ZERO_AS_NULL
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [one] => Ok(one.clone()),
            _ => internal_err!("zero_as_null takes one argument"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(array)] => Ok(ColumnarValue::Array(apply(array)?)),
            [ColumnarValue::Scalar(scalar)] => {
                let array = apply(&scalar.to_array()?)?;
                Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&array, 0)?))
            }
            _ => internal_err!("zero_as_null takes one argument"),
        }
    }
}

fn apply(array: &ArrayRef) -> Result<ArrayRef> {
    macro_rules! zeros_of {
        ($t:ty) => {
            zeros::<$t>(array)
        };
    }
    let zeros = downcast_primitive! {
        array.data_type() => (zeros_of),
        DataType::Null => return Ok(Arc::clone(array)),
        other => return exec_err!("{other} cannot divide")
    };
    Ok(nullif(array, &zeros)?)
}

/// Compares as IEEE 754 does, so that −0.0 is zero; Arrow's kernels order it below 0.0.
fn zeros<T: ArrowPrimitiveType>(array: &dyn Array) -> BooleanArray {
    BooleanArray::from_unary(array.as_primitive::<T>(), ArrowNativeTypeOp::is_zero)
}
