//! GROUP BY over a window.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::{
    Aggregate as LogicalAggregate, Expr, LogicalPlan, UserDefinedLogicalNodeCore,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};

use super::{Lowering, origin, push, schema_after, unsupported};
use crate::query::{Aggregate, Group, Relation, Stage, Windowed};
use crate::sql::columns::{Columns, picked};
use crate::sql::error::{Code, Error};
use crate::sql::explain::sql;
use crate::sql::output;
use crate::sql::scope::WINDOW_COLUMNS;
use crate::sql::window::WindowNode;

impl Lowering<'_> {
    /// An aggregate over a window over a relation.
    pub(super) fn windowed(&mut self, aggregate: &LogicalAggregate) -> Result<(Relation, Windowed), Error> {
        let (within, node) = self.stages(&aggregate.input)?;
        let window = match node {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<WindowNode>(),
            _ => None,
        };
        let window = window.ok_or_else(|| unsupported(node))?;
        let mut input = self.relation(&window.input)?;
        let below = window.input.schema();
        let time = input.time_of(&window.time, below);
        let time = time.ok_or_else(|| self.not_event_time("DESCRIPTOR", &descriptor(&window.time)))?;

        let width = input.relation.schema.fields().len();
        let mut columns = input.columns.clone();
        columns.0.extend(Columns::at(WINDOW_COLUMNS.map(ToOwned::to_owned).into_iter().zip(width..)).0);
        let (mut within, columns) = picked(within, columns)?;
        hoist(&mut within, &mut input.relation.stages, width);
        push::filters(&mut input.relation)?;

        let schema = schema_after(&within, &with_window(&input.relation.schema, window));
        let aggregate = self.aggregate(aggregate, &within, &columns, width, schema)?;
        if !window.partition.is_empty() {
            let partition = window.partition.iter().map(|expr| match expr {
                Expr::Column(column) => {
                    below.maybe_index_of_column(column).and_then(|i| input.columns.position(i))
                }
                _ => None,
            });
            partitioned(&aggregate, &within, partition.collect(), &window.partition)?;
        }
        Ok((input.relation, Windowed { time, window: window.window, within, aggregate }))
    }

    fn aggregate(
        &self,
        aggregate: &LogicalAggregate,
        within: &[Stage],
        columns: &Columns,
        width: usize,
        input: SchemaRef,
    ) -> Result<Aggregate, Error> {
        let logical = aggregate.input.schema();
        let (mut groups, mut fields) = (Vec::new(), Vec::new());
        for (expr, field) in aggregate.group_expr.iter().zip(aggregate.schema.fields()) {
            let physical = self.physical(expr, logical)?;
            let name = sql(&columns.apply(Arc::clone(&physical))?);
            let picked =
                physical.downcast_ref::<Column>().and_then(|column| columns.position(column.index()));
            let position = picked.and_then(|position| origin(within, position));
            groups.push(match position.and_then(|position| position.checked_sub(width)) {
                Some(0) => Group::WindowStart,
                Some(1) => Group::WindowEnd,
                Some(_) => Group::WindowTime,
                None => {
                    output::key_type(field.data_type(), &name)?;
                    Group::Key(columns.apply(physical)?, field.data_type().clone())
                }
            });
            fields.push(Field::new(name, field.data_type().clone(), field.is_nullable()));
        }
        if groups.iter().all(|group| matches!(group, Group::Key(..))) {
            return Err(Error::new(Code::NoWindow, "GROUP BY", "GROUP BY names no column of the window")
                .hint("add window_end: GROUP BY key, window_end"));
        }
        let mut functions = Vec::new();
        for expr in &aggregate.aggr_expr {
            let function = self.function(expr, logical, columns, &input)?;
            fields.push(Field::new(
                function.to_string(),
                function.aggregate.field().data_type().clone(),
                true,
            ));
            functions.push(function);
        }
        Ok(Aggregate { input, groups, functions, schema: Arc::new(Schema::new(fields)) })
    }
}

fn descriptor(time: &Expr) -> String {
    match time {
        Expr::Column(column) => format!("DESCRIPTOR({})", column.name()),
        other => format!("DESCRIPTOR({other})"),
    }
}

/// The window's output: its input and its own columns.
fn with_window(below: &SchemaRef, window: &WindowNode) -> SchemaRef {
    let mut fields = below.fields().to_vec();
    for name in WINDOW_COLUMNS {
        fields.extend(window.schema().field_with_unqualified_name(name).ok().map(Arc::clone));
    }
    Arc::new(Schema::new(fields))
}

/// Filters right above the window that read none of its columns go below it: fewer rows get a window.
/// The window's schema begins with its input's, so their column positions stay as they are.
fn hoist(within: &mut Vec<Stage>, before: &mut Vec<Stage>, width: usize) {
    while let Some(Stage::Filter(predicate)) = within.first() {
        let columns = datafusion::physical_expr::utils::collect_columns(predicate);
        if columns.iter().any(|column| column.index() >= width) {
            break;
        }
        before.push(within.remove(0));
    }
}

/// Refuses a SESSION that is divided by other columns than those of GROUP BY: a row of the group is a
/// session of its key.
fn partitioned(
    aggregate: &Aggregate,
    within: &[Stage],
    partition: Vec<Option<usize>>,
    written: &[Expr],
) -> Result<(), Error> {
    let column = |key: &Arc<dyn PhysicalExpr>| {
        let key = key.downcast_ref::<CastExpr>().map_or(key, |cast| cast.expr());
        key.downcast_ref::<Column>().and_then(|column| origin(within, column.index()))
    };
    let mut keys: Vec<Option<usize>> = aggregate
        .groups
        .iter()
        .filter_map(|group| match group {
            Group::Key(key, _) => Some(column(key)),
            Group::WindowStart | Group::WindowEnd | Group::WindowTime => None,
        })
        .collect();
    let mut partition = partition;
    for columns in [&mut keys, &mut partition] {
        columns.sort_unstable();
        columns.dedup();
    }
    if keys == partition && !keys.contains(&None) {
        return Ok(());
    }
    let columns: Vec<String> = written
        .iter()
        .map(|expr| match expr {
            Expr::Column(column) => column.name().to_owned(),
            other => other.to_string(),
        })
        .collect();
    let columns = columns.join(", ");
    Err(Error::new(
        Code::BadWindow,
        "SESSION",
        format!("SESSION is divided by {columns}, and GROUP BY names other keys"),
    )
    .hint(format!(
        "GROUP BY {columns}, window_end; without PARTITION BY the keys of GROUP BY divide the sessions"
    )))
}

/// The type without its dictionary.
pub(super) fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain(values),
        other => other.clone(),
    }
}
