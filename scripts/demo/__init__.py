"""`make demo`: real events in, vectors and training data out, each number beside its recomputation."""
