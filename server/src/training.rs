//! Training data: point-in-time joins.
