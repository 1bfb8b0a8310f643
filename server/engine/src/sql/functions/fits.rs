//! `fits(x)`: a decimal of 38 digits, or a failure. Arrow computes in 128 bits, which hold a little more;
//! what is wider than its type says is unreadable in Parquet.

use std::sync::{Arc, LazyLock};

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Decimal128Type, Field, Schema};
use datafusion::common::{Result, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

/// Its name, which `explain` leaves out.
pub(in crate::sql) const FITS: &str = "fits";

static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    Arc::new(ScalarUDF::new_from_impl(Fits { signature: Signature::any(1, Volatility::Immutable) }))
});

/// `expr`, failing where it has more digits than its type; types that arithmetic cannot leave stay as they are.
pub(in crate::sql) fn fits(expr: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let DataType::Decimal128(38, scale) = expr.data_type(schema)? else { return Ok(expr) };
    let field = Arc::new(Field::new(FITS, DataType::Decimal128(38, scale), true));
    let config = Arc::new(ConfigOptions::new());
    Ok(Arc::new(ScalarFunctionExpr::new(FITS, Arc::clone(&FUNCTION), vec![expr], field, config)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Fits {
    signature: Signature,
}

impl ScalarUDFImpl for Fits {
    fn name(&self) -> &'static str {
        FITS
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [one] => Ok(one.clone()),
            _ => internal_err!("fits takes one argument"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = args.args.as_slice() else { return internal_err!("fits takes one argument") };
        let array = value.to_array(args.number_rows)?;
        array.as_primitive::<Decimal128Type>().validate_decimal_precision(38)?;
        Ok(value.clone())
    }
}
