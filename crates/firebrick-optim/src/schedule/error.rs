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
    /// No schedule has this name.
    #[error("no schedule is called `{name}`; there are {}", known.join(", "))]
    UnknownName {
        /// The name that was asked for.
        name: String,
        /// The names that there are.
        known: Vec<&'static str>,
    },
    /// The schedule has no such keyword.
    #[error("`{schedule}` has no `{keyword}`; it takes {}", accepted.join(", "))]
    UnknownKeyword {
        /// The schedule.
        schedule: String,
        /// The keyword that was given.
        keyword: String,
        /// The keywords that it takes.
        accepted: Vec<String>,
    },
    /// A keyword without a default was not given.
    #[error("`{schedule}` needs `{keyword}`")]
    MissingKeyword {
        /// The schedule.
        schedule: String,
        /// The keyword that is missing.
        keyword: String,
    },
    /// A keyword's value is of the wrong kind.
    #[error("`{keyword}` of `{schedule}` must be {expected}, got {value}")]
    BadValue {
        /// The schedule.
        schedule: String,
        /// The keyword.
        keyword: String,
        /// What would have been accepted.
        expected: String,
        /// What was given, as JSON.
        value: String,
    },
    /// A recorded case does not fit itself.
    #[error("the case of `{schedule}` needs {expected}, got {got}")]
    BadCase {
        /// The schedule.
        schedule: String,
        /// What the case needs.
        expected: String,
        /// What it has.
        got: String,
    },
}
