//! What stands before the shape: records of the sources on their way through the query's relation.
//!
//! Each operator asks for the rows of an epoch here, whatever they come from, and is handed them batch by
//! batch. Nothing is kept and nothing is copied on the way but what a stage asks for.

use std::sync::Arc;

use super::records::{Rows, Verdicts};
use super::{Error, Input, Output, stage};
use crate::query::{FeatureQuery, Node, Relation};
use crate::time::Micros;

/// Where rows go. They are counted as applied by who takes them.
pub(super) type Sink<'s> = &'s mut dyn FnMut(Rows, &mut Verdicts<'_>) -> Result<(), Error>;

/// The input of a query, ready to run.
pub(super) struct Upstream {
    query: Arc<FeatureQuery>,
}

impl Upstream {
    pub(super) fn new(query: Arc<FeatureQuery>) -> Result<Self, Error> {
        if joins(&query.input) {
            return Err(Error::Contract("joins are not supported yet".into()));
        }
        Ok(Self { query })
    }

    /// Takes the records of an epoch through the relation to `sink`, in their order; what became of them
    /// goes to `output`. Returns the watermark that the epoch reaches.
    pub(super) fn take(
        &mut self,
        input: &Input<'_>,
        output: &mut Output,
        sink: Sink<'_>,
    ) -> Result<Micros, Error> {
        for batch in input.batches {
            let Some(source) = self.query.sources.get(usize::from(batch.source)) else {
                return Err(Error::Contract(format!("there is no source {}", batch.source)));
            };
            if batch.rows.num_columns() != source.columns.len()
                || batch.rows.num_rows() != batch.offsets.len()
            {
                return Err(Error::Contract(format!("a batch of '{}' with other columns", source.stream)));
            }
            let mut verdicts = Verdicts::new(batch);
            let mut rows = Rows::new(&batch.rows);
            if !through(&self.query.input, batch.source, &mut rows, &mut verdicts)? {
                return Err(Error::Contract(format!("the rows of '{}' go nowhere", source.stream)));
            }
            sink(rows, &mut verdicts)?;
            output.record(batch.source, verdicts);
        }
        Ok(input.watermark)
    }
}

/// Takes records of a source through all that a relation does to them. False: it does not read the source.
fn through(
    relation: &Relation,
    source: u16,
    rows: &mut Rows,
    verdicts: &mut Verdicts<'_>,
) -> Result<bool, Error> {
    let is_read = match &relation.node {
        Node::Source(number) => *number == usize::from(source),
        Node::Union(inputs) => {
            let mut is_read = false;
            for input in inputs {
                is_read = is_read || through(input, source, rows, verdicts)?;
            }
            is_read
        }
        Node::Join(_) => false,
    };
    if is_read {
        stage::on_records(&relation.stages, rows, verdicts)?;
    }
    Ok(is_read)
}

fn joins(relation: &Relation) -> bool {
    match &relation.node {
        Node::Source(_) => false,
        Node::Union(inputs) => inputs.iter().any(joins),
        Node::Join(_) => true,
    }
}
