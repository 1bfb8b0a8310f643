//! Whole pipelines in one process: events in the log, rows out of the store, and an oracle between them
//! that shares nothing with the engine but the journal.

mod ahead;
mod faults;
mod oracle;
mod replay;
mod time;
mod tombstones;
mod world;
