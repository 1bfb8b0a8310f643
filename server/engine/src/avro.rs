//! Avro: schemas, frames, and a decoder of our own straight into Arrow.
//!
//! A record's way: [`parse_frame`] takes the Confluent frame off, the writer's schema (looked up by
//! its id) and the stream's [`ReaderSchema`] are compiled once into a [`Resolution`], and a
//! [`Decoder`] runs it over one body after the other into its own column builders. A body that
//! cannot be decoded is rolled back and named; its neighbours never notice.
//!
//! A [`JsonDecoder`] does the same with plain JSON texts, under the same reader schema.
//!
//! [`encode_row`] goes the other way, plain JSON to a body, and so do [`Bodies`], Arrow rows under the
//! record that [`avro_record`] derives from their columns. [`compatibility`] is the registry's
//! check, [`normalised`] the text that two schemas share exactly when they mean the same.
//!
//! The rules are those of the Avro specification 1.12 ("Schema Resolution"), with these decisions:
//! names of records, enums and fixed types do not matter, only field names and aliases do; a
//! timestamp in another unit is converted, never reinterpreted; a decimal of another precision or
//! scale is refused.

mod batch;
mod canonical;
mod column;
mod compat;
mod decode;
mod derive;
mod encode;
mod exact;
mod fault;
mod frame;
mod graph;
mod inline;
mod op;
mod plain;
mod reader;
mod resolve;
mod scalar;
mod skip;
mod text;
mod types;
mod wire;
mod write;

pub use canonical::{Normal, normalised};
pub use compat::{Incompatibility, compatibility};
pub use decode::{DecodeError, Decoder};
pub use derive::{Unwritable, avro_record, avro_type};
pub use encode::{RowError, encode_row};
pub use exact::exact_json;
pub use frame::{FRAME_LEN, FrameError, frame, parse_frame};
pub use graph::Unit;
pub use inline::self_contained;
pub use plain::{JsonDecoder, JsonError};
pub use reader::{ReaderSchema, SchemaError};
pub use resolve::Resolution;
pub use write::Bodies;

/// No body may be longer than this; it is also the most that one value may take.
pub const MAX_BODY: usize = 16 << 20;
/// How deep types may nest, in schemas and in skipped values of recursive writers' types.
pub const MAX_DEPTH: usize = 32;

#[cfg(test)]
mod tests;
