//! Honest data splits: exact, reproducible, fast, with a test set that opens once.
//!
//! A splitter never sees features, only the number of rows and small columns ([`Rows`]): labels, groups, times.
//! Its product is compact, one byte a row ([`FoldMap`]), and lists rows on demand, ascending. Everything random
//! comes from one pinned generator: the same seed gives the same split on every platform, in every later
//! version, on any number of threads. Bad input is a typed error ([`SplitError`]) before any work; what the
//! user should merely know is a [`Warning`] in the result.
//!
//! ```
//! use firebrick_core::Seed;
//! use firebrick_split::{HoldOut, Rows, Splits, Splitter, StratifiedKFold};
//!
//! // 150 rows of three classes: 20 % for the test, five folds over the rest.
//! let labels: Vec<u32> = (0..150).map(|row| row / 50).collect();
//! let roles = HoldOut::new(0.2)
//!     .with_stratified()
//!     .with_shuffle(Seed(7))
//!     .split(&Rows::new(150).with_labels(&labels))?;
//! let development = roles.development();
//! let rest: Vec<u32> = development.iter().map(|&row| labels[row as usize]).collect();
//! let folds = StratifiedKFold::new(5)
//!     .with_shuffle(Seed(7))
//!     .split(&Rows::new(rest.len()).with_labels(&rest))?;
//! for split in folds.iter() {
//!     assert_eq!((split.train.len(), split.valid.len()), (96, 24));
//! }
//! # Ok::<(), firebrick_split::SplitError>(())
//! ```

mod adapters;
mod apportion;
mod audit;
mod axis;
mod bootstrap;
#[cfg(feature = "burn")]
mod burn_views;
mod classes;
pub mod encode;
mod error;
mod fair;
mod fingerprint;
mod group;
mod group_holdout;
mod halving;
mod hex;
mod holdout;
mod ids;
mod kfold;
mod leave_out;
mod ledger;
mod ledger_file;
mod listing;
mod manifest;
mod map;
mod multilabel;
mod predefined;
#[cfg(test)]
mod promises;
#[cfg(test)]
mod properties;
mod purged;
mod replay;
mod resample;
mod reusable;
mod roles;
mod rows;
mod rowset;
mod sealed;
mod shuffle;
mod size;
mod spec;
mod splitter;
mod stable;
mod stratified;
mod stratified_group;
mod target;
mod time;
#[cfg(test)]
mod uniformity;
mod warning;
mod weights;

pub use adapters::{Nested, NestedSplits, Repeated, RepeatedSplits, ShuffleSplit};
pub use audit::{Audit, AuditReport, Check, Verdict};
pub use axis::TimeUnit;
pub use bootstrap::{
    Bootstrap, BootstrapEstimate, BootstrapSplits, no_information_error, no_information_loss,
};
#[cfg(feature = "burn")]
pub use burn_views::{EpochLoader, Loaders, Subset, read_labels, split_dataset};
pub use error::SplitError;
pub use fingerprint::{Fingerprint, RowHashes, hash_bytes, hash_f32};
pub use group::GroupKFold;
pub use halving::{Halving, Rung, hyperband, survivors};
pub use holdout::{GroupUnit, HoldOut, Rare};
pub use ids::MAX_FOLDS;
pub use kfold::KFold;
pub use leave_out::{DEFAULT_CAP, LeaveOutSplits, LeavePGroupsOut, LeavePOut, combinations};
pub use ledger::{Ledger, Opening};
pub use manifest::{DataChange, ListManifest, Manifest};
pub use map::{FoldLists, FoldMap, PartName};
pub use multilabel::{LabelSets, MultilabelHoldOut, MultilabelKFold};
pub use predefined::{Predefined, PredefinedSplits};
pub use purged::{
    BacktestPath, CombinatorialPurged, CombinatorialSplits, PurgedKFold, PurgedSplits,
};
pub use replay::{ReplayReport, replay};
pub use resample::{ResampleReport, Resampled, Target, down_sample, learning_curve};
pub use reusable::{Ladder, ReusableHoldout, Thresholdout};
pub use roles::{Parts, Roles, Train, Validation};
pub use rows::{MAX_ROWS, Rows};
pub use rowset::RowSet;
pub use sealed::{Frozen, Metrics, ModelDigest, Sealed, TestReport};
pub use size::{Quota, Size};
pub use spec::Spec;
pub use splitter::{Split, Splits, Splitter};
pub use stable::{FeistelFolds, HashSplit};
pub use stratified::StratifiedKFold;
pub use stratified_group::{GroupMode, StratifiedGroupKFold};
pub use target::{TargetKFold, quantile_bins};
pub use time::{SlidingWindow, TimeSeries, TimeSplits};
pub use warning::Warning;
pub use weights::{WeightedSampler, Weighting, class_weights, corrected_probability};

/// The sample of the read-me runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod read_me {}
