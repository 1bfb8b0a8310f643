//! The real router over a real store, driven in this process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod access;
mod documents;
mod harness;
mod ingested;
mod main_job;
mod mentions;
mod moved;
mod refusals;
mod vectors;
