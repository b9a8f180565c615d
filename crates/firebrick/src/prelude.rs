//! What nearly every program with firebrick names, in one line: `use firebrick::prelude::*`.

#[doc(no_inline)]
pub use firebrick_backend::DeviceSpec;
#[doc(no_inline)]
pub use firebrick_core::Seed;
#[doc(no_inline)]
pub use firebrick_optim::AdamWConfig;
#[doc(no_inline)]
pub use firebrick_optim::schedule::{CosineConfig, Schedule};
#[doc(no_inline)]
pub use firebrick_regularize::InvertedDropoutConfig;
#[doc(no_inline)]
pub use firebrick_stabilize::{ClipGlobalNormConfig, SkipNonFiniteConfig};
#[doc(no_inline)]
pub use firebrick_train::{
    EarlyStoppingConfig, Fit, FitConfig, Labelled, Learn, TensorBatches, TrainError,
};
