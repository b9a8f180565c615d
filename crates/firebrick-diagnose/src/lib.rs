//! Says from a run's history what is wrong with it and what to do about it.
