//! Tests that need more than one crate.

#![allow(clippy::print_stdout, reason = "figures that a failing or curious reader wants to see")]

mod backends;
mod layers;
mod learner;
mod net;
mod optimizers;
mod places;
mod regularize;
#[cfg(feature = "remote")]
mod remote;
mod schedules;
mod starts;
