//! Fine-tuning of pre-trained burn models.
//!
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

pub mod advise;
mod error;
pub mod load;
pub mod probe;
pub mod score;

pub use error::TransferError;
