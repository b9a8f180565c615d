//! What can be wrong with the input of a regularizer.

use firebrick_core::ConfigError;

/// The error of this crate: what was wrong and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegularizeError {
    /// A configuration value outside its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A tensor of the wrong shape.
    #[error("{what} must be {expected}, got shape {found:?}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// What would have been accepted.
        expected: String,
        /// The shape that was given.
        found: Vec<usize>,
    },
    /// Nothing to work on.
    #[error("{what} is empty")]
    Empty {
        /// Which tensor or list.
        what: &'static str,
    },
    /// A class label that does not exist.
    #[error("label {label} of row {row} must be in [0, {classes})")]
    Label {
        /// Row of the label, from 0.
        row: usize,
        /// The label.
        label: i64,
        /// Number of classes.
        classes: usize,
    },
    /// A value that is NaN or infinite where arithmetic needs a number.
    #[error("{what} must be finite, got {value} at position {position}")]
    NotFinite {
        /// Which list.
        what: &'static str,
        /// The value, as text.
        value: String,
        /// Its position, from 0.
        position: usize,
    },
    /// A layer of a type whose unit axis is unknown.
    #[error(
        "the unit axis of `{path}` in a layer of type `{owner}` is unknown: name it with `UnitAxis::At`, or limit the paths"
    )]
    UnitAxis {
        /// Path of the parameter.
        path: String,
        /// Type of the layer that owns it.
        owner: String,
    },
    /// A transposed convolution with groups, of whose weight no axis counts units.
    #[error(
        "`{path}` has {found} entries where a layer of {units} units has one for each: a transposed convolution with groups has no unit axis; name an axis with `UnitAxis::At`, or limit the paths"
    )]
    GroupedUnits {
        /// Path of the weight.
        path: String,
        /// Its length along what would be the unit axis.
        found: usize,
        /// Units of the layer, which its bias counts.
        units: usize,
    },
    /// A method that the model makes meaningless, with what to do instead.
    #[error("{0}")]
    Refused(&'static str),
    /// A recorded case that cannot be replayed.
    #[error("{0}")]
    Case(String),
    /// A recorded case whose name is not known.
    #[error("`{name}` is no case that can be replayed")]
    UnknownCase {
        /// The name.
        name: String,
    },
    /// A recorded case with an argument that its name does not take.
    #[error("a case of `{name}` takes no argument `{key}`")]
    UnknownArgument {
        /// The name of the case.
        name: String,
        /// The argument.
        key: String,
    },
    /// A tensor could not be read from its device.
    #[error("a tensor could not be read: {0}")]
    Read(String),
}

impl From<burn::tensor::TensorReadError> for RegularizeError {
    fn from(error: burn::tensor::TensorReadError) -> Self {
        Self::Read(error.to_string())
    }
}
