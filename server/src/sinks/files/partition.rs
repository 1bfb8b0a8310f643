//! Rows by the value of a column, and the folder of each value: `column=value`, as Hive and Spark name it.

use std::collections::HashMap;
use std::fmt::Write;

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::DataType;

use crate::sinks::Error;

/// What Hive calls the folder of rows without a value.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The rows of one folder, in their order.
pub struct Part {
    /// Name of the folder; `None`: rows are not divided.
    pub folder: Option<String>,
    /// The rows.
    pub rows: RecordBatch,
}

/// Divides rows by the value of a column, in the order of the folders' names.
pub fn split(rows: &RecordBatch, column: Option<&str>) -> Result<Vec<Part>, Error> {
    let Some(column) = column else { return Ok(vec![Part { folder: None, rows: rows.clone() }]) };
    let values =
        rows.column_by_name(column).ok_or_else(|| Error::Rows(format!("there is no column {column}")))?;
    let texts = cast(values, &DataType::Utf8)?;
    let texts = texts.as_string::<i32>();
    let mut found: HashMap<Option<&str>, Vec<u32>> = HashMap::new();
    for row in 0..texts.len() {
        let value = texts.is_valid(row).then(|| texts.value(row));
        found.entry(value).or_default().push(row as u32);
    }
    let mut parts = found
        .into_iter()
        .map(|(value, indices)| {
            let rows = take_record_batch(rows, &UInt32Array::from(indices))?;
            Ok(Part { folder: Some(folder(column, value)), rows })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    parts.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(parts)
}

/// `column=value`.
fn folder(column: &str, value: Option<&str>) -> String {
    let mut name = escaped(column);
    name.push('=');
    name.push_str(&value.map_or_else(|| NULL.to_owned(), escaped));
    name
}

/// The characters that Hive and Spark escape, as `%XX`; readers take them back.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let special = matches!(
            c,
            '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\' | '{' | '[' | ']' | '^' | '\u{7f}'
        );
        if special || (c as u32) < 0x20 {
            let _ = write!(out, "%{:02X}", c as u32);
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BooleanArray, Date32Array, Int64Array, StringArray, StructArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn rows(values: ArrayRef) -> RecordBatch {
        let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..values.len() as i64));
        RecordBatch::from(StructArray::try_from(vec![("p", values), ("n", n)]).unwrap())
    }

    fn parts(values: ArrayRef) -> Vec<(String, Vec<i64>)> {
        let numbers =
            |part: &Part| part.rows.column(1).as_primitive::<Int64Type>().values().iter().copied().collect();
        let split = split(&rows(values), Some("p")).unwrap();
        split.iter().map(|part| (part.folder.clone().unwrap(), numbers(part))).collect()
    }

    #[test]
    fn rows_keep_their_order_and_folders_have_one() {
        let values = StringArray::from(vec![Some("b"), None, Some("a"), Some("b"), Some("")]);
        assert_eq!(
            parts(Arc::new(values)),
            [
                ("p=".to_owned(), vec![4]),
                (format!("p={NULL}"), vec![1]),
                ("p=a".to_owned(), vec![2]),
                ("p=b".to_owned(), vec![0, 3]),
            ]
        );
    }

    #[test]
    fn values_of_other_types() {
        let only = |values: ArrayRef| parts(values).remove(0).0;
        assert_eq!(only(Arc::new(Int64Array::from(vec![-7]))), "p=-7");
        assert_eq!(only(Arc::new(BooleanArray::from(vec![true]))), "p=true");
        assert_eq!(only(Arc::new(Date32Array::from(vec![0]))), "p=1970-01-01");
    }

    #[test]
    fn names_are_escaped_as_hive_does() {
        assert_eq!(escaped("a/b=c%d é\n日"), "a%2Fb%3Dc%25d é%0A日");
        assert_eq!(folder("a=b", Some("..")), "a%3Db=..");
    }

    #[test]
    fn without_a_column_there_is_one_part() {
        let all = rows(Arc::new(StringArray::from(vec!["x", "y"])));
        let parts = split(&all, None).unwrap();
        assert!(matches!(parts.as_slice(), [Part { folder: None, rows }] if *rows == all));
    }
}
