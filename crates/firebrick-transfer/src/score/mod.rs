//! How much a source model has to say about a target: scores of features and labels, in f64 on the host.
//!
//! | score | needs | reads | weak where |
//! | --- | --- | --- | --- |
//! | [`log_me`] | features, labels | evidence of a linear model | no intercept: centre first |
//! | [`h_score`] | features, labels | variance between classes | plain covariance refused at few rows |
//! | [`trans_rate`] | features, labels | bits saved by the class | depends on the scale |
//! | [`gbc`] | features, labels | overlap of classes | 3 samples of each class at least |
//! | [`knn_leave_one_out`] | features, labels | accuracy of neighbours | 2 of each class at least |
//! | [`RidgeProbe`](crate::probe::RidgeProbe) | features, labels | accuracy of a linear head | its lambda is chosen by the same score |
//! | [`leep`], [`nce`] | source head's outputs, labels | what the source head says of the label | needs the head |
//! | [`frechet_distance`], [`mmd`], [`domain_auc`] | features of both data sets | distance of the inputs | says nothing of the labels |
//! | [`cka`] | two representations of the same rows | how far a layer moved | large at few rows |
//!
//! None ranks recipes reliably: scores agree on which shift hurts and not on what to do about it. Measure.

mod cka;
mod domain;
mod error;
mod frechet;
mod gbc;
mod h_score;
mod input;
mod knn;
mod label;
pub(crate) mod linalg;
mod log_me;
mod mmd;
#[cfg(test)]
mod tests;
mod trans_rate;

pub use cka::cka;
pub use domain::{DomainAuc, domain_auc};
pub use error::ScoreError;
pub use frechet::frechet_distance;
pub use gbc::{ClassShape, gbc};
pub use h_score::{Covariance, h_score};
pub use input::{Features, Labels};
pub(crate) use knn::first_largest;
pub use knn::{LeaveOneOut, knn_leave_one_out};
pub use label::{leep, nce};
pub use log_me::log_me;
pub use mmd::{Mmd, mmd};
pub use trans_rate::trans_rate;
