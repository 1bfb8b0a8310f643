//! Plain JSON records in, a batch out: the same columns as the Avro decoder's, with the same rollback.
//!
//! A record is one JSON object; its members go straight into the column builders, in the order in
//! which they come. A member that the schema does not have is ignored, one that is missing is null, one
//! that comes twice counts the last time. All columns are read, whatever a query wants, so that a record
//! is bad for every group or for none.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::column::{self, Column};
use super::fault::Fault;
use super::reader::ReaderSchema;
use super::types::{Field, Kind, Type};
use super::{MAX_BODY, batch, scalar};

/// Builds the columns of one batch from JSON texts.
pub struct JsonDecoder {
    columns: Vec<Column>,
    fields: Vec<Field>,
    /// Where each field's builder stands.
    roots: Vec<usize>,
    /// Positions of the fields that go into the batch, in its order.
    wanted: Vec<usize>,
    schema: SchemaRef,
    rows: usize,
}

/// Why a text could not become a row, and at which field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    /// Path of the field: `items[2].price`; empty where the record as a whole is wrong.
    pub field: String,
    message: String,
    full: bool,
}

/// What is wrong with one value.
pub(super) enum Problem {
    /// It is not what its column holds.
    Value(String),
    /// It cannot be taken in.
    Fault(Fault),
}

/// The first problem met, and the way to it, innermost first.
#[derive(Default)]
struct Trouble {
    path: Vec<String>,
    problem: Option<Problem>,
}

impl JsonDecoder {
    /// A decoder into the given columns of the reader, in that order. Columns that it does not have
    /// are left out.
    pub fn new(reader: &ReaderSchema, columns: &[usize]) -> Self {
        let (mut builders, mut roots) = (Vec::new(), Vec::new());
        for field in &reader.fields {
            roots.push(builders.len());
            column::add(&field.ty, &mut builders);
        }
        let wanted: Vec<usize> = columns.iter().copied().filter(|c| *c < roots.len()).collect();
        let arrow = |column: &usize| {
            let field = reader.arrow().fields().get(*column)?;
            // Whether a record without event time is set aside is the caller's to say.
            let nullable = field.is_nullable() || reader.event_time() == Some(*column);
            Some(Arc::new(field.as_ref().clone().with_nullable(nullable)))
        };
        let schema = Schema::new(wanted.iter().filter_map(arrow).collect::<Vec<_>>());
        Self {
            columns: builders,
            fields: reader.fields.clone(),
            roots,
            wanted,
            schema: Arc::new(schema),
            rows: 0,
        }
    }

    /// Decodes one record into one row. After an error the rows are what they were before.
    ///
    /// # Errors
    /// The text is not one JSON object that fits the schema. [`JsonError::is_full`] is no fault of the
    /// record: [`JsonDecoder::finish`] and push it again.
    pub fn push(&mut self, text: &[u8]) -> Result<(), JsonError> {
        let mut trouble = Trouble::default();
        let problem = if text.len() > MAX_BODY {
            Problem::Fault(Fault::TooLarge)
        } else {
            match self.record(text, &mut trouble) {
                Ok(()) => {
                    self.rows += 1;
                    return Ok(());
                }
                Err(syntax) => trouble.problem.take().unwrap_or(Problem::Value(syntax)),
            }
        };
        Err(self.roll_back(problem, &trouble.path))
    }

    fn record(&mut self, text: &[u8], trouble: &mut Trouble) -> Result<(), String> {
        let text = std::str::from_utf8(text).map_err(|_| "the record is not UTF-8".to_owned())?;
        let raw: &RawValue =
            serde_json::from_str(text).map_err(|e| format!("the record is not JSON: {e}"))?;
        let raw = raw.get();
        if !raw.starts_with('{') {
            return Err(format!("a record is a JSON object, not {}", scalar::kind_of(raw)));
        }
        let Self { columns, fields, roots, rows, .. } = self;
        object(columns, fields, roots, *rows, raw, trouble)
    }

    #[cold]
    fn roll_back(&mut self, problem: Problem, path: &[String]) -> JsonError {
        for root in &self.roots {
            column::truncate(&mut self.columns, *root, self.rows);
        }
        let (message, full) = match problem {
            Problem::Value(message) => (message, false),
            // A record that fills a batch by itself would never fit.
            Problem::Fault(Fault::Full) if self.rows == 0 => (Fault::TooLarge.to_string(), false),
            Problem::Fault(fault) => (fault.to_string(), fault == Fault::Full),
        };
        let mut field = String::new();
        for part in path.iter().rev() {
            if !field.is_empty() && !part.starts_with('[') {
                field.push('.');
            }
            field.push_str(part);
        }
        JsonError { field, message, full }
    }

    /// Rows since the last [`JsonDecoder::finish`].
    pub fn len(&self) -> usize {
        self.rows
    }

    /// True where there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Takes the rows as a batch: the reader's Arrow schema projected, but with a nullable event time.
    pub fn finish(&mut self) -> RecordBatch {
        let rows = std::mem::take(&mut self.rows);
        batch::take(&mut self.columns, &self.roots, rows, &self.schema, |arrays| {
            self.wanted.iter().filter_map(|at| arrays.get(*at).cloned()).collect()
        })
    }
}

impl JsonError {
    /// True where the batch, and not the record, is the problem.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// What is wrong, without the field.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "field {}: {}", self.field, self.message)
        }
    }
}

impl std::error::Error for JsonError {}

