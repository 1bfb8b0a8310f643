//! SQL in: one SELECT, planned by DataFusion, lowered to a [`crate::query::FeatureQuery`].
