//! Writers' schemas of one source: each id looked up and compiled once.

use std::collections::HashMap;
use std::sync::Arc;

use millpond_engine::avro::{ReaderSchema, Resolution};

/// What the schema registry says about an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The schema, as Avro JSON.
    Known(Arc<str>),
    /// There is none, and that is final.
    Unknown,
    /// No answer, or none yet: asked again later.
    NotYet(String),
}

/// What can be done with a record of some writer's schema.
pub enum Writer {
    /// It can be decoded.
    Resolved(Box<Resolution>),
    /// The schema does not fit the stream's: why.
    Incompatible(String),
    /// The registry does not know the id.
    Unknown,
}

/// The ids met so far.
pub struct Schemas {
    reader: Arc<ReaderSchema>,
    columns: Vec<usize>,
    writers: HashMap<u32, Writer>,
}

impl Schemas {
    /// Schemas that resolve to these columns of a reader schema.
    pub fn new(reader: Arc<ReaderSchema>, columns: Vec<usize>) -> Self {
        Self { reader, columns, writers: HashMap::new() }
    }

    /// Looks an id up, unless it is known. `Err`: no answer yet.
    pub fn learn(&mut self, id: u32, lookup: &mut dyn FnMut(u32) -> Lookup) -> Result<(), String> {
        if self.writers.contains_key(&id) {
            return Ok(());
        }
        let writer = match lookup(id) {
            Lookup::NotYet(reason) => return Err(reason),
            Lookup::Unknown => Writer::Unknown,
            Lookup::Known(json) => match Resolution::compile(&json, &self.reader, &self.columns) {
                Ok(resolution) => Writer::Resolved(Box::new(resolution)),
                Err(error) => Writer::Incompatible(error.to_string()),
            },
        };
        self.writers.insert(id, writer);
        Ok(())
    }

    /// What is known about an id; one that was never learnt is unknown.
    pub fn get(&self, id: u32) -> &Writer {
        self.writers.get(&id).unwrap_or(&Writer::Unknown)
    }

    /// Forgets the ids that were unknown: they may be registered by the next time they are met.
    pub fn forget_unknown(&mut self) {
        self.writers.retain(|_, writer| !matches!(writer, Writer::Unknown));
    }
}
