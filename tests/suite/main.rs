//! Tests that need more than one crate.

mod backends;
mod learner;
mod net;
