//! Adapters on weights: a few parameters that train in the place of many.

mod apply;
pub mod bottleneck;
mod file;
mod hang;
mod kind;
pub mod low_rank;
mod matrix;
#[cfg(all(test, feature = "flex"))]
mod recorded;
mod state;
pub mod vera;
mod walk;

pub use apply::AdaptConfig;
pub use bottleneck::{Bottleneck, BottleneckConfig};
pub use kind::{AdapterKind, LoraInit, Scaling};
pub use low_rank::LowRank;
pub use state::{AdapterState, merge};
pub use vera::{Rescale, Vera};
