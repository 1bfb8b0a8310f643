//! Rolling features: what is kept of the records of each key for as long as a frame looks back on them.
//!
//! ```text
//! Keys    key → its entries (time, row), in the order of time        what a frame is a range of
//! Slices  stretch of time → columns of the rows in it                what a frame's values are taken from
//! ```
//!
//! A record is an [`Entry`] of its key and a row of the slice that holds its time. Slices are dropped whole,
//! and take their entries with them. [`Timers`] has the instants at which a frame may become empty. Entries and
//! timers are not saved: they follow from the rows.

mod gather;
mod keys;
mod marks;
mod records;
mod slices;
mod timers;

pub(crate) use gather::{Gather, Places};
pub(crate) use keys::Keys;
pub(crate) use marks::Marks;
pub(crate) use records::{Entry, Records, Totals};
pub(crate) use slices::{IDENTITY, Identity, Slice, Slices, identity_columns};
pub(crate) use timers::Timers;
