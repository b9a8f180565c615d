//! The words that the firebrick crates share: configuration errors and range checks, the seed and its
//! pinned generator, and the history that a run writes down.
//!
//! Nothing here knows burn. The crate is small and kept small: what only one crate needs lives there.
//!
//! ```
//! use firebrick_core::{Seed, check};
//!
//! let refused = check::range("beta_1", 1.2, 0.0..1.0).unwrap_err();
//! assert_eq!(refused.to_string(), "`beta_1` must be in [0, 1), got 1.2");
//!
//! let mut rows: Vec<u32> = (0..5).collect();
//! Seed(7).stream("shuffle").shuffle(&mut rows);
//! assert_eq!(rows, [2, 1, 4, 0, 3]); // on every platform, in every later version
//! ```

pub mod check;
mod error;
mod history;
mod philox;
mod seed;

pub use error::ConfigError;
pub use history::{History, HistoryError, Record, names};
pub use philox::Philox;
pub use seed::Seed;
