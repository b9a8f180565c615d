//! Honest data splits: exact, reproducible, fast, with a test set that opens once.
