//! What crosses the crates of firebrick: back-ends, burn-train's Learner, whole recipes.
//!
//! The tests are in `suite/`, one binary for all, since each binary links burn anew. Generators of recorded
//! reference values, and the values, are in `references/`.
