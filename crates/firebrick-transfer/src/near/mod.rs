//! Staying near the source: penalties, losses and layers that keep a fine-tuned model close to what it came from.

pub mod anchor;
pub mod average;
pub mod behaviour;
pub mod distill;
pub mod mixout;
#[cfg(all(test, feature = "flex"))]
mod recorded;
mod spectrum;
pub mod stoch_norm;
pub mod transfer_classes;

pub(crate) use anchor::pull_by;
pub use anchor::{Anchor, L2Sp, L2SpConfig, pull};
pub use average::{Soup, greedy_soup, wise_ft};
pub use behaviour::{channel_weights, delta};
pub use distill::{distillation, hinton, lwf};
pub use mixout::{Mixout, MixoutConfig};
pub use spectrum::bss;
pub use stoch_norm::{StochNorm, StochNormConfig};
pub use transfer_classes::{Relationship, co_tuning};
