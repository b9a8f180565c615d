//! The ledger of openings: an append-only file of hash-chained JSON lines.
//!
//! Each line carries the SHA-256 of the line before it and of itself, so that a changed, removed or inserted
//! line shows. Reading and appending happen under an exclusive lock on the file, and every line reaches the
//! disk before anything that depends on it: an opening is written before a test row is seen. A line that a
//! crash cut off was never acted upon and is removed: it stands whole in `NAME.next` beside the ledger until it is
//! written. A ledger that ends in part of a line otherwise is damaged. What the ledger cannot see: that the file was
//! deleted or cut after a whole line, another machine, rows that were changed.

use crate::ledger_file::{Entry, Event, Held};
use crate::sealed::{Metrics, ModelDigest};
use crate::{Fingerprint, SplitError};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One opening of a test part, as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// When, in UTC, as `2026-01-31T23:59:59Z`.
    pub time: String,
    /// Number and content of the test rows.
    pub test: String,
    /// Number of test rows.
    pub rows: usize,
    /// Digest of the model.
    pub model: ModelDigest,
    /// The choice in words.
    pub choice: String,
    /// The reason, when the rows had been opened before.
    pub reopened: Option<String>,
    /// What the evaluation gave; none when it never finished.
    pub metrics: Option<Metrics>,
}

impl std::fmt::Display for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "first opened {} with model {}", self.time, self.model)?;
        if !self.choice.is_empty() {
            write!(f, " ({})", self.choice)?;
        }
        match &self.metrics {
            Some(metrics) => write!(f, ", which gave {metrics}"),
            None => f.write_str(", whose evaluation did not finish"),
        }
    }
}

/// The state of an opening in progress.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    line: u64,
    pub(crate) opening: Opening,
    pub(crate) uses: usize,
    /// Whether a finished opening of the same rows and model stands in the ledger.
    pub(crate) repeated: bool,
}

/// The record of all openings of the test parts of one data set.
///
/// Safe across processes: of two that race to open one test part with different models, one is refused.
///
/// ```
/// use firebrick_split::{Ledger, RowHashes};
///
/// let folder = tempfile::tempdir().expect("temporary folder");
/// let data = RowHashes::from_bytes(["a", "b", "c"]).fingerprint();
/// let ledger = Ledger::open(folder.path().join("ledger.jsonl"), data)?;
/// assert!(ledger.openings()?.is_empty());
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    data: String,
    /// The reason for the next opening that would be refused.
    grant: Option<String>,
}

