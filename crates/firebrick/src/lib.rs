//! Makes burn models train stably and generalize, and shows that they do.
//!
#![doc = include_str!("../README.md")]

pub mod prelude;

pub use burn;
pub use firebrick_backend as backend;
pub use firebrick_core as core;
pub use firebrick_diagnose as diagnose;
pub use firebrick_optim as optim;
pub use firebrick_regularize as regularize;
pub use firebrick_select as select;
pub use firebrick_split as split;
pub use firebrick_stabilize as stabilize;
pub use firebrick_train as train;
pub use firebrick_transfer as transfer;
