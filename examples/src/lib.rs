//! What the example programs share: the digits, charts and the page around them, progress, how a program ends, and
//! networks that others trained.

pub mod backend;
pub mod chart;
pub mod data;
pub mod failure;
pub mod output;
pub mod page;
pub mod pretrained;
pub mod progress;
