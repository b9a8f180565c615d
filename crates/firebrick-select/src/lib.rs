#![doc = include_str!("../README.md")]

mod bootstrap;
mod choose;
mod compare;
mod error;
mod fold;
mod interval;
mod outcome;
mod report;
mod run;
mod samples;
pub mod special;
mod store;

pub use bootstrap::{BbcReport, bbc_cv};
pub use choose::{Choice, Criterion, Rule};
pub use compare::{FiveByTwo, McNemar, TTest, corrected_t, five_by_two, mcnemar, paired_t};
pub use error::SelectError;
pub use fold::{Candidate, Fold, Job, folds_of};
pub use interval::{clopper_pearson, corrected_interval, wilson};
pub use outcome::{FoldResult, FoldScore, Outcome};
pub use report::{CandidateReport, CurvePoint, Report, Scores, Spread};
pub use run::{CrossValidation, Progress};
pub use samples::{PowerLaw, Samples};
pub use store::clear_store;
