//! Streams, feature groups and feature views: their definitions, identities and rules.

pub mod definition;
pub mod history;
pub mod name;
pub mod types;

pub use definition::*;
pub use name::Name;
