//! Avro: schemas, frames, and a decoder of our own straight into Arrow.
