//! Keeps a burn model from over-fitting.
//!
#![doc = include_str!("../README.md")]

mod constraint;
mod dropout;
mod error;
mod masks;
mod penalty;
mod units;

pub use constraint::{
    GroupLasso, GroupLassoConfig, LassoGroups, MaxNorm, MaxNormConfig, NonNegative, Projection,
    ProximalL1, ProximalL1Config, UnitNorm, UnitNormConfig,
};
pub use dropout::*;
pub use error::RegularizeError;
pub use masks::MaskSource;
pub use penalty::*;
pub use units::UnitAxis;
