//! What can go wrong when a model is stabilized.

use firebrick_core::ConfigError;

/// Why a request about a model was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StabilizeError {
    /// A value outside its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A selection that no parameter of the model answers.
    #[error("{selection} selects no parameter of the model; it has {known}")]
    NothingSelected {
        /// The selection as text.
        selection: String,
        /// The paths, or layer kinds, that the model has.
        known: String,
    },
    /// A scheme or a list of values that does not fit the shape of a parameter.
    #[error("`{path}` of shape {shape:?} cannot be set: {reason}")]
    Shape {
        /// Path of the parameter.
        path: String,
        /// Its shape.
        shape: Vec<usize>,
        /// What does not fit.
        reason: String,
    },
    /// A number that had to be finite was not.
    #[error("{what} is {value}, which must be finite")]
    NotFinite {
        /// What was computed.
        what: String,
        /// What came out.
        value: f64,
    },
    /// A layer whose output keeps its size whatever its weights are multiplied by.
    #[error(
        "the deviation of the output of `{layer}` stays {deviation:.3e} though {weights} was multiplied by {factor:.3e}: run LSUV before weights are reparameterized, and show outputs before a norm; or a bias outweighs them"
    )]
    Unmoved {
        /// The layer's path.
        layer: String,
        /// The paths of what was multiplied.
        weights: String,
        /// What it was multiplied by.
        factor: f64,
        /// The deviation after it.
        deviation: f64,
    },
    /// Two finite-difference steps disagree, as at the kinks of ReLU or where rounding takes over.
    #[error(
        "the Hessian-vector product at step {step:e} and at a third of it differ by {difference:e} (relative), more than {tolerance:e}: try another `step`, or a smooth activation"
    )]
    Disagreement {
        /// The step that was tried.
        step: f64,
        /// The relative difference of the two products.
        difference: f64,
        /// What was allowed.
        tolerance: f64,
    },
    /// A recorded case of a clipping that is not known.
    #[error("the clipping `{name}` is none of clip_grad_norm, clip_grad_value")]
    UnknownClip {
        /// As given.
        name: String,
    },
    /// A recorded case that cannot be understood.
    #[error("the case is not understood: {0}")]
    Case(String),
}