impl Ledger {
    /// Opens the ledger at `path` for the data set with this fingerprint, or begins one.
    ///
    /// Folders on the way must exist.
    ///
    /// # Errors
    /// [`SplitError::LedgerOfOtherData`], [`SplitError::LedgerDamaged`], [`SplitError::Io`].
    pub fn open(path: impl Into<PathBuf>, data: Fingerprint) -> Result<Self, SplitError> {
        let ledger = Self { path: path.into(), data: data.content_text(), grant: None };
        ledger.hold()?;
        Ok(ledger)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All openings so far, oldest first.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn openings(&self) -> Result<Vec<Opening>, SplitError> {
        Ok(self.hold()?.entries()?.into_iter().map(|entry| entry.opening).collect())
    }

    /// Records why a test part that was opened before must be opened again, and lets the next opening pass.
    ///
    /// The reason stands in the ledger and in the report of that opening.
    ///
    /// # Errors
    /// When the reason is empty, or as [`Ledger::open`].
    pub fn reopen(&mut self, reason: impl Into<String>) -> Result<(), SplitError> {
        let reason = reason.into();
        if reason.trim().is_empty() {
            return Err(firebrick_core::ConfigError::new(
                "reason",
                "an empty text",
                "the reason in words",
            )
            .into());
        }
        self.hold()?.append(Event::Reopen { reason: reason.clone() })?;
        self.grant = Some(reason);
        Ok(())
    }

    fn hold(&self) -> Result<Held, SplitError> {
        let mut held = Held::acquire(&self.path)?;
        match held.lines.first().map(|line| line.event.clone()) {
            None => held.append(Event::Created { format: 1, data: self.data.clone() })?,
            Some(Event::Created { format: 1, data }) if data == self.data => {}
            Some(Event::Created { format: 1, data }) => {
                return Err(SplitError::LedgerOfOtherData {
                    path: self.path.clone(),
                    recorded: data,
                    given: self.data.clone(),
                });
            }
            Some(Event::Created { format, .. }) => {
                return Err(held.damaged(1, format!("format {format} is unknown to this version")));
            }
            Some(_) => {
                return Err(held.damaged(1, "the first line does not name the data set".into()));
            }
        }
        Ok(held)
    }

    /// Whether some model may open these rows.
    pub(crate) fn check(&self, test: &[u64], others: &[u64]) -> Result<(), SplitError> {
        let entries = self.hold()?.entries()?;
        let text = Fingerprint::of(test).content_text();
        let same = entries.iter().any(|entry| entry.opening.test == text);
        if same || self.grant.is_some() {
            return Ok(());
        }
        refuse(&entries, &text, test, others).map_or(Ok(()), Err)
    }

    /// Decides whether the opening may happen and writes it down before anything is seen.
    pub(crate) fn begin(
        &mut self,
        test: &[u64],
        others: &[u64],
        model: &ModelDigest,
        choice: &str,
    ) -> Result<Opened, SplitError> {
        let all: Vec<u64> = test.iter().chain(others).copied().collect();
        let given = Fingerprint::of(&all).content_text();
        if given != self.data {
            return Err(SplitError::LedgerOfOtherData {
                path: self.path.clone(),
                recorded: self.data.clone(),
                given,
            });
        }
        let mut held = self.hold()?;
        let entries = held.entries()?;
        let text = Fingerprint::of(test).content_text();
        if let Some(same) =
            entries.iter().find(|e| e.opening.test == text && &e.opening.model == model)
        {
            return Ok(Opened {
                line: same.line,
                opening: same.opening.clone(),
                uses: uses(&entries, test),
                repeated: same.opening.metrics.is_some(),
            });
        }
        let refusal = refuse(&entries, &text, test, others);
        let reopened = match (refusal, self.grant.as_ref()) {
            (Some(refusal), None) => return Err(refusal),
            (Some(_), Some(reason)) => Some(reason.clone()),
            (None, _) => None,
        };
        let row_hashes = test.iter().map(|hash| format!("{hash:016x}")).collect::<String>();
        let event = Event::Opening {
            test: text,
            model: model.clone(),
            choice: choice.to_owned(),
            reopened: reopened.clone(),
            row_hashes,
        };
        held.append(event)?;
        if reopened.is_some() {
            self.grant = None;
        }
        let entries = held.entries()?;
        let Some(entry) = entries.last() else {
            return Err(held
                .damaged(held.lines.len(), "the opening that was just written is missing".into()));
        };
        Ok(Opened {
            line: entry.line,
            opening: entry.opening.clone(),
            uses: uses(&entries, test),
            repeated: false,
        })
    }

    /// Writes the result of an opening, or that it was a repetition.
    pub(crate) fn finish(
        &mut self,
        opened: &Opened,
        metrics: &Metrics,
    ) -> Result<Opened, SplitError> {
        let mut held = self.hold()?;
        let entries = held.entries()?;
        let Some(entry) = entries.iter().find(|entry| entry.line == opened.line) else {
            return Err(held.damaged(held.lines.len(), "the opening in progress is missing".into()));
        };
        let uses = uses(&entries, &entry.rows);
        let mut opening = entry.opening.clone();
        let repeated = opened.repeated || opening.metrics.is_some();
        match &entry.opening.metrics {
            // Another process with the same model may have been faster.
            Some(known) if known == metrics => {
                held.append(Event::Repetition { opening: opened.line })?
            }
            Some(_) => {
                let rows = entry.rows.len();
                return Err(SplitError::AlreadyOpened {
                    shared: rows,
                    rows,
                    first: Box::new(opening),
                });
            }
            None => {
                held.append(Event::Result { opening: opened.line, metrics: metrics.clone() })?;
                opening.metrics = Some(metrics.clone());
            }
        }
        Ok(Opened { line: opened.line, opening, uses, repeated })
    }
}

/// Openings that share a row with `test`.
fn uses(entries: &[Entry], test: &[u64]) -> usize {
    entries.iter().filter(|entry| overlap(&entry.rows, test).shared > 0).count()
}

struct Overlap {
    /// Rows in both.
    shared: usize,
    /// Copies of each row that only the first has: (hash, how many).
    only_first: Vec<(u64, usize)>,
}

/// Compares two ascending lists of hashes, repeated rows counted.
fn overlap(first: &[u64], second: &[u64]) -> Overlap {
    let mut result = Overlap { shared: 0, only_first: Vec::new() };
    let (mut a, mut b) = (0, 0);
    while a < first.len() {
        if b < second.len() && second[b] < first[a] {
            b += 1;
        } else if b < second.len() && second[b] == first[a] {
            result.shared += 1;
            (a, b) = (a + 1, b + 1);
        } else {
            match result.only_first.last_mut() {
                Some((hash, count)) if *hash == first[a] => *count += 1,
                _ => result.only_first.push((first[a], 1)),
            }
            a += 1;
        }
    }
    result
}

/// Why these test rows may not be opened, if they may not.
///
/// A row that occurs several times in the data is reused only when more of its copies are outside the test
/// part than were outside it at the earlier opening.
fn refuse(entries: &[Entry], text: &str, test: &[u64], others: &[u64]) -> Option<SplitError> {
    if let Some(entry) = entries.iter().find(|entry| entry.opening.test == text) {
        let first = Box::new(entry.opening.clone());
        return Some(SplitError::AlreadyOpened { shared: test.len(), rows: test.len(), first });
    }
    for entry in entries {
        let overlap = overlap(&entry.rows, test);
        let copies = |hash: u64| {
            others.partition_point(|&other| other <= hash)
                - others.partition_point(|&other| other < hash)
        };
        let reused: usize =
            overlap.only_first.iter().map(|&(hash, count)| count.min(copies(hash))).sum();
        let first = || Box::new(entry.opening.clone());
        if reused > 0 {
            return Some(SplitError::TestRowsReused { count: reused, first: first() });
        }
        if overlap.shared > 0 {
            return Some(SplitError::AlreadyOpened {
                shared: overlap.shared,
                rows: test.len(),
                first: first(),
            });
        }
    }
    None
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
