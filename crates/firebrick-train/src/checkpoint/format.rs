//! The file of a checkpoint: named sections under one checksum.
//!
//! ```text
//! "FBRKCKPT" | length of the file u64 | version u32 | sections u32
//! for each section: length of its name u32, name, length of its content u64
//! the contents, one after the other | SHA-256 of all before it
//! ```
//! Numbers are little-endian. A file is whole exactly when its length is the one it names and the checksum fits.

use super::CheckpointError;
use sha2::{Digest, Sha256};
use std::io::{self, Write};
use std::path::Path;

const MAGIC: &[u8; 8] = b"FBRKCKPT";
const VERSION: u32 = 1;
const HEAD: usize = 8 + 8 + 4 + 4;
const SUM: usize = 32;

/// A part of a checkpoint: its name and its content.
pub(crate) type Section = (String, Vec<u8>);

/// Writes the sections to `sink`.
pub(crate) fn write(sections: &[Section], sink: &mut impl Write) -> io::Result<()> {
    let mut head = Vec::with_capacity(HEAD + 64 * sections.len());
    let table: usize = sections.iter().map(|(name, _)| 4 + name.len() + 8).sum();
    let contents: usize = sections.iter().map(|(_, content)| content.len()).sum();
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&((HEAD + table + contents + SUM) as u64).to_le_bytes());
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&(sections.len() as u32).to_le_bytes());
    for (name, content) in sections {
        head.extend_from_slice(&(name.len() as u32).to_le_bytes());
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(&(content.len() as u64).to_le_bytes());
    }
    let mut sum = Sha256::new();
    for part in std::iter::once(&head).chain(sections.iter().map(|(_, content)| content)) {
        sum.update(part);
        sink.write_all(part)?;
    }
    sink.write_all(sum.finalize().as_slice())
}

/// The sections of the file's `bytes`; `path` is for the errors.
pub(crate) fn read(bytes: &[u8], path: &Path) -> Result<Vec<Section>, CheckpointError> {
    let path = || path.to_owned();
    if !bytes.starts_with(&MAGIC[..bytes.len().min(MAGIC.len())]) {
        return Err(CheckpointError::NotACheckpoint { path: path() });
    }
    let damaged = || CheckpointError::Damaged { path: path() };
    let found = bytes.len() as u64;
    let expected = number(bytes, 8, 8).unwrap_or((HEAD + SUM) as u64);
    if found < expected || found < (HEAD + SUM) as u64 {
        return Err(CheckpointError::Truncated { path: path(), expected, found });
    }
    let (body, sum) = bytes.split_at(bytes.len() - SUM);
    if found > expected || Sha256::digest(body).as_slice() != sum {
        return Err(damaged());
    }
    let version = number(body, 16, 4).unwrap_or(0) as u32;
    if version != VERSION {
        return Err(CheckpointError::Version { path: path(), found: version, expected: VERSION });
    }
    sections(body).ok_or_else(damaged)
}

fn sections(body: &[u8]) -> Option<Vec<Section>> {
    let count = number(body, 20, 4)?;
    let mut table = Vec::new();
    let mut at = HEAD;
    for _ in 0..count {
        let length = number(body, at, 4)? as usize;
        let name = std::str::from_utf8(body.get(at + 4..at + 4 + length)?).ok()?.to_owned();
        at += 4 + length;
        table.push((name, number(body, at, 8)? as usize));
        at += 8;
    }
    let mut sections = Vec::new();
    for (name, length) in table {
        sections.push((name, body.get(at..at.checked_add(length)?)?.to_vec()));
        at += length;
    }
    (at == body.len()).then_some(sections)
}

fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let mut number = [0; 8];
    number[..width].copy_from_slice(bytes.get(at..at + width)?);
    Some(u64::from_le_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections() -> Vec<Section> {
        vec![("a".into(), vec![1, 2, 3]), ("empty".into(), vec![]), ("b".into(), vec![9; 40])]
    }

    fn file() -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&sections(), &mut bytes).expect("memory takes all");
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&file(), Path::new("c")).expect("whole"), sections());
    }

    #[test]
    fn every_truncation_is_noticed() {
        let file = file();
        for length in 0..file.len() {
            let error = read(&file[..length], Path::new("c")).expect_err("cut off");
            assert!(matches!(error, CheckpointError::Truncated { .. }), "{length}: {error}");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let file = file();
        for bit in 0..8 * file.len() {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = read(&flipped, Path::new("c")).expect_err("flipped");
            assert!(
                matches!(
                    error,
                    CheckpointError::Damaged { .. }
                        | CheckpointError::NotACheckpoint { .. }
                        | CheckpointError::Truncated { .. }
                ),
                "{bit}: {error}"
            );
        }
        let mut longer = file.clone();
        longer.push(0);
        assert!(matches!(read(&longer, Path::new("c")), Err(CheckpointError::Damaged { .. })));
    }

    #[test]
    fn a_later_version_is_named() {
        let mut file = file();
        file[16] = 2;
        let end = file.len() - SUM;
        let sum = Sha256::digest(&file[..end]);
        file[end..].copy_from_slice(sum.as_slice());
        let error = read(&file, Path::new("c")).expect_err("later");
        assert_eq!(
            error.to_string(),
            "c is a checkpoint of version 2, this library reads version 1"
        );
    }
}
