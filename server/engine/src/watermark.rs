//! Watermarks: event time as far as each partition, stream and pipeline has come.
