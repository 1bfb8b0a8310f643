//! The application: every part, wired in the order of a record's way.
