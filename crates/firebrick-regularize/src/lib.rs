//! Keeps a burn model from over-fitting.
//!
#![doc = include_str!("../README.md")]

mod dropout;
mod error;
mod masks;
mod penalty;

pub use dropout::*;
pub use error::RegularizeError;
pub use masks::MaskSource;
pub use penalty::{L1, L1Config, L2, L2Config, L2Convention, Penalty, PenaltyScope};
