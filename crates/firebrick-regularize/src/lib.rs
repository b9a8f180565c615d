//! Keeps a burn model from over-fitting.
//!
#![doc = include_str!("../README.md")]

mod augment;
mod constraint;
mod dropout;
mod error;
mod masks;
mod mix;
mod noise;
mod penalty;
mod rdrop;
mod sample;
mod target;
mod units;

pub use augment::*;
pub use constraint::{
    GroupLasso, GroupLassoConfig, LassoGroups, MaxNorm, MaxNormConfig, NonNegative, Projection,
    ProximalL1, ProximalL1Config, UnitNorm, UnitNormConfig,
};
pub use dropout::*;
pub use error::RegularizeError;
pub use masks::MaskSource;
pub use mix::{
    CutMix, CutMixConfig, ManifoldMixup, ManifoldMixupConfig, ManifoldPlan, MixPlan, Mixed, Mixup,
    MixupConfig,
};
pub use noise::{
    GradientNoise, GradientNoiseConfig, InputNoise, InputNoiseConfig, LabelNoise, LabelNoiseConfig,
    WeightNoise, WeightNoiseConfig,
};
pub use penalty::*;
pub use rdrop::{RDrop, RDropConfig, RDropLoss};
pub use target::{LabelSmoothing, LabelSmoothingConfig, one_hot, soft_cross_entropy};
pub use units::UnitAxis;
