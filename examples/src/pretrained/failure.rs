//! How these examples end when they do not succeed.

use std::io::Write;
use std::path::PathBuf;

use firebrick::transfer::TransferError;
use firebrick::transfer::load::LoadError;
use firebrick::transfer::score::ScoreError;

use super::cache::Absent;
use super::reference::ALLOWED;

/// Why an example ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Nothing is wrong: the weights are not there.
    #[error("skipped: {0}")]
    Absent(#[from] Absent),
    /// The weights do not fit.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Features cannot be computed.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// A head cannot be fitted.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// A file beside the weights cannot be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A text cannot be made tokens of.
    #[error("no tokens for \"{text}\": {reason}")]
    Tokens {
        /// The text.
        text: String,
        /// Why.
        reason: String,
    },
    /// The network does not give what the reference implementation gives.
    #[error(
        "the outputs differ from the reference's by {off:.1e}, more than {allowed:e}",
        allowed = ALLOWED
    )]
    Unequal {
        /// The largest difference.
        off: f64,
    },
    /// The output cannot be written.
    #[error(transparent)]
    Print(#[from] std::io::Error),
}

impl Failure {
    /// The process's exit code: an absent file is no failure.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        u8::from(!matches!(self, Self::Absent(_)))
    }
}

/// Prints a line; a closed stream is an error, not a panic.
///
/// # Errors
///
/// When the stream cannot be written.
pub fn say(line: &str) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
