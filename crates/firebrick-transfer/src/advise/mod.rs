//! Which fine-tuning for this data: the survey's table, what it is worth, and the measurement that settles it.
//!
//! [`Adviser`] looks at frozen features only, which costs seconds: how many samples, how similar the data are to those
//! that the model was trained on, which of the four cells of the table that is, and how sure it is of it. Where it is
//! not sure it answers [`Verdict::Measure`], and [`Measured`] runs the short list on the same folds and picks;
//! [`Adviser::choose`] does both.
//!
//! | who chooses | knows | costs |
//! | --- | --- | --- |
//! | [`QuadrantRule`] | few or many, similar or not: the table as it stands | a probe |
//! | [`RevisedRule`] | what measurements left of the table | a probe |
//! | [`Measured`] | the scores of the short list on held-out folds of the labelled data | folds x short list fits |
//!
//! A target with few labels and many unlabelled samples is a case for the semi-supervised methods of
//! firebrick-regularize (`firebrick_regularize::semi`).

mod advice;
mod choose;
mod config;
mod contender;
mod error;
mod look;
mod measure;
mod measurement;
mod rule;
mod target;
#[cfg(test)]
mod tests;

pub use advice::{Advice, Interval, Named, Similarity, Size, Verdict};
pub use choose::Chosen;
pub use config::AdviserConfig;
pub use contender::{Contender, MeasureConfig, Tie, Trial};
pub use error::AdviseError;
pub use look::Adviser;
pub use measure::Measured;
pub use measurement::{Entry, Measurement, Paired};
pub use rule::{Cell, QuadrantRule, RevisedRule, Tuning};
pub use target::{LearningCurve, Target};
