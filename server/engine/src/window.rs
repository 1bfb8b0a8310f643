//! Windows: panes of vectorised accumulators, one object per window.
