//! Loading of pre-trained weights: a plan first, looked at, then carried out as a whole or not at all.
//!
//! [`Checkpoint`] opens a file, [`LoadConfig`] says what is known about it and the model, [`LoadPlan`] says of every
//! tensor what would become of it, and [`LoadPlan::apply`] does that. Nothing is guessed: what is not declared must
//! fit exactly, and what might be declared is printed as a suggestion.

mod apply;
mod checkpoint;
mod config;
mod error;
mod format;
mod head;
mod inventory;
mod layout;
mod matching;
mod names;
mod pickle;
mod plan;
mod planner;
mod report;
mod resample;
mod suggest;
mod suspicion;
#[cfg(all(test, feature = "flex"))]
mod tests;
mod transform;

pub use apply::LoadReport;
pub use checkpoint::Checkpoint;
pub use config::LoadConfig;
pub use error::{LoadError, Problem};
pub use format::Format;
pub use head::{Head, HeadInit};
pub use layout::Layout;
pub use plan::{Class, Entry, LoadPlan, Suspicion, Unused};
pub use transform::{InputChannels, Positions};
