//! The order-preserving key codec.
