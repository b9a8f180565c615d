//! Keeps a burn model from over-fitting.
//!
#![doc = include_str!("../README.md")]

mod augment;
#[cfg(all(test, feature = "flex"))]
mod bad_input;
mod calibrate;
#[cfg(all(test, feature = "flex"))]
mod checkpointing;
mod complexity;
mod constraint;
mod dropout;
mod ensemble;
mod error;
mod masks;
mod mix;
mod noise;
mod penalty;
mod places;
mod rdrop;
mod replay;
mod sample;
mod select;
mod semi;
mod snapshot;
mod target;
mod units;

pub use augment::*;
pub use calibrate::{Calibration, CalibrationBin, Temperature};
pub use complexity::Complexity;
pub use constraint::{
    GroupLasso, GroupLassoConfig, LassoGroups, MaxNorm, MaxNormConfig, NonNegative, Projection,
    ProximalL1, ProximalL1Config, UnitNorm, UnitNormConfig,
};
pub use dropout::*;
pub use ensemble::{bootstrap_rows, ensemble_probabilities, model_soup};
pub use error::RegularizeError;
pub use masks::MaskSource;
pub use mix::{
    CutBox, CutMix, CutMixConfig, CutPlan, ManifoldMixup, ManifoldMixupConfig, ManifoldPlan,
    MixPlan, Mixed, Mixup, MixupConfig,
};
pub use noise::{
    GradientNoise, GradientNoiseConfig, InputNoise, InputNoiseConfig, LabelNoise, LabelNoiseConfig,
    WeightNoise, WeightNoiseConfig,
};
pub use penalty::*;
pub use rdrop::{RDrop, RDropConfig, RDropLoss};
pub use replay::{RegularizeReplay, replay_case};
pub use select::*;
pub use semi::{
    PseudoReport, Ramp, Release, Unlabelled, fixmatch_loss, mean_teacher_loss, pi_model_loss,
    pseudo_label_loss, uda_loss,
};
pub use snapshot::{Snapshots, SnapshotsConfig};
pub use target::{LabelSmoothing, LabelSmoothingConfig, one_hot, soft_cross_entropy};
pub use units::UnitAxis;
