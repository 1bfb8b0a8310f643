//! The schema registry: embedded by default, external by URL.
