//! Labels as they come from other programs: keys brought to the group's types, times to microseconds.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow::error::ArrowError;

const DAY: i64 = 86_400_000_000;

/// What equal values of two types look like: only within a family can a label's key equal a group's.
#[derive(PartialEq, Eq)]
enum Family {
    Boolean,
    Integer,
    Text,
    Bytes,
    Date,
    Instant,
    Decimal,
}

fn family(data_type: &DataType) -> Option<Family> {
    Some(match data_type {
        DataType::Boolean => Family::Boolean,
        t if t.is_integer() => Family::Integer,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Family::Text,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            Family::Bytes
        }
        DataType::Date32 | DataType::Date64 => Family::Date,
        DataType::Timestamp(_, _) => Family::Instant,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) => Family::Decimal,
        DataType::Dictionary(_, value) => return family(value),
        _ => return None,
    })
}

/// A label's key column in the type of the group's key; `None` if the types have nothing in common.
/// A value that the key's type cannot hold becomes null: no such key exists.
pub fn key_column(column: &ArrayRef, wanted: &DataType) -> Result<Option<ArrayRef>, ArrowError> {
    if column.data_type() == wanted {
        return Ok(Some(Arc::clone(column)));
    }
    if *column.data_type() == DataType::Null {
        return Ok(Some(arrow::array::new_null_array(wanted, column.len())));
    }
    let (ours, theirs) = (family(wanted), family(column.data_type()));
    if ours.is_none() || ours != theirs {
        return Ok(None);
    }
    if ours == Some(Family::Instant) {
        let Some(micros) = micros(column)? else { return Ok(None) };
        return cast(&micros, wanted).map(Some);
    }
    cast_with_options(column, wanted, &CastOptions { safe: true, ..CastOptions::default() }).map(Some)
}

/// A time column as microseconds; finer units are floored, as everywhere; zoneless times are UTC.
/// Text is read as RFC 3339. `None`: no time.
pub fn micros(column: &ArrayRef) -> Result<Option<Int64Array>, ArrowError> {
    let micros = match column.data_type() {
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => {
                column.as_primitive::<TimestampSecondType>().unary(|t| t.saturating_mul(1_000_000))
            }
            TimeUnit::Millisecond => {
                column.as_primitive::<TimestampMillisecondType>().unary(|t| t.saturating_mul(1_000))
            }
            TimeUnit::Microsecond => column.as_primitive::<TimestampMicrosecondType>().unary(|t| t),
            TimeUnit::Nanosecond => {
                column.as_primitive::<TimestampNanosecondType>().unary(|t| t.div_euclid(1_000))
            }
        },
        DataType::Date32 => column.as_primitive::<Date32Type>().unary(|d| i64::from(d).saturating_mul(DAY)),
        DataType::Date64 => column.as_primitive::<Date64Type>().unary(|t| t.saturating_mul(1_000)),
        DataType::Null => Int64Array::new_null(column.len()),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(column, &instant, &options)?
                .as_primitive::<TimestampMicrosecondType>()
                .unary(|t| t)
        }
        _ => return Ok(None),
    };
    Ok(Some(micros))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{
        DictionaryArray, Float64Array, Int32Array, LargeStringArray, StringArray, TimestampNanosecondArray,
        UInt64Array,
    };
    use arrow::datatypes::Int8Type;

    use super::*;

    #[test]
    fn keys_meet_within_their_family_and_nowhere_else() {
        let key = |column: ArrayRef, wanted| key_column(&column, &wanted).unwrap();
        let ints =
            key(Arc::new(UInt64Array::from(vec![Some(7), Some(u64::MAX), None])), DataType::Int32).unwrap();
        assert_eq!(ints.as_ref(), &Int32Array::from(vec![Some(7), None, None]));
        let text = key(Arc::new(LargeStringArray::from(vec!["a"])), DataType::Utf8).unwrap();
        assert_eq!(text.as_ref(), &StringArray::from(vec!["a"]));
        let category: DictionaryArray<Int8Type> = vec!["b", "a", "b"].into_iter().collect();
        let text = key(Arc::new(category), DataType::Utf8).unwrap();
        assert_eq!(text.as_ref(), &StringArray::from(vec!["b", "a", "b"]));
        assert!(key(Arc::new(StringArray::from(vec!["7"])), DataType::Int64).is_none(), "'7' is not 7");
        assert!(
            key(Arc::new(Float64Array::from(vec![7.5])), DataType::Int64).is_none(),
            "7.5 would become 7"
        );
    }

    #[test]
    fn times_are_floored_before_1970_too() {
        let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![Some(-1), Some(1_999), None]));
        assert_eq!(micros(&nanos).unwrap().unwrap(), Int64Array::from(vec![Some(-1), Some(1), None]));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["1970-01-01T01:00:00.000001+01:00"]));
        assert_eq!(micros(&text).unwrap().unwrap(), Int64Array::from(vec![1]));
        let bad: ArrayRef = Arc::new(StringArray::from(vec!["yesterday"]));
        assert!(micros(&bad).is_err());
        assert!(
            micros(&(Arc::new(Int64Array::from(vec![1])) as ArrayRef)).unwrap().is_none(),
            "of which unit?"
        );
    }
}
