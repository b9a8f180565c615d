//! The plan: for every parameter of the model where its values come from, and for every tensor of the file where it
//! goes, before anything is changed.

use burn::tensor::TensorData;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::checkpoint::hex;
use super::error::{LoadError, Problem};
use super::format::Format;
use super::layout::Layout;

/// What becomes of a parameter of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Class {
    /// Name, shape, kind and precision are equal: the bits are taken over.
    Exact,
    /// The same under another name, by a declared rule.
    Renamed,
    /// Changed on the way: transposed, cast, gathered, resampled.
    Transformed,
    /// Declared as the same tensor as another, which has it.
    Tied,
    /// A head or what was declared fresh: not taken from the file.
    Reinitialized,
    /// Not in the file.
    Missing,
    /// In the file, and it does not fit.
    Conflict,
}

impl Class {
    /// All classes, in the order of the report.
    pub const ALL: [Self; 7] = [
        Self::Exact,
        Self::Renamed,
        Self::Transformed,
        Self::Tied,
        Self::Reinitialized,
        Self::Missing,
        Self::Conflict,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Renamed => "renamed",
            Self::Transformed => "transformed",
            Self::Tied => "tied",
            Self::Reinitialized => "reinitialized",
            Self::Missing => "missing",
            Self::Conflict => "conflict",
        }
    }

    /// Whether the values come from the file.
    #[must_use]
    pub fn is_loaded(self) -> bool {
        matches!(self, Self::Exact | Self::Renamed | Self::Transformed | Self::Tied)
    }
}

/// One parameter of the model in a plan.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Entry {
    /// Path in the model.
    pub path: String,
    /// Name in the file, where it has one.
    pub source: Option<String>,
    /// What becomes of it.
    pub class: Class,
    /// Whether it belongs to a declared head.
    pub head: bool,
    /// Shape in the model.
    pub shape: Vec<usize>,
    /// Shape in the file.
    pub file_shape: Option<Vec<usize>>,
    /// Element type in the model, as text.
    pub dtype: String,
    /// Element type in the file, as text.
    pub file_dtype: Option<String>,
    /// What is done on the way, in order: `transposed`, `cast from F16`.
    pub steps: Vec<String>,
    /// Euclidean norm in the file.
    pub norm_before: Option<f64>,
    /// Euclidean norm of what is written.
    pub norm_after: Option<f64>,
    /// SHA-256 of what is written, in hexadecimal digits.
    pub digest: Option<String>,
    /// The values to write.
    #[serde(skip)]
    pub(super) data: Option<TensorData>,
}

impl Entry {
    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A tensor of the file that goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Unused {
    /// Name in the file.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Whether it was declared, belongs to a fresh head, or is a counter or an optimizer's.
    pub declared: bool,
}

/// Something that a trained network rarely has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Suspicion {
    /// Path in the model.
    pub path: String,
    /// What is odd.
    pub reason: String,
}

/// What would become of every tensor, and why it may not be done. Printed, it is a report.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    pub(super) path: std::path::PathBuf,
    pub(super) format: Format,
    pub(super) file_digest: String,
    pub(super) bytes: u64,
    pub(super) layout: Layout,
    pub(super) layout_reason: String,
    pub(super) entries: Vec<Entry>,
    pub(super) unused: Vec<Unused>,
    pub(super) suspicions: Vec<Suspicion>,
    pub(super) suggestions: Vec<String>,
    pub(super) problems: Vec<Problem>,
    pub(super) min_coverage: f64,
}

impl LoadPlan {
    /// The model's parameters, in its order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of a path.
    #[must_use]
    pub fn entry(&self, path: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.path == path)
    }

    /// The file's tensors that go nowhere.
    #[must_use]
    pub fn unused(&self) -> &[Unused] {
        &self.unused
    }

    /// What is odd about the values; warnings.
    #[must_use]
    pub fn suspicions(&self) -> &[Suspicion] {
        &self.suspicions
    }

    /// Declarations that might help, as code. They are never applied.
    #[must_use]
    pub fn suggestions(&self) -> &[String] {
        &self.suggestions
    }

    /// Why the plan would be refused; none if it can be applied.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The layout of the file, stated or found.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// SHA-256 of the file, in hexadecimal digits.
    #[must_use]
    pub fn file_digest(&self) -> &str {
        &self.file_digest
    }

    /// Number of parameters of a class.
    #[must_use]
    pub fn count(&self, class: Class) -> usize {
        self.entries.iter().filter(|entry| entry.class == class).count()
    }

    /// Share of the elements outside the heads that come from the file, 0 to 1; 1 for a model that is all head.
    #[must_use]
    pub fn coverage(&self) -> f64 {
        let body = self.entries.iter().filter(|entry| !entry.head);
        let (mut loaded, mut all) = (0, 0);
        for entry in body {
            all += entry.elements();
            loaded += if entry.class.is_loaded() { entry.elements() } else { 0 };
        }
        if all == 0 { 1.0 } else { loaded as f64 / all as f64 }
    }

    /// Whether the plan can be applied.
    ///
    /// # Errors
    ///
    /// [`LoadError::Refused`] with every problem.
    pub fn check(&self) -> Result<(), LoadError> {
        match self.problems.as_slice() {
            [] => Ok(()),
            problems => Err(LoadError::Refused { problems: problems.to_vec() }),
        }
    }
}

/// The digest of a tensor: element type, shape and bits.
pub(super) fn digest(data: &TensorData) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{:?} {:?} ", data.dtype(), data.shape().to_vec()));
    hash.update(data.as_bytes());
    hex(&hash.finalize())
}
