//! A burn device by name, what it can do, and the host fast path of firebrick.
//!
#![doc = include_str!("../README.md")]

mod capability;
pub mod checkpointing;
mod error;
pub mod host;
mod open;
mod parameter;
mod placeholder;
mod spec;
pub mod testing;
mod widen;

pub use capability::{Capability, capabilities, capability_table};
pub use error::BackendError;
pub use parameter::{ParameterInfo, PathStack, Role, parameters, trainable_elements};
pub use placeholder::Placeholders;
pub use spec::{Backend, DeviceSpec, ENVIRONMENT_VARIABLE, TOKEN_VARIABLE};
pub use widen::widened;
