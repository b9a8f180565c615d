//! Optimizers and learning-rate schedules for burn: exact, fused on the host.

pub mod schedule;
