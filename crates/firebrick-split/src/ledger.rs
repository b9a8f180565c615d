//! The ledger of openings: an append-only file of hash-chained JSON lines.
//!
//! Each line carries the SHA-256 of the line before it and of itself, so that a changed, removed or inserted
//! line shows. Reading and appending happen under an exclusive lock on the file, and every line reaches the
//! disk before anything that depends on it: an opening is written before a test row is seen. A line that a
//! crash cut off was never acted upon and is removed. What the ledger cannot see: that the file was deleted
//! or cut after a whole line, another machine, rows that were changed.

use crate::sealed::{Metrics, ModelDigest};
use crate::{Fingerprint, SplitError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
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

/// What a line says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Created {
        format: u32,
        data: String,
    },
    Reopen {
        reason: String,
    },
    Opening {
        test: String,
        model: ModelDigest,
        choice: String,
        reopened: Option<String>,
        row_hashes: String,
    },
    Result {
        opening: u64,
        metrics: Metrics,
    },
    Repetition {
        opening: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line {
    line: u64,
    time: String,
    #[serde(flatten)]
    event: Event,
    previous: String,
}

/// An opening with the rows it covered.
#[derive(Debug, Clone)]
struct Entry {
    line: u64,
    rows: Vec<u64>,
    opening: Opening,
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

/// The whole file, read and verified under the lock.
struct Held {
    path: PathBuf,
    file: File,
    lines: Vec<Line>,
    last_hash: String,
}

const HASH_MARK: &str = ",\"hash\":\"";
/// Before the first line there is no hash.
const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

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

impl Held {
    fn acquire(path: &Path) -> Result<Self, SplitError> {
        let io = |error: std::io::Error| SplitError::io(path, &error);
        let fresh = !path.exists();
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).open(path).map_err(io)?;
        file.lock().map_err(io)?;
        if fresh {
            sync_folder(path).map_err(io)?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let mut held =
            Self { path: path.to_owned(), file, lines: Vec::new(), last_hash: GENESIS.into() };
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        if whole > 0 {
            for line in bytes[..whole - 1].split(|&byte| byte == b'\n') {
                held.take(line)?;
            }
        }
        if whole < bytes.len() {
            held.mend(&bytes, whole)?;
        }
        Ok(held)
    }

    /// A last line without its end: complete but for the line feed, or cut off by a crash.
    fn mend(&mut self, bytes: &[u8], whole: usize) -> Result<(), SplitError> {
        let tail = &bytes[whole..];
        let path = self.path.clone();
        let io = |error: std::io::Error| SplitError::io(&path, &error);
        if serde_json::from_slice::<serde_json::Value>(tail).is_ok() {
            self.take(tail)?;
            self.file.write_all(b"\n").map_err(io)?;
        } else {
            self.file.set_len(whole as u64).map_err(io)?;
            self.file.seek(SeekFrom::End(0)).map_err(io)?;
        }
        self.file.sync_all().map_err(io)
    }

    /// Verifies and adds one line.
    fn take(&mut self, bytes: &[u8]) -> Result<(), SplitError> {
        let number = self.lines.len() + 1;
        let text = std::str::from_utf8(bytes)
            .map_err(|_| self.damaged(number, "it is not text".into()))?;
        let (body, hash) = text
            .rsplit_once(HASH_MARK)
            .and_then(|(body, rest)| Some((body, rest.strip_suffix("\"}")?)))
            .ok_or_else(|| self.damaged(number, "it has no hash".into()))?;
        if hash != hash_of(body) {
            return Err(self.damaged(number, "its hash does not fit its content".into()));
        }
        let line: Line = serde_json::from_str(&format!("{body}}}"))
            .map_err(|error| self.damaged(number, error.to_string()))?;
        if line.previous != self.last_hash || line.line != number as u64 {
            return Err(self.damaged(number, "it does not continue the line before it".into()));
        }
        self.last_hash = hash.into();
        self.lines.push(line);
        Ok(())
    }

    /// Writes one line and waits until it is on disk.
    fn append(&mut self, event: Event) -> Result<(), SplitError> {
        let line = Line {
            line: self.lines.len() as u64 + 1,
            time: now(),
            event,
            previous: self.last_hash.clone(),
        };
        let json = serde_json::to_string(&line)
            .map_err(|error| SplitError::io(&self.path, &std::io::Error::other(error)))?;
        let body = json.strip_suffix('}').unwrap_or(&json);
        let hash = hash_of(body);
        let text = format!("{body}{HASH_MARK}{hash}\"}}\n");
        self.file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(|error| SplitError::io(&self.path, &error))?;
        self.last_hash = hash;
        self.lines.push(line);
        Ok(())
    }

    /// The openings with their results.
    fn entries(&self) -> Result<Vec<Entry>, SplitError> {
        let mut entries: Vec<Entry> = Vec::new();
        for line in &self.lines {
            let number = line.line as usize;
            match &line.event {
                Event::Opening { test, model, choice, reopened, row_hashes } => {
                    let rows = read_hashes(row_hashes).ok_or_else(|| {
                        self.damaged(number, "its row hashes are no hashes".into())
                    })?;
                    let opening = Opening {
                        time: line.time.clone(),
                        test: test.clone(),
                        rows: rows.len(),
                        model: model.clone(),
                        choice: choice.clone(),
                        reopened: reopened.clone(),
                        metrics: None,
                    };
                    entries.push(Entry { line: line.line, rows, opening });
                }
                Event::Result { opening, metrics } => {
                    let entry = entries.iter_mut().find(|entry| entry.line == *opening);
                    let entry = entry.ok_or_else(|| {
                        self.damaged(number, "it is the result of no opening".into())
                    })?;
                    entry.opening.metrics = Some(metrics.clone());
                }
                Event::Created { .. } | Event::Reopen { .. } | Event::Repetition { .. } => {}
            }
        }
        Ok(entries)
    }

    fn damaged(&self, line: usize, reason: String) -> SplitError {
        SplitError::LedgerDamaged { path: self.path.clone(), line, reason }
    }
}

/// Row hashes as 16 hexadecimal digits each, ascending.
fn read_hashes(text: &str) -> Option<Vec<u64>> {
    let bytes = crate::hex::decode(text)?;
    let (chunks, []) = bytes.as_chunks::<8>() else { return None };
    let rows: Vec<u64> = chunks.iter().map(|&chunk| u64::from_be_bytes(chunk)).collect();
    rows.is_sorted().then_some(rows)
}

fn hash_of(body: &str) -> String {
    crate::hex::encode(&Sha256::digest(body.as_bytes()))
}

/// Makes a new file's name survive a crash; only Unix needs and allows it.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    if cfg!(unix) {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// The time in UTC, to the second.
fn now() -> String {
    let seconds = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs());
    civil(seconds)
}

/// Seconds since 1970 as a date, by the proleptic Gregorian calendar in eras of 400 years.
fn civil(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!(
        "{:04}-{month:02}-{day_of_month:02}T{:02}:{:02}:{:02}Z",
        era * 400 + year + carry,
        time / 3_600,
        time / 60 % 60,
        time % 60
    )
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
