//! Where rows come from: a stream, several united, two joined; which columns still are event times.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan, Union};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use super::times::Times;
use super::{Lowering, push, schema_after, unsupported};
use crate::query::{EventTime, Node, Relation, Source, Stage};
use crate::sql::columns::{Columns, picked};
use crate::sql::error::{Code, Error};
use crate::sql::{CHANGES, over};

/// A relation with what is known of its columns.
pub(super) struct Input {
    pub relation: Relation,
    /// What the columns of the plan's node are over the relation's.
    pub columns: Columns,
    /// Which of the relation's columns are event times.
    pub times: Times,
}

impl Input {
    /// The event time that a column of the plan's node is.
    pub fn time(&self, column: &datafusion::common::Column, node: &DFSchema) -> Option<EventTime> {
        self.times.get(self.columns.position(node.maybe_index_of_column(column)?)?)
    }

    /// The event time that an expression over the plan's node is.
    pub fn time_of(&self, expr: &Expr, node: &DFSchema) -> Option<EventTime> {
        match expr {
            Expr::Column(column) => self.time(column, node),
            _ => None,
        }
    }

    /// The same rows with the columns of the plan's node, all computed, and no others. Rows that are
    /// kept for a while are kept like that; and what fails, fails here, on its record.
    pub fn stored(mut self, node: &DFSchema) -> Result<Self, Error> {
        let mut kept: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
        let (mut fields, mut places) = (Vec::new(), Vec::new());
        for (expr, named) in self.columns.0.iter().zip(node.fields()) {
            let place = kept.iter().position(|known| known == expr).unwrap_or(kept.len());
            if place == kept.len() {
                let name = expr.downcast_ref::<Column>().map_or(named.name().as_str(), Column::name);
                let schema = &self.relation.schema;
                fields.push(Field::new(name, expr.data_type(schema)?, expr.nullable(schema)?));
                kept.push(Arc::clone(expr));
            }
            places.push(place);
        }
        if kept.len() == self.relation.schema.fields().len() && kept.iter().all(|e| position(e).is_some()) {
            return Ok(self);
        }
        let named = |place: usize| fields.get(place).map(|field| field.name().clone()).unwrap_or_default();
        self.columns = Columns::at(places.iter().map(|place| (named(*place), *place)));
        self.times = self.times.projected(&kept);
        project(&mut self.relation, kept, &Arc::new(Schema::new(fields)));
        Ok(self)
    }

    /// What is left after stages of the plan.
    fn through(mut self, stages: Vec<Stage>) -> Result<Self, Error> {
        let (stages, columns) = picked(stages, self.columns)?;
        self.columns = columns;
        for stage in &stages {
            if let Stage::Project(exprs, _) = stage {
                self.times = self.times.projected(exprs);
            }
        }
        self.relation.schema = schema_after(&stages, &self.relation.schema);
        self.relation.stages.extend(stages);
        push::filters(&mut self.relation)?;
        Ok(self)
    }
}

