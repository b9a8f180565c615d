//! The file behind the ledger: lines, hashes, the lock, and what a crash left.
//!
//! A line stands whole in a file beside the ledger before it is appended, and until it is on disk. Where a crash cuts it
//! off, that file says so; a ledger that ends in part of a line without it was damaged by something else.

use crate::SplitError;
use crate::ledger::Opening;
use crate::sealed::{Metrics, ModelDigest};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What a line says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
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
pub(crate) struct Line {
    line: u64,
    time: String,
    #[serde(flatten)]
    pub(crate) event: Event,
    previous: String,
}

/// An opening with the rows it covered.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) line: u64,
    pub(crate) rows: Vec<u64>,
    pub(crate) opening: Opening,
}

/// The whole file, read and verified under the lock.
pub(crate) struct Held {
    path: PathBuf,
    file: File,
    pub(crate) lines: Vec<Line>,
    last_hash: String,
}

const HASH_MARK: &str = ",\"hash\":\"";
/// Before the first line there is no hash.
const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

impl Held {
    pub(crate) fn acquire(path: &Path) -> Result<Self, SplitError> {
        let io = |error: std::io::Error| SplitError::io(path, &error);
        let fresh = !path.exists();
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).open(path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            let reason = "it is no regular file, so that nothing would stay in it";
            return Err(io(std::io::Error::new(ErrorKind::InvalidInput, reason)));
        }
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
        // A line that was not begun, or is there.
        match std::fs::remove_file(pending(path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(io(error)),
            _ => Ok(held),
        }
    }

    /// A last line without its end: complete but for the line feed, or cut off by a crash, and then nobody acted upon it.
    fn mend(&mut self, bytes: &[u8], whole: usize) -> Result<(), SplitError> {
        let tail = &bytes[whole..];
        let path = self.path.clone();
        let io = |error: std::io::Error| SplitError::io(&path, &error);
        if self.take(tail).is_ok() {
            self.file.write_all(b"\n").map_err(io)?;
        } else if std::fs::read(pending(&path)).is_ok_and(|line| line.starts_with(tail)) {
            self.file.set_len(whole as u64).map_err(io)?;
            self.file.seek(SeekFrom::End(0)).map_err(io)?;
        } else {
            return Err(self.damaged(self.lines.len() + 1, "it is part of a line or none".into()));
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
    pub(crate) fn append(&mut self, event: Event) -> Result<(), SplitError> {
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
        self.write(text.as_bytes()).map_err(|error| SplitError::io(&self.path, &error))?;
        self.last_hash = hash;
        self.lines.push(line);
        Ok(())
    }

    fn write(&mut self, text: &[u8]) -> std::io::Result<()> {
        let pending = pending(&self.path);
        let mut whole = File::create(&pending)?;
        whole.write_all(text)?;
        whole.sync_all()?;
        sync_folder(&pending)?;
        self.file.write_all(text)?;
        self.file.sync_data()?;
        std::fs::remove_file(&pending)
    }

    /// The openings with their results.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, SplitError> {
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

    pub(crate) fn damaged(&self, line: usize, reason: String) -> SplitError {
        SplitError::LedgerDamaged { path: self.path.clone(), line, reason }
    }
}

/// Where a line stands until it is in the ledger.
fn pending(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".next");
    name.into()
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
pub(crate) fn civil(seconds: u64) -> String {
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
