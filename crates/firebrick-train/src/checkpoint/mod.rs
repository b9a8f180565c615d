//! Checkpoints: written whole or not at all, checked when read, rotated without losing the last good one.
//!
//! A file is written beside its place, flushed to the disk, read back and renamed, so that a process that is
//! killed at any moment leaves the files before it as they were. A state whose weights are not finite is never
//! written, so a run that breaks cannot push its last good state out; one that blows up while its numbers are still
//! finite can, which a guard that stops it, or a larger `keep`, is for.

mod format;
#[cfg(all(test, unix, feature = "flex"))]
mod kill;
mod store;

pub(crate) use format::Section;
pub(crate) use store::Store;
pub use store::{CheckpointConfig, verify};

use std::io;
use std::path::PathBuf;

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The disk refuses: full, read-only, not there. The checkpoints before are as they were.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{path} is no checkpoint of firebrick", path = path.display())]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
    },
    /// The end of the file is missing.
    #[error("{path} is cut off: {found} bytes of {expected}", path = path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Length it should have.
        expected: u64,
        /// Length it has.
        found: u64,
    },
    /// The checksum does not fit: a bit has changed.
    #[error("{path} is damaged: its checksum does not fit", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Written by another version of this library.
    #[error("{path} is a checkpoint of version {found}, this library reads version {expected}", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Version of the file.
        found: u32,
        /// Version that is read.
        expected: u32,
    },
    /// The checkpoint is of another model.
    #[error("the checkpoint is of another model: {difference}")]
    OtherModel {
        /// The first parameter that differs.
        difference: String,
    },
    /// The checkpoint is of another configuration.
    #[error("the checkpoint is of another configuration: `{field}` was {saved}, is {now}")]
    OtherConfiguration {
        /// What differs.
        field: String,
        /// Its value in the checkpoint.
        saved: String,
        /// Its value now.
        now: String,
    },
    /// A part of the checkpoint cannot be taken over.
    #[error("the checkpoint's {section} cannot be used: {reason}")]
    Section {
        /// Which part.
        section: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder has checkpoints of an earlier run.
    #[error(
        "{directory} has {count} checkpoints of an earlier run: set `resume`, or name another folder",
        directory = directory.display()
    )]
    Occupied {
        /// The folder.
        directory: PathBuf,
        /// How many it has.
        count: usize,
    },
}
