//! What the decoder does, seen from outside: every type by hand, hostile bytes, rows there and back,
//! and two other implementations as oracles.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod golden;
mod hostile;
mod oracle;
mod plain;
mod rows;
mod schemas;
mod value;
mod write;

use arrow::array::RecordBatch;

use super::{Decoder, ReaderSchema, Resolution, Unit};

/// A record schema of these fields.
fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"E","fields":[{fields}]}}"#)
}

/// A reader without event time.
fn reader(fields: &str) -> ReaderSchema {
    ReaderSchema::parse(&record(fields), None).unwrap()
}

fn all(reader: &ReaderSchema) -> Vec<usize> {
    (0..reader.arrow().fields().len()).collect()
}

/// Decodes bodies of one writer into one batch; all of them must be good.
fn decode(reader: &ReaderSchema, writer: &str, bodies: &[&[u8]]) -> RecordBatch {
    let columns = all(reader);
    let resolution = Resolution::compile(writer, reader, &columns).unwrap();
    let mut decoder = Decoder::new(reader, &columns);
    for body in bodies {
        decoder.push(&resolution, body).unwrap();
    }
    assert_eq!(decoder.len(), bodies.len());
    decoder.finish()
}

/// Bodies by hand: zigzag longs and length-prefixed bytes.
fn long(value: i64) -> Vec<u8> {
    let mut out = Vec::new();
    super::wire::put_long(value, &mut out);
    out
}

fn bytes(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    super::wire::put_bytes(value, &mut out);
    out
}
