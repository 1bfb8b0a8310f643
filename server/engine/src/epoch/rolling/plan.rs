//! A rolling query prepared for running: what is kept of each record, and where the columns of a row
//! come from.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, new_null_array};
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr::utils::collect_columns;

use super::super::Error;
use super::super::plan::{key_schema, plain};
use super::tally::{Kernel, Tally};
use crate::query::{self, FeatureQuery, Shape, Stage};
use crate::rolling::IDENTITY;
use crate::state::{self, Function, STANDING, codec};
use crate::time::Span;

/// The query with its frames, keys and columns taken apart.
pub(in crate::epoch) struct Plan {
    pub(super) query: Arc<FeatureQuery>,
    pub(super) shape: query::Rolling,
    /// Type and name of each key column, as in the output; never a dictionary.
    pub(super) key_schema: SchemaRef,
    /// What is kept of a record, behind its identity.
    pub(super) kept: Vec<Kept>,
    /// Where each column of the input comes from in a row that comes out.
    pub(super) plain: Vec<Plain>,
    pub(super) frames: Vec<Frame>,
    /// What is added up along the records of a key.
    pub(super) tallies: Vec<Tally>,
    /// How far the longest frame reaches back.
    pub(super) longest: Span,
    /// The durable form of the records of one key in one slice: a list of their columns.
    pub(super) state: codec::Column,
    /// How many records stand behind a row besides the first one: none but behind a join.
    pub(super) others: usize,
}

/// A column that is kept of each record: computed once, when the record comes in.
pub(super) struct Kept {
    pub(super) expr: Arc<dyn PhysicalExpr>,
    /// It is a FILTER: NULL is false.
    pub(super) is_filter: bool,
    /// The FILTER (among the kept) of the function whose argument it is: what fails only on records that it
    /// leaves out does not fail.
    pub(super) filter: Option<usize>,
    /// As it is kept: never a dictionary.
    pub(super) data_type: DataType,
}

/// Where a column of the input comes from in a row that comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plain {
    /// Nothing reads it.
    Unread,
    /// It is the instant of the row.
    Time,
    /// Column of the key.
    Key(usize),
    /// Kept of the last record.
    Kept(usize),
}

/// One frame.
pub(super) struct Frame {
    pub(super) preceding: Span,
    pub(super) calls: Vec<Call>,
}

/// One function of a frame.
pub(super) struct Call {
    pub(super) function: Function,
    pub(super) arguments: Vec<Argument>,
    /// FILTER, among the kept.
    pub(super) filter: Option<usize>,
    /// Its value over no records: one row.
    pub(super) nothing: ArrayRef,
    pub(super) kernel: Kernel,
}

/// An argument of a function.
pub(super) enum Argument {
    /// Kept of each record, and the type that the function wants.
    Kept(usize, DataType),
    /// The same for all, as in `COUNT(*)`.
    Constant(ScalarValue),
}

impl Plan {
    pub(super) fn new(query: Arc<FeatureQuery>) -> Result<Self, Error> {
        let Shape::Rolling(shape) = &query.shape else {
            return Err(Error::Contract("these are no rolling features".into()));
        };
        let shape = shape.clone();
        let input = &query.input.schema;
        let key_schema = key_schema(&query, shape.keys.len())?;
        let mut columns = Columns { input: Arc::clone(input), kept: Vec::new() };
        let mut plain = Vec::new();
        for (at, (field, read)) in input.fields().iter().zip(read(&query.after, input)).enumerate() {
            plain.push(if at == shape.time.column {
                Plain::Time
            } else if let Some(key) = shape.keys.iter().position(|(key, _)| is_column(key, at)) {
                Plain::Key(key)
            } else if read {
                let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), at));
                Plain::Kept(columns.keep(&column, None, false)?)
            } else {
                Plain::Unread
            });
        }
        let mut tallies = Vec::new();
        let frames = shape.frames.iter().map(|f| frame(f, &mut columns, &mut tallies));
        let frames = frames.collect::<Result<Vec<_>, _>>()?;
        let Columns { kept, .. } = columns;
        let longest = frames.iter().map(|f| f.preceding).max().unwrap_or_default();
        let others = query.input.width().saturating_sub(1);
        let state = codec::Column::plain(DataType::List(Arc::new(record(&kept, others > 0))));
        Ok(Self { query, shape, key_schema, kept, plain, frames, tallies, longest, state, others })
    }

    /// The column of the other records that stand behind a row: the last one.
    pub(super) fn others_column(&self) -> Option<usize> {
        (self.others > 0).then(|| Self::place(self.kept.len()))
    }

    /// Whether functions go over the records of each frame.
    pub(super) fn is_gathering(&self) -> bool {
        let mut calls = self.frames.iter().flat_map(|frame| &frame.calls);
        calls.any(|call| call.kernel == Kernel::General)
    }

    /// Number of a kept column among all columns of a record.
    pub(super) fn place(kept: usize) -> usize {
        IDENTITY.len() + kept
    }
}

