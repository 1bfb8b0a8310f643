//! The pure core of Millpond: no I/O, no clock, no async, no randomness.
//!
//! Records come in as bytes with their addresses, rows go out with their keys, and everything that
//! decides between the two is an argument: the definition ([`query`]), the state, the records and
//! what the journal entry of the epoch holds ([`epoch`]). That makes any epoch ever committed
//! repeatable, bit for bit.
//!
//! A record's way: [`avro`] (bytes → Arrow) → [`epoch`] (filter, window, aggregate, close) → rows
//! in the order of their encoded [`key`]s. [`sql`] makes the [`query::FeatureQuery`] it follows.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::type_complexity,
        clippy::needless_pass_by_value,
        clippy::float_cmp
    )
)]

pub mod avro;
pub mod epoch;
mod join;
pub mod json;
pub mod key;
mod lookup;
pub mod pick;
pub mod query;
mod rolling;
mod runs;
pub mod sql;
pub mod state;
pub mod time;
pub mod watermark;
pub mod window;
pub mod workers;
