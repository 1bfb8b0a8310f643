//! Rows as CSV (RFC 4180): a header line, commas, `\n`; texts are quoted where they must be.
//!
//! Null is nothing between two commas, an empty text `""`. Instants are RFC 3339 with `Z`, those without a
//! zone without it, dates ISO, booleans `true` and `false`, floats their shortest round trip (`NaN`, `inf`).

use std::io::Write;

use arrow::array::{Array, AsArray, BooleanArray, PrimitiveArray, RecordBatch, StringArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DecimalType, Float32Type, Float64Type, Int32Type, Int64Type,
    TimeUnit, TimestampMicrosecondType,
};
use millpond_engine::time::Micros;

use crate::sinks::Error;

enum Column<'a> {
    Boolean(&'a BooleanArray),
    Int(&'a PrimitiveArray<Int32Type>),
    Long(&'a PrimitiveArray<Int64Type>),
    Float(&'a PrimitiveArray<Float32Type>),
    Double(&'a PrimitiveArray<Float64Type>),
    Decimal(&'a PrimitiveArray<Decimal128Type>, u8, i8),
    Date(&'a PrimitiveArray<Date32Type>),
    Instant(&'a PrimitiveArray<TimestampMicrosecondType>),
    Local(&'a PrimitiveArray<TimestampMicrosecondType>),
    Text(&'a StringArray),
}

/// The rows with their header.
pub fn encode(rows: &RecordBatch) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(64 * (rows.num_rows() + 1));
    let schema = rows.schema_ref();
    for (i, field) in schema.fields().iter().enumerate() {
        comma(i, &mut out);
        quoted(field.name(), &mut out);
    }
    out.push(b'\n');
    let columns = rows.columns().iter().zip(schema.fields()).map(|(array, field)| {
        let refused =
            || Error::Rows(format!("column {}: CSV has no text for {}", field.name(), field.data_type()));
        Ok((array.as_ref(), Column::of(array.as_ref()).ok_or_else(refused)?))
    });
    let columns = columns.collect::<Result<Vec<_>, Error>>()?;
    for row in 0..rows.num_rows() {
        for (i, (array, column)) in columns.iter().enumerate() {
            comma(i, &mut out);
            if array.is_valid(row) {
                column.append(row, &mut out)?;
            }
        }
        out.push(b'\n');
    }
    Ok(out)
}

fn comma(column: usize, out: &mut Vec<u8>) {
    if column > 0 {
        out.push(b',');
    }
}

impl<'a> Column<'a> {
    fn of(array: &'a dyn Array) -> Option<Self> {
        Some(match array.data_type() {
            DataType::Boolean => Self::Boolean(array.as_boolean_opt()?),
            DataType::Int32 => Self::Int(array.as_primitive_opt()?),
            DataType::Int64 => Self::Long(array.as_primitive_opt()?),
            DataType::Float32 => Self::Float(array.as_primitive_opt()?),
            DataType::Float64 => Self::Double(array.as_primitive_opt()?),
            DataType::Decimal128(precision, scale) => {
                Self::Decimal(array.as_primitive_opt()?, *precision, *scale)
            }
            DataType::Date32 => Self::Date(array.as_primitive_opt()?),
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Self::Instant(array.as_primitive_opt()?),
            DataType::Timestamp(TimeUnit::Microsecond, None) => Self::Local(array.as_primitive_opt()?),
            DataType::Utf8 => Self::Text(array.as_string_opt()?),
            _ => return None,
        })
    }

    fn append(&self, row: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        let written = match self {
            Self::Boolean(values) => write!(out, "{}", values.value(row)),
            Self::Int(values) => write!(out, "{}", values.value(row)),
            Self::Long(values) => write!(out, "{}", values.value(row)),
            Self::Float(values) => write!(out, "{:?}", values.value(row)),
            Self::Double(values) => write!(out, "{:?}", values.value(row)),
            Self::Decimal(values, precision, scale) => {
                let text = Decimal128Type::format_decimal(values.value(row), *precision, *scale);
                out.write_all(text.as_bytes())
            }
            Self::Date(values) => match values.value_as_date(row) {
                Some(date) => write!(out, "{date}"),
                None => write!(out, "{}", values.value(row)),
            },
            Self::Instant(values) => write!(out, "{}", Micros(values.value(row))),
            Self::Local(values) => match values.value_as_datetime(row) {
                Some(time) => write!(out, "{}", time.format("%Y-%m-%dT%H:%M:%S%.f")),
                None => write!(out, "{}", values.value(row)),
            },
            Self::Text(values) => {
                quoted(values.value(row), out);
                Ok(())
            }
        };
        written.map_err(|e| Error::Rows(e.to_string()))
    }
}

/// A text; in quotes if it is empty, or if it would be read otherwise.
fn quoted(text: &str, out: &mut Vec<u8>) {
    let plain = !text.is_empty()
        && !text.contains(['"', ',', '\n', '\r'])
        && !text.starts_with([' ', '\t', '#'])
        && !text.ends_with([' ', '\t']);
    if plain {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    for (i, part) in text.split('"').enumerate() {
        if i > 0 {
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(part.as_bytes());
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::StructArray;
    use arrow::array::{
        ArrayRef, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array,
        TimestampMicrosecondArray,
    };

    use super::*;

    #[test]
    fn every_type_has_its_text() {
        let instants = vec![Some(-1), None, Some(1_500_000)];
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("text, with comma", Arc::new(StringArray::from(vec![Some("a,b"), None, Some("")]))),
            ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
            ("int", Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(7)]))),
            ("long", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]))),
            ("float", Arc::new(Float32Array::from(vec![Some(0.1), None, Some(f32::NAN)]))),
            ("double", Arc::new(Float64Array::from(vec![Some(1e300), None, Some(f64::NEG_INFINITY)]))),
            (
                "decimal",
                Arc::new(
                    Decimal128Array::from(vec![Some(-5), None, Some(12345)])
                        .with_precision_and_scale(10, 2)
                        .unwrap(),
                ),
            ),
            ("date", Arc::new(Date32Array::from(vec![Some(-1), None, Some(0)]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(instants.clone()).with_timezone("UTC"))),
            ("local", Arc::new(TimestampMicrosecondArray::from(instants))),
        ];
        let rows = RecordBatch::from(StructArray::try_from(columns).unwrap());
        let text = String::from_utf8(encode(&rows).unwrap()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                r#""text, with comma",flag,int,long,float,double,decimal,date,at,local"#,
                r#""a,b",true,-2147483648,-9223372036854775808,0.1,1e300,-0.05,1969-12-31,1969-12-31T23:59:59.999999Z,1969-12-31T23:59:59.999999"#,
                ",,,,,,,,,",
                r#""",false,7,9223372036854775807,NaN,-inf,123.45,1970-01-01,1970-01-01T00:00:01.500Z,1970-01-01T00:00:01.500"#,
            ]
        );
    }

    #[test]
    fn texts_are_quoted_where_they_must_be() {
        for (text, expected) in [
            ("plain", "plain"),
            ("o'hara", "o'hara"),
            ("日本", "日本"),
            ("a\"b", "\"a\"\"b\""),
            ("\"", "\"\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            (" padded ", "\" padded \""),
            ("", "\"\""),
        ] {
            let mut out = Vec::new();
            quoted(text, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