/// A record with all its columns, as an element of the list that is stored.
fn record(kept: &[Kept], has_others: bool) -> Field {
    let identity = IDENTITY.into_iter().map(|(name, data_type)| Field::new(name, data_type, false));
    let kept = kept.iter().enumerate().map(|(at, k)| Field::new(at.to_string(), k.data_type.clone(), true));
    let others = has_others.then(|| Field::new("others", DataType::Binary, false));
    Field::new("record", DataType::Struct(identity.chain(kept).chain(others).collect()), false)
}

/// The columns that are kept, each once.
struct Columns {
    input: SchemaRef,
    kept: Vec<Kept>,
}

impl Columns {
    fn keep(
        &mut self,
        expr: &Arc<dyn PhysicalExpr>,
        filter: Option<usize>,
        is_filter: bool,
    ) -> Result<usize, Error> {
        // A column as it is cannot fail: it is the same under any FILTER.
        let filter = filter.filter(|_| expr.downcast_ref::<Column>().is_none());
        let same = |k: &Kept| is_same(&k.expr, expr) && k.filter == filter && k.is_filter == is_filter;
        if let Some(known) = self.kept.iter().position(same) {
            return Ok(known);
        }
        let data_type = plain(&expr.data_type(&self.input)?);
        self.kept.push(Kept { expr: Arc::clone(expr), is_filter, filter, data_type });
        Ok(self.kept.len() - 1)
    }
}

fn frame(frame: &query::Frame, columns: &mut Columns, tallies: &mut Vec<Tally>) -> Result<Frame, Error> {
    let mut calls = Vec::new();
    for call in &frame.functions {
        let function = Function::new(call)?;
        let filter = function.filter.as_ref().map(|f| columns.keep(f, None, true)).transpose()?;
        let mut arguments = Vec::new();
        for argument in &function.arguments {
            arguments.push(match argument.downcast_ref::<Literal>() {
                Some(literal) => Argument::Constant(literal.value().clone()),
                None => {
                    let wanted = argument.data_type(&columns.input)?;
                    Argument::Kept(columns.keep(argument, filter, false)?, wanted)
                }
            });
        }
        let nothing = nothing(&function, &columns.input)?;
        let kernel = Kernel::of(call, &arguments, filter, tallies);
        calls.push(Call { function, arguments, filter, nothing, kernel });
    }
    Ok(Frame { preceding: frame.preceding, calls })
}

/// The value over no records, as one row: of a record that FILTER leaves out.
fn nothing(function: &Function, input: &SchemaRef) -> Result<ArrayRef, Error> {
    let none = function.arguments.iter().map(|a| Ok(new_null_array(&a.data_type(input)?, 1)));
    let mut none = none.collect::<Result<Vec<_>, DataFusionError>>()?;
    if function.by_time {
        none.extend(STANDING.map(|data_type| new_null_array(&data_type, 1)));
    }
    Ok(state::over(function, &none, Some(&BooleanArray::from(vec![false])), &[0], 1)?)
}

/// Which columns of the input the stages above read.
fn read(after: &[Stage], input: &SchemaRef) -> Vec<bool> {
    let mut read = vec![false; input.fields().len()];
    let mut mark = |expr: &Arc<dyn PhysicalExpr>| {
        for column in collect_columns(expr) {
            if let Some(read) = read.get_mut(column.index()) {
                *read = true;
            }
        }
    };
    for stage in after {
        match stage {
            Stage::Filter(predicate) => mark(predicate),
            Stage::Project(exprs, _) => {
                exprs.iter().for_each(&mut mark);
                return read;
            }
        }
    }
    vec![true; input.fields().len()]
}

/// Whether two expressions are one: a column is what it is, whatever it is called.
fn is_same(one: &Arc<dyn PhysicalExpr>, other: &Arc<dyn PhysicalExpr>) -> bool {
    let column = |expr: &Arc<dyn PhysicalExpr>| expr.downcast_ref::<Column>().map(Column::index);
    match (column(one), column(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

/// Whether a key is a column as it is, or in its type at rest.
fn is_column(key: &Arc<dyn PhysicalExpr>, at: usize) -> bool {
    let key = key.downcast_ref::<CastExpr>().map_or(key, |cast| cast.expr());
    key.downcast_ref::<Column>().is_some_and(|column| column.index() == at)
}
