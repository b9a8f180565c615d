//! What made a split: the algorithm, its version, its parameters and its seed.

use firebrick_core::Seed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The recipe of a split: with the same rows it gives the same bytes again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Name of the algorithm, as in the documentation of its splitter.
    pub algorithm: String,
    /// Version of the algorithm; it rises when the same input would give another split.
    pub version: u32,
    /// Parameters by name, spelt as in the builder.
    pub parameters: BTreeMap<String, String>,
    /// Seed, where something is random.
    pub seed: Option<Seed>,
}

impl Spec {
    /// Version 1 of `algorithm`, without parameters.
    #[must_use]
    pub fn new(algorithm: impl Into<String>, seed: Option<Seed>) -> Self {
        Self { algorithm: algorithm.into(), version: 1, parameters: BTreeMap::new(), seed }
    }

    /// With one parameter more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.parameters.insert(name.into(), value.to_string());
        self
    }
}
