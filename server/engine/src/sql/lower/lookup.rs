//! A lookup: the row of a feature group as of the time of an event.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Join, LogicalPlan};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};

use super::Lowering;
use super::join::{Pair, conditions, rows};
use super::relation::Input;
use crate::query::{EventTime, JoinKind, LookupJoin, Node, Relation, Stage, StampColumns};
use crate::sql::error::{Code, Error};
use crate::sql::lookup::{AVAILABLE_AT, EXAMPLE};
use crate::sql::{CHANGES, Group};

impl<'a> Lowering<'a> {
    /// The group whose changes a plan is.
    pub(super) fn looked_up(&self, plan: &LogicalPlan) -> Result<Option<&'a Group<'a>>, Error> {
        let (_, leaf) = self.stages(plan)?;
        let LogicalPlan::TableScan(scan) = leaf else { return Ok(None) };
        Ok(self.groups.iter().find(|group| group.changes.name == scan.table_name.table()))
    }

    /// Rows of a relation with what they look up.
    pub(super) fn lookup(&mut self, join: &Join, kind: JoinKind, group: &Group<'_>) -> Result<Input, Error> {
        let left = self.relation(&join.left)?.stored(join.left.schema())?;
        let right = self.relation(&join.right)?;
        let changes = match &right.relation {
            Relation { node: Node::Source(number), stages, .. } if stages.is_empty() => *number,
            _ => return Err(Error::unsupported("a subquery of what is looked up", EXAMPLE)),
        };
        let (columns, schema) = rows(join, kind, &left, &right)?;
        // The stamp stands behind what is looked up, and nothing above reads it.
        let width = schema.fields().len().saturating_sub(CHANGES.len());
        let schema = Arc::new(Schema::new(schema.fields().iter().take(width).cloned().collect::<Vec<_>>()));

        let (mut time, mut on, mut rest) = (None, Vec::new(), Vec::new());
        for condition in conditions(join) {
            if let Some(instant) = as_of(&condition, join) {
                time = left.time(instant, join.left.schema());
                if time.is_none() {
                    return Err(self.not_event_time("FOR SYSTEM_TIME AS OF", instant.name()));
                }
                continue;
            }
            match self.pair(&condition, join, &left, &right)? {
                Some(pair) => on.push(pair),
                None => rest.push(condition),
            }
        }
        let Some(time) = time else {
            return Err(self.not_event_time("FOR SYSTEM_TIME AS OF", "what it names"));
        };
        check_key(&on, group, &right)?;
        let further = match (conjunction(rest), kind) {
            (None, _) => None,
            (Some(rest), JoinKind::Inner) => Some(columns.apply(self.physical(&rest, &join.schema)?)?),
            (Some(_), JoinKind::Left) => {
                return Err(Error::unsupported(
                    "a further condition in the ON of a LEFT lookup",
                    "CASE WHEN … THEN u.column END in the select list, or WHERE",
                ));
            }
        };
        let lookup = self.lookup_join(changes, kind, on, time, group, &left, schema)?;
        let schema = Arc::clone(&lookup.schema);
        let stages = further.map(Stage::Filter).into_iter().collect();
        let relation = Relation { node: Node::Lookup(Box::new(lookup)), stages, schema };
        Ok(Input { relation, columns, times: left.times })
    }

    #[allow(clippy::too_many_arguments)] // the fields of one thing
    fn lookup_join(
        &self,
        changes: usize,
        kind: JoinKind,
        on: Vec<Pair>,
        time: EventTime,
        group: &Group<'_>,
        left: &Input,
        schema: Arc<Schema>,
    ) -> Result<LookupJoin, Error> {
        let source = self.sources.get(changes);
        let place = |name: &str| {
            let place = source.and_then(|source| source.schema.index_of(name).ok());
            place.ok_or_else(|| Error::new(Code::UnknownColumn, name, format!("changes without {name}")))
        };
        let [event_time, available_at, commit, op] = CHANGES;
        let stamp = StampColumns {
            event_time: place(event_time)?,
            available_at: place(available_at)?,
            commit: place(commit)?,
            op: place(op)?,
        };
        Ok(LookupJoin { left: left.relation.clone(), changes, kind, on, time, stamp, ttl: group.ttl, schema })
    }
}

/// The left column in `g._available_at <= column`.
fn as_of<'e>(condition: &'e Expr, join: &Join) -> Option<&'e datafusion::common::Column> {
    let Expr::BinaryExpr(BinaryExpr { left, right, .. }) = condition else { return None };
    let (Expr::Column(a), Expr::Column(b)) = (left.as_ref(), right.as_ref()) else { return None };
    let is_stamp = |column: &datafusion::common::Column| {
        column.name() == AVAILABLE_AT && join.right.schema().has_column(column)
    };
    match (is_stamp(a), is_stamp(b)) {
        (true, false) => Some(b),
        (false, true) => Some(a),
        _ => None,
    }
}

/// Refuses an ON that names other columns of the group than its primary key, each once.
fn check_key(on: &[Pair], group: &Group<'_>, right: &Input) -> Result<(), Error> {
    let schema = &right.relation.schema;
    let column = |key: &Arc<dyn PhysicalExpr>| {
        // Two keys must not become one by a cast.
        let plain = match key.downcast_ref::<CastExpr>() {
            None => key,
            Some(cast) => {
                let from = cast.expr().data_type(schema).ok()?;
                let widens = from == DataType::Int32 && *cast.cast_type() == DataType::Int64;
                widens.then(|| cast.expr())?
            }
        };
        let column = plain.downcast_ref::<Column>()?;
        schema.fields().get(column.index()).map(|field| field.name().as_str())
    };
    let mut named: Vec<Option<&str>> = on.iter().map(|(_, key)| column(key)).collect();
    let mut key: Vec<Option<&str>> = group.key.iter().map(|column| Some(column.as_str())).collect();
    named.sort_unstable();
    key.sort_unstable();
    if named == key && !key.is_empty() {
        return Ok(());
    }
    let name = group.names.first().map_or("the group", String::as_str);
    if group.key.is_empty() {
        return Err(Error::unsupported("a lookup in a group without a primary key", "a group with a key"));
    }
    let key = group.key.join(", ");
    let message =
        format!("the ON of a lookup in {name} names its primary key, and nothing else of it: {key}");
    Err(Error::new(Code::Unsupported, "FOR SYSTEM_TIME AS OF", message)
        .hint(format!("{EXAMPLE}; cast the event's column where the types differ")))
}
