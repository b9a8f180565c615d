//! Fine-tuning of pre-trained burn models.
//!
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod error;
pub mod load;

pub use error::TransferError;