impl Lowering<'_> {
    /// The relation that a plan below every window is.
    pub(super) fn relation(&mut self, plan: &LogicalPlan) -> Result<Input, Error> {
        let (stages, leaf) = self.stages(plan)?;
        let input = match leaf {
            LogicalPlan::TableScan(scan) => self.scan(scan)?,
            LogicalPlan::Union(union) => self.union(union)?,
            LogicalPlan::Join(join) => self.join(join)?,
            LogicalPlan::Window(_) => {
                return Err(Error::unsupported(
                    "OVER with different PARTITION BY or ORDER BY in one query",
                    &format!(
                        "the same for every function, one feature group for each key: {}",
                        over::EXAMPLE
                    ),
                ));
            }
            other => return Err(unsupported(other)),
        };
        input.through(stages)
    }

    fn scan(&mut self, scan: &TableScan) -> Result<Input, Error> {
        let stream = scan.table_name.table();
        let unknown = || Error::new(Code::UnknownTable, stream, format!("there is no stream {stream:?}"));
        let table = self.tables.iter().find(|table| table.name == stream).ok_or_else(unknown)?;
        let read: Vec<usize> =
            scan.projection.clone().unwrap_or_else(|| (0..table.schema.fields().len()).collect());
        let event_time = table.schema.index_of(table.event_time).map_err(|_| unknown())?;
        let is_changes = self.groups.iter().any(|group| group.changes.name == stream);
        let stamp = CHANGES.iter().filter(|_| is_changes).filter_map(|name| table.schema.index_of(name).ok());
        let mut columns = read.clone();
        // Nothing reads them, and they decide nevertheless.
        columns.extend(stamp.chain([event_time]));
        columns.sort_unstable();
        columns.dedup();
        let position = |column: &usize| columns.iter().position(|c| c == column).unwrap_or_default();
        let schema: SchemaRef = Arc::new(
            table.schema.project(&columns).map_err(|e| Error::new(Code::Type, stream, e.to_string()))?,
        );
        let named = |column: &usize| table.schema.field(*column).name().clone();
        let source = Source {
            stream: stream.to_owned(),
            event_time: position(&event_time),
            schema: Arc::clone(&schema),
            columns: columns.clone(),
        };
        let times = Times::source(source.event_time);
        let relation = Relation::source(self.sources.len(), &source);
        self.sources.push(source);
        let columns = Columns::at(read.iter().map(|column| (named(column), position(column))));
        Ok(Input { relation, columns, times })
    }

    /// Rows of each input under one schema. A column is an event time if it is one in each input; it
    /// stays behind the watermark as far as the one that stays behind farthest.
    fn union(&mut self, union: &Union) -> Result<Input, Error> {
        let fields = union.schema.as_arrow().fields();
        let schema: SchemaRef = Arc::new(Schema::new(
            fields
                .iter()
                .map(|f| Field::new(f.name(), f.data_type().clone(), f.is_nullable()))
                .collect::<Vec<_>>(),
        ));
        let mut times: Option<Times> = None;
        let mut inputs = Vec::new();
        for plan in &union.inputs {
            let (relation, of_input) = conform(self.relation(plan)?, &schema)?;
            times = Some(times.map_or_else(|| of_input.clone(), |times| times.united(&of_input)));
            match relation {
                Relation { node: Node::Union(nested), stages, .. } if stages.is_empty() => {
                    inputs.extend(nested)
                }
                other => inputs.push(other),
            }
        }
        let relation =
            Relation { node: Node::Union(inputs), stages: Vec::new(), schema: Arc::clone(&schema) };
        Ok(Input { relation, columns: Columns::of(&schema), times: times.unwrap_or_default() })
    }
}

/// The relation with exactly the columns of `schema`, and which of them are event times.
fn conform(input: Input, schema: &SchemaRef) -> Result<(Relation, Times), Error> {
    let Input { mut relation, columns: Columns(exprs), times } = input;
    for (expr, field) in exprs.iter().zip(schema.fields()) {
        let given = expr.data_type(&relation.schema)?;
        if given != *field.data_type() {
            let (name, wanted) = (field.name(), field.data_type());
            let message =
                format!("the column {name} of UNION ALL is {given} in one SELECT and {wanted} in another");
            return Err(Error::new(Code::Type, name, message).hint(format!("CAST({name} AS type) AS {name}")));
        }
    }
    let times = times.projected(&exprs);
    let same = exprs.iter().enumerate().all(|(i, expr)| position(expr) == Some(i));
    if !(same && relation.schema == *schema) {
        project(&mut relation, exprs, schema);
    }
    Ok((relation, times))
}

/// Adds a projection. Over another one, columns that are only picked are those of the other itself.
fn project(relation: &mut Relation, exprs: Vec<Arc<dyn PhysicalExpr>>, schema: &SchemaRef) {
    let below = match relation.stages.last() {
        Some(Stage::Project(below, _)) => {
            exprs.iter().map(|expr| position(expr).and_then(|i| below.get(i).cloned())).collect()
        }
        _ => None,
    };
    if below.is_some() {
        relation.stages.pop();
    }
    relation.stages.push(Stage::Project(below.unwrap_or(exprs), Arc::clone(schema)));
    relation.schema = Arc::clone(schema);
}

fn position(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expr.downcast_ref::<Column>().map(Column::index)
}
