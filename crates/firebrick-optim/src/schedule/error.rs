//! What can go wrong with a schedule besides a value out of range.

use firebrick_core::ConfigError;

/// A schedule that cannot be made, restored or replayed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// A value is outside its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A record lacks a scalar that the schedule's position needs.
    #[error("the record has no `{field}`: it is not the record of a schedule of this crate")]
    NotASchedule {
        /// The scalar that is missing.
        field: &'static str,
    },
    /// A record was written by a schedule with another configuration.
    #[error(
        "the record is of a schedule with another configuration (hash {found:016x}, this one has {expected:016x})"
    )]
    OtherConfiguration {
        /// Hash of the schedule that the record was loaded into.
        expected: u64,
        /// Hash in the record.
        found: u64,
    },
}
