//! Fine-tuning of pre-trained burn models.
//!
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

pub mod adapter;
pub mod advise;
mod error;
mod floor;
mod forget;
mod freeze;
mod group;
pub mod load;
pub mod near;
mod norm;
pub mod probe;
mod recipe;
pub mod score;
#[cfg(all(test, feature = "flex"))]
mod testing;

pub use adapter::{
    AdaptConfig, AdapterKind, AdapterState, Bottleneck, BottleneckConfig, LoraInit, LowRank,
    Rescale, Scaling, Vera, merge,
};
pub use error::TransferError;
pub use floor::{FloorConfig, FloorGuard, Held, hold_floor};
pub use forget::{Retention, drift, linear_cka};
pub use freeze::Switches;
pub use group::{Group, Groups, Mode, NormMode, Plan, Table, TableRow, Treatment, covers};
pub use near::{
    Anchor, L2Sp, L2SpConfig, Mixout, MixoutConfig, Relationship, Soup, StochNorm, StochNormConfig,
    bss, channel_weights, co_tuning, delta, distillation, greedy_soup, hinton, lwf, pull, wise_ft,
};
pub use norm::reestimate;
pub use recipe::{
    Greedy, Headed, OptimizerState, Phase, PhaseReport, Recipe, Searched, Shape, Stacked,
    TORCH_DEFAULT, Trial, Tune, Tuned, features, fit_head, layer_decay, redraw, spread,
};
