//! Streams, feature groups and feature views: their definitions, identities and rules.

pub mod definition;
pub mod name;

pub use definition::*;
pub use name::Name;
