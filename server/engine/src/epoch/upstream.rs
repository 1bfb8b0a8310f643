//! What stands before the shape: records of the sources on their way through the query's relation.
//!
//! Each operator asks for the rows of an epoch here, whatever they come from, and is handed them batch by
//! batch. Nothing is kept and nothing is copied on the way but where relations are joined.
//!
//! Rows of a join may be behind the watermark, by as much as its time bound says (`hold`). So that no
//! operator needs to know, the time in which it lives is that much behind: [`Upstream::drive`].

mod branch;

use std::sync::Arc;

use self::branch::Branch;
pub(super) use self::branch::Way;
use super::records::{Rows, Verdicts};
use super::{Error, Input, Memory, Output, SourceBatch};
use crate::query::{FeatureQuery, Shape, Window};
use crate::state::{JOIN, StateChange, StateRow, StateView};
use crate::time::{Micros, Span};

/// Where rows go. They are counted as applied by who takes them.
pub(super) type Sink<'s> = &'s mut dyn FnMut(Rows, &mut Verdicts<'_>) -> Result<(), Error>;

/// Entries put back at a time.
const RESTORE_CHUNK: usize = 1 << 16;

/// The input of a query, ready to run, with the rows that wait for partners.
pub(super) struct Upstream {
    query: Arc<FeatureQuery>,
    root: Branch,
    /// The watermark that the previous epoch committed.
    watermark: Micros,
    /// How far the rows may be behind it.
    hold: Span,
    /// Entries of one slice that are to be put back.
    restored: Vec<StateRow>,
    /// How far each source has come with the next epoch; `None`: as far as its watermark.
    complete: Option<Vec<Micros>>,
}

impl Upstream {
    /// The input of a query at a watermark, with nothing that waits. `lateness`: how long rows are taken after
    /// what they belong to has closed.
    pub(super) fn new(query: Arc<FeatureQuery>, watermark: Micros, lateness: Span) -> Result<Self, Error> {
        let hold = match &query.shape {
            Shape::Windowed(windowed) => windowed.time.hold,
            Shape::Rolling(rolling) => rolling.time.hold,
        };
        let reach = Span(reach(&query.shape).0.saturating_add(lateness.0).saturating_add(hold.0));
        // What is kept of each row is kept under the records that it is made of.
        let is_named = matches!(query.shape, Shape::Rolling(_));
        let root = Branch::new(&query.input, &mut 0, is_named, reach)?;
        Ok(Self { query, root, watermark, hold, restored: Vec::new(), complete: None })
    }

    /// Says how far each source has come with the epoch that is applied next.
    pub(super) fn look_up_to(&mut self, sources: &[Micros]) {
        self.complete = Some(sources.to_vec());
    }

    /// Whether rows wait that would not have to, were the sources as far as this.
    pub(super) fn is_due(&self, sources: &[Micros]) -> bool {
        self.root.is_due(sources)
    }

    /// The watermark that the last epoch committed.
    pub(super) fn watermark(&self) -> Micros {
        self.watermark
    }

    /// How far rows may be behind the watermark.
    pub(super) fn hold(&self) -> Span {
        self.hold
    }

    /// The watermark that stands for an instant in the operator's time.
    fn ahead(&self, at: Micros) -> Micros {
        if at == Micros::MIN { at } else { at + self.hold }
    }

    /// Applies an epoch with the operator that takes these rows, `shape`, in the operator's time.
    pub(super) fn drive(
        &mut self,
        input: &Input<'_>,
        shape: impl FnOnce(&Input<'_>, &mut Self) -> Result<Output, Error>,
    ) -> Result<Output, Error> {
        let given = Input {
            batches: input.batches,
            deletes: input.deletes,
            watermark: input.watermark - self.hold,
            finished: input.finished,
            cursor: input.cursor.clone(),
            max_rows: input.max_rows,
            checkpoint: input.checkpoint,
        };
        let mut output = shape(&given, self)?;
        output.watermark = self.ahead(output.watermark);
        output.closed_to = self.ahead(output.closed_to);
        output.lost += self.root.take_lost();
        self.watermark = output.watermark;
        self.root.retire(self.watermark)?;
        if input.checkpoint {
            self.save(&mut output)?;
        }
        Ok(output)
    }

    /// Takes the records of an epoch through the relation to `sink`, in their order, and then what the
    /// watermark brings; what became of the records goes to `output`. Returns the watermark that the epoch
    /// reaches, which is beyond the input's where `finished` lets rows come out that wait.
    pub(super) fn take(
        &mut self,
        input: &Input<'_>,
        output: &mut Output,
        sink: Sink<'_>,
    ) -> Result<Micros, Error> {
        let complete = self.complete.take().unwrap_or_default();
        self.root.complete_to(&complete, self.watermark.max(self.ahead(input.watermark)));
        // What is looked up comes first: rows of the same epoch may look for it.
        let (looked_up, others): (Vec<_>, Vec<_>) =
            input.batches.iter().partition(|batch| self.root.looks_up(usize::from(batch.source)));
        for batch in looked_up.into_iter().chain(others) {
            self.check(batch)?;
            let mut verdicts = Verdicts::new(batch);
            self.root.take(batch.source, Rows::new(&batch.rows), &mut verdicts, self.watermark, sink)?;
            output.record(batch.source, verdicts.judged());
        }
        self.bring(input, sink)
    }

    fn check(&self, batch: &SourceBatch) -> Result<(), Error> {
        let Some(source) = self.query.sources.get(usize::from(batch.source)) else {
            return Err(Error::Contract(format!("there is no source {}", batch.source)));
        };
        if batch.rows.num_columns() != source.columns.len() || batch.rows.num_rows() != batch.offsets.len() {
            return Err(Error::Contract(format!("a batch of '{}' with other columns", source.stream)));
        }
        Ok(())
    }

    /// The way of each batch, if no join is on it: stages, and nothing that a batch before it changes. `None`: there
    /// is a join, for which batches come one after the other.
    pub(super) fn ways(&self, batches: &[SourceBatch]) -> Result<Option<Vec<Way>>, Error> {
        if self.root.has_joins() {
            return Ok(None);
        }
        let way = |batch: &SourceBatch| self.check(batch).map(|()| self.root.way(batch.source));
        batches.iter().map(way).collect()
    }

    /// Takes to `sink` what the watermark brings, after the records of the epoch. Returns the watermark that the
    /// epoch reaches.
    pub(super) fn bring(&mut self, input: &Input<'_>, sink: Sink<'_>) -> Result<Micros, Error> {
        let before = self.watermark;
        let mut reached = before.max(self.ahead(input.watermark));
        self.root.give_up(before, reached, sink)?;
        // What comes out of one join may wait in another one.
        while input.finished
            && let Some(end) = self.root.waits_until(reached)?
        {
            reached = end;
            self.root.give_up(before, reached, sink)?;
        }
        Ok(reached - self.hold)
    }

    /// Takes the entries of joins out of stored ones, to be put back; the others are the operator's.
    pub(super) fn claim(&mut self, row: StateRow) -> Result<Option<StateRow>, Error> {
        if row.key.operator < JOIN {
            return Ok(Some(row));
        }
        let is_of = |last: &StateRow| {
            (last.key.operator, last.key.slice_end) == (row.key.operator, row.key.slice_end)
        };
        if self.restored.len() >= RESTORE_CHUNK || !self.restored.last().is_none_or(is_of) {
            self.put_back()?;
        }
        self.restored.push(row);
        Ok(None)
    }

    /// Puts back what was taken last.
    pub(super) fn put_back(&mut self) -> Result<(), Error> {
        let rows = std::mem::take(&mut self.restored);
        let Some(first) = rows.first() else { return Ok(()) };
        let (operator, slice_end) = (first.key.operator, first.key.slice_end);
        if self.root.restore(operator, slice_end, &rows)? {
            return Ok(());
        }
        let detail = format!("operator {operator} is not in the query");
        Err(Error::State { window_end: slice_end, detail })
    }

    /// What changed since the last checkpoint: before and behind what the operator saved.
    fn save(&mut self, output: &mut Output) -> Result<(), Error> {
        let (mut gone, mut put) = (Vec::new(), Vec::new());
        self.root.save(self.watermark, &mut gone, &mut put)?;
        if !gone.is_empty() {
            let is_drop = |change: &StateChange| matches!(change, StateChange::DropSlice { .. });
            let (dropped, deleted): (Vec<_>, Vec<_>) = gone.into_iter().partition(is_drop);
            let drops = output.state.iter().take_while(|change| is_drop(change)).count();
            output.state.splice(drops..drops, dropped);
            let is_put = |change: &StateChange| matches!(change, StateChange::Put(_));
            let deletes = output.state.iter().take_while(|change| !is_put(change)).count();
            output.state.splice(deletes..deletes, deleted);
        }
        output.state.append(&mut put);
        Ok(())
    }

    /// What the rows that wait take of the memory.
    pub(super) fn memory(&self) -> Memory {
        self.root.memory()
    }

    /// From here on rows of joins may be left in the store.
    pub(super) fn attach(&mut self, view: &Arc<dyn StateView>) -> Result<(), Error> {
        self.root.attach(view)
    }

    /// Lets go of rows of joins until the others take no more than about so many bytes.
    pub(super) fn evict(&mut self, bytes: usize) -> Result<(), Error> {
        self.root.evict(bytes, self.watermark)
    }

    /// What the state amounts to, together with the windows and keys of the operator: slices of rows that
    /// wait, and these rows.
    pub(super) fn open(&self, (windows, keys): (usize, usize)) -> (usize, usize) {
        let (slices, rows) = self.root.len();
        (windows + slices, keys + rows)
    }
}

/// How long after its time a row may still be taken by windows that nobody waits for.
fn reach(shape: &Shape) -> Span {
    match shape {
        Shape::Windowed(windowed) => match windowed.window {
            Window::Tumble { size, .. } | Window::Hop { size, .. } | Window::Cumulate { size, .. } => size,
            Window::Session { gap } => gap,
        },
        Shape::Rolling(_) => Span(1),
    }
}
