//! Pipelines: what keeps one feature group up to date.
