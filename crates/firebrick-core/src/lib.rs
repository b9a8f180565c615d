//! The words that the firebrick crates share.
//!
#![doc = include_str!("../README.md")]

pub mod check;
mod error;
mod history;
mod philox;
mod seed;

pub use error::ConfigError;
pub use history::{History, HistoryError, Record, names};
pub use philox::Philox;
pub use seed::Seed;