/// The members of one object into the builders of its fields, which all hold `rows` values so far.
/// An error is syntax, unless `trouble` says what it is.
fn object(
    columns: &mut [Column],
    fields: &[Field],
    builders: &[usize],
    rows: usize,
    raw: &str,
    trouble: &mut Trouble,
) -> Result<(), String> {
    let mut expected = 0;
    let mut member = |key: &str, raw: &str| {
        // Most producers write the members in the schema's order.
        let order = (expected..fields.len()).chain(0..expected);
        let found = order.filter_map(|at| Some((at, fields.get(at)?, *builders.get(at)?)));
        let Some((at, field, builder)) = found.into_iter().find(|(_, field, _)| *field.name == *key) else {
            return Ok(());
        };
        expected = at + 1;
        if column::len(columns, builder) > rows {
            column::truncate(columns, builder, rows);
        }
        value(columns, builder, &field.ty, raw, trouble).inspect_err(|()| trouble.path.push(key.to_owned()))
    };
    members(raw, &mut member)?;
    for (field, builder) in fields.iter().zip(builders) {
        if column::len(columns, *builder) > rows {
            continue;
        }
        if field.ty.null.is_none() {
            trouble.path.push(field.name.to_string());
            trouble.problem = Some(Problem::Value("is missing, and the schema does not allow null".into()));
            return Err(String::new());
        }
        column::append_null(columns, *builder);
    }
    Ok(())
}

/// One value into the builder of its type. What is wrong with it stands in `trouble`.
fn value(
    columns: &mut [Column],
    builder: usize,
    ty: &Type,
    raw: &str,
    trouble: &mut Trouble,
) -> Result<(), ()> {
    if raw == "null" {
        if ty.null.is_none() {
            trouble.problem = Some(Problem::Value("is null, and the schema does not allow null".into()));
            return Err(());
        }
        column::append_null(columns, builder);
        return Ok(());
    }
    let nested = matches!(ty.kind, Kind::Record(_) | Kind::Array(_) | Kind::Map(_));
    let done = if nested {
        nested_value(columns, builder, &ty.kind, raw, trouble).map_err(Problem::Value)
    } else {
        columns.get_mut(builder).map_or(Err(Problem::Fault(Fault::Mismatch)), |column| {
            column.append_valid();
            scalar::append(column, &ty.kind, raw)
        })
    };
    done.map_err(|problem| {
        trouble.problem.get_or_insert(problem);
    })
}

fn nested_value(
    columns: &mut [Column],
    builder: usize,
    kind: &Kind,
    raw: &str,
    trouble: &mut Trouble,
) -> Result<(), String> {
    let (open, what) = if matches!(kind, Kind::Array(_)) { ('[', "an array") } else { ('{', "an object") };
    if !raw.starts_with(open) {
        return Err(format!("expected {what}, found {}", scalar::kind_of(raw)));
    }
    if let Some(column) = columns.get_mut(builder) {
        column.append_valid();
    }
    match kind {
        Kind::Record(fields) => {
            let rows = column::begin_struct(columns, builder);
            let mut next = builder + 1;
            let builders: Vec<usize> = fields
                .iter()
                .map(|field| {
                    let child = next;
                    next += field.ty.kind.builders();
                    child
                })
                .collect();
            object(columns, fields, &builders, rows, raw, trouble)
        }
        Kind::Array(item) => {
            let mut at = 0;
            items(raw, &mut |raw: &str| {
                let done = value(columns, builder + 1, item, raw, trouble);
                at += 1;
                done.inspect_err(|()| trouble.path.push(format!("[{}]", at - 1)))
            })?;
            column::end_list(columns, builder, builder + 1).map_err(|fault| fault.to_string())
        }
        Kind::Map(ty) => {
            members(raw, &mut |key: &str, raw: &str| {
                let put = columns.get_mut(builder + 1).map_or(Err(Fault::Mismatch), |keys| {
                    keys.append_valid();
                    keys.append_bytes(key.as_bytes())
                });
                put.map_err(|fault| trouble.problem = Some(Problem::Fault(fault)))?;
                let done = value(columns, builder + 2, ty, raw, trouble);
                done.inspect_err(|()| trouble.path.push(format!("[{key:?}]")))
            })?;
            column::end_list(columns, builder, builder + 1).map_err(|fault| fault.to_string())
        }
        _ => Err(Fault::Mismatch.to_string()),
    }
}

/// Calls `each` with every member of an object, its value as it is written.
fn members(raw: &str, each: &mut dyn FnMut(&str, &str) -> Result<(), ()>) -> Result<(), String> {
    let mut text = serde_json::Deserializer::from_str(raw);
    Members(each).deserialize(&mut text).map_err(|e| e.to_string())
}

/// Calls `each` with every item of an array, as it is written.
fn items(raw: &str, each: &mut dyn FnMut(&str) -> Result<(), ()>) -> Result<(), String> {
    let mut text = serde_json::Deserializer::from_str(raw);
    Items(each).deserialize(&mut text).map_err(|e| e.to_string())
}

/// A name, without a copy where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Members<'f>(&'f mut dyn FnMut(&str, &str) -> Result<(), ()>);
struct Items<'f>(&'f mut dyn FnMut(&str) -> Result<(), ()>);

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, text: D) -> Result<(), D::Error> {
        text.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((Name(key), raw)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            (self.0)(&key, raw.get()).map_err(|()| A::Error::custom("a value does not fit"))?;
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, text: D) -> Result<(), D::Error> {
        text.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(raw) = items.next_element::<&'de RawValue>()? {
            (self.0)(raw.get()).map_err(|()| A::Error::custom("a value does not fit"))?;
        }
        Ok(())
    }
}
