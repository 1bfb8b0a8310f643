//! Column types: the names of `contract.md` and their Arrow types at rest, both ways.
//!
//! `boolean`, `int`, `bigint`, `float`, `double`, `decimal(p,s)`, `string`, `binary`, `date`,
//! `timestamp`, `timestamp_ntz`, `array<…>`, `map<string,…>`, `struct<name:…,…>`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use super::Column;

/// A type that has no name here, or a name that has no type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a type of a feature column")]
pub struct BadType(pub String);

impl Column {
    /// The column as an Arrow field.
    pub fn field(&self) -> Result<Field, BadType> {
        Ok(Field::new(&self.name, parse(&self.data_type)?, self.nullable))
    }

    /// A column from an Arrow field; dictionaries are what they encode.
    pub fn of(field: &Field) -> Result<Self, BadType> {
        Ok(Self {
            name: field.name().clone(),
            data_type: name(field.data_type())?,
            nullable: field.is_nullable(),
        })
    }
}

/// The Arrow schema of columns, as rows lie in the stores.
pub fn schema(columns: &[Column]) -> Result<SchemaRef, BadType> {
    let fields = columns.iter().map(Column::field).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

/// The name of an Arrow type.
pub fn name(data_type: &DataType) -> Result<String, BadType> {
    Ok(match data_type {
        DataType::Boolean => "boolean".into(),
        DataType::Int32 => "int".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Decimal128(p, s) => format!("decimal({p},{s})"),
        DataType::Utf8 => "string".into(),
        DataType::Binary => "binary".into(),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "timestamp".into(),
        DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp_ntz".into(),
        DataType::Dictionary(_, value) => name(value)?,
        DataType::List(item) => format!("array<{}>", name(item.data_type())?),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => match pair.iter().as_slice() {
                [key, value] if *key.data_type() == DataType::Utf8 => {
                    format!("map<string,{}>", name(value.data_type())?)
                }
                _ => return Err(BadType(data_type.to_string())),
            },
            _ => return Err(BadType(data_type.to_string())),
        },
        DataType::Struct(fields) => {
            let parts = fields
                .iter()
                .map(|f| Ok(format!("{}:{}", f.name(), name(f.data_type())?)))
                .collect::<Result<Vec<_>, BadType>>()?;
            format!("struct<{}>", parts.join(","))
        }
        other => return Err(BadType(other.to_string())),
    })
}

/// The Arrow type of a name.
pub fn parse(text: &str) -> Result<DataType, BadType> {
    let text = text.trim();
    let bad = || BadType(text.to_owned());
    if let Some(inside) = within(text, "decimal(", ')') {
        let (precision, scale) = inside.split_once(',').ok_or_else(bad)?;
        let precision: u8 = precision.trim().parse().map_err(|_| bad())?;
        let scale: i8 = scale.trim().parse().map_err(|_| bad())?;
        let fits = (1..=38).contains(&precision) && (0..=precision as i8).contains(&scale);
        return if fits { Ok(DataType::Decimal128(precision, scale)) } else { Err(bad()) };
    }
    if let Some(inside) = within(text, "array<", '>') {
        return Ok(DataType::List(Arc::new(Field::new("item", parse(inside)?, true))));
    }
    if let Some(inside) = within(text, "map<", '>') {
        let (key, value) = inside.split_once(',').ok_or_else(bad)?;
        if key.trim() != "string" {
            return Err(bad());
        }
        let pair = Fields::from(vec![
            Field::new("key", DataType::Utf8, false),
            Field::new("value", parse(value)?, true),
        ]);
        return Ok(DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair), false)), false));
    }
    if let Some(inside) = within(text, "struct<", '>') {
        let fields = split(inside)
            .into_iter()
            .map(|part| {
                let (name, data_type) = part.split_once(':').ok_or_else(bad)?;
                Ok(Field::new(name.trim(), parse(data_type)?, true))
            })
            .collect::<Result<Vec<_>, BadType>>()?;
        return Ok(DataType::Struct(fields.into()));
    }
    Ok(match text {
        "boolean" => DataType::Boolean,
        "int" => DataType::Int32,
        "bigint" => DataType::Int64,
        "float" => DataType::Float32,
        "double" => DataType::Float64,
        "string" => DataType::Utf8,
        "binary" => DataType::Binary,
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "timestamp_ntz" => DataType::Timestamp(TimeUnit::Microsecond, None),
        _ => return Err(bad()),
    })
}

/// What stands between `head` and the closing bracket at the end.
fn within<'a>(text: &'a str, head: &str, close: char) -> Option<&'a str> {
    text.strip_prefix(head)?.strip_suffix(close)
}

/// Splits at the commas that are not inside brackets.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(|c| {
        match c {
            '<' | '(' => depth += 1,
            '>' | ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_and_types_go_both_ways() {
        for text in [
            "boolean",
            "int",
            "bigint",
            "float",
            "double",
            "decimal(38,9)",
            "string",
            "binary",
            "date",
            "timestamp",
            "timestamp_ntz",
            "array<decimal(10,2)>",
            "map<string,array<int>>",
            "struct<a:int,b:struct<c:decimal(4,2),d:map<string,double>>,e:string>",
        ] {
            assert_eq!(name(&parse(text).unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn what_is_no_type_is_refused() {
        for text in
            ["", "uint", "decimal(39,0)", "decimal(4,5)", "array<int", "map<int,int>", "struct<a>", "time"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(name(&DataType::Time64(TimeUnit::Microsecond)).is_err());
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        assert_eq!(name(&dictionary).unwrap(), "string");
    }
}
