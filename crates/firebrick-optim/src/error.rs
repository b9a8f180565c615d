//! What can go wrong in this crate.

use firebrick_core::ConfigError;

/// An error of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptimError {
    /// A configuration value outside its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A saved state that cannot be read or written.
    #[error("the optimizer's record cannot be read or written: {reason}")]
    Record {
        /// What burn says.
        reason: String,
    },
    /// A saved state that belongs to another rule.
    #[error(
        "the record's state of `{path}` was saved by another rule than `{rule}`, which steps it now"
    )]
    OtherRule {
        /// The parameter.
        path: String,
        /// The rule that steps it now.
        rule: String,
    },
    /// A saved state of another shape.
    #[error("the record's state of `{path}` has shape {saved:?}, the parameter has {shape:?}")]
    OtherShape {
        /// The parameter.
        path: String,
        /// Shape in the record.
        saved: Vec<usize>,
        /// Shape of the parameter.
        shape: Vec<usize>,
    },
    /// A saved state of a parameter that the module does not have.
    #[error("the record holds state of `{path}`, which the module does not have")]
    NoSuchParameter {
        /// The parameter.
        path: String,
    },
    /// A saved state that lacks a parameter of the module.
    #[error("the record holds nothing for `{path}`, which the module has")]
    MissingParameter {
        /// The parameter.
        path: String,
    },
    /// No optimizer has this name.
    #[error("no optimizer is called `{name}`; known are {known}")]
    UnknownName {
        /// As given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A keyword that an optimizer does not have.
    #[error("`{name}` has no hyper-parameter `{keyword}`")]
    UnknownKeyword {
        /// The optimizer.
        name: String,
        /// As given.
        keyword: String,
    },
    /// A variant of another library that is not offered here.
    #[error("`{name}` is not offered with `{keyword}`: {reason}")]
    NotOffered {
        /// The optimizer.
        name: String,
        /// The other library's keyword.
        keyword: String,
        /// What is offered instead.
        reason: String,
    },
    /// A configuration in JSON that does not fit.
    #[error("the configuration of `{name}` does not fit: {reason}")]
    Json {
        /// The optimizer.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A recorded case that does not fit.
    #[error("the case of `{name}` does not fit: {reason}")]
    Case {
        /// The optimizer.
        name: String,
        /// What is wrong.
        reason: String,
    },
}
