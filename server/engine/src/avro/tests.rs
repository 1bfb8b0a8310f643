//! What the decoder does, seen from outside.
