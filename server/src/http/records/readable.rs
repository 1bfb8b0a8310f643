//! Raw records as rows, for people: what cannot be decoded has none.

use std::collections::HashMap;

use millpond_engine::avro::{self, Decoder, JsonDecoder, ReaderSchema, Resolution};
use millpond_engine::json;
use serde_json::Value;

use crate::app::App;
use crate::catalog::{Format, StreamEntry};
use crate::pipeline::json_body;

/// Decodes the records of one page; a writer's schema is parsed once.
pub struct Readable<'a> {
    app: &'a App,
    reader: &'a ReaderSchema,
    columns: Vec<usize>,
    bodies: Bodies,
}

enum Bodies {
    /// By schema id; `None`: the schema is unknown, or does not fit.
    Avro {
        decoder: Box<Decoder>,
        resolutions: HashMap<u32, Option<Resolution>>,
    },
    Json(Box<JsonDecoder>),
    /// The server's own records have no row that people would read.
    Changes,
}

impl<'a> Readable<'a> {
    /// Rows as the stream's schema reads them.
    pub fn new(app: &'a App, stream: &'a StreamEntry) -> Self {
        let reader = &*stream.reader;
        let columns: Vec<usize> = (0..reader.arrow().fields().len()).collect();
        let bodies = match stream.def.format {
            Format::Avro => Bodies::Avro {
                decoder: Box::new(Decoder::new(reader, &columns)),
                resolutions: HashMap::new(),
            },
            Format::Json => Bodies::Json(Box::new(JsonDecoder::new(reader, &columns))),
            Format::Changes => Bodies::Changes,
        };
        Self { app, reader, columns, bodies }
    }

    /// The row of an event; looking at a record must not fail because it is broken.
    pub fn row(&mut self, value: &[u8]) -> Option<Value> {
        let batch = match &mut self.bodies {
            Bodies::Avro { decoder, resolutions } => {
                let (id, body) = avro::parse_frame(value).ok()?;
                let resolution = resolutions.entry(id).or_insert_with(|| {
                    let writer = self.app.registry.schema(id).ok()?;
                    Resolution::compile(&writer, self.reader, &self.columns).ok()
                });
                decoder.push(resolution.as_ref()?, body).ok()?;
                decoder.finish()
            }
            Bodies::Json(decoder) => {
                decoder.push(json_body(value)).ok()?;
                decoder.finish()
            }
            Bodies::Changes => return None,
        };
        Some(Value::Object(json::rows(&batch).pop()?))
    }
}
