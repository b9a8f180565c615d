//! The certificate of a split: what made it, of what, and a hash that tells whether it is still the same.

use crate::{Fingerprint, FoldMap, Spec, SplitError, Splits, Warning};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

/// How data differ from those that were split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum DataChange {
    /// Another number of rows.
    #[error("there were {recorded} rows, now there are {now}")]
    Count {
        /// Rows that were split.
        recorded: u64,
        /// Rows now.
        now: u64,
    },
    /// As many rows with other content.
    #[error("the content of some rows is another")]
    Content,
    /// The same rows in another order.
    #[error("the rows are the same but stand in another order")]
    Order,
}

/// The certificate of a split.
///
/// ```
/// use firebrick_split::{KFold, RowHashes, Rows, Splitter};
///
/// let data = RowHashes::from_bytes(["a", "b", "c", "d"]).fingerprint();
/// let folds = KFold::new(2).split(&Rows::new(4).with_fingerprint(data))?;
/// assert_eq!(folds.manifest().sizes, [2, 2]);
/// folds.verify(&data)?;
/// let sorted = RowHashes::from_bytes(["b", "a", "c", "d"]).fingerprint();
/// let error = folds.verify(&sorted).unwrap_err().to_string();
/// assert!(error.contains("another order"));
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this form.
    pub format: u32,
    /// Algorithm, version, parameters and seed.
    pub spec: Spec,
    /// Number of rows.
    pub rows: usize,
    /// Number of folds, or 3 for the roles train, validation and test.
    pub k: usize,
    /// Rows in each fold.
    pub sizes: Vec<usize>,
    /// Rows in none.
    pub excluded: usize,
    /// Fingerprint of the rows, where it was given.
    pub fingerprint: Option<Fingerprint>,
    /// SHA-256 of the ids: one byte a row up to 255 folds, else two, little-endian.
    pub ids_sha256: String,
    /// What the user should know.
    pub warnings: Vec<Warning>,
}

/// How a saved map begins.
const MAGIC: &str = "firebrick-fold-map 1 ";

fn damaged(reason: impl std::fmt::Display) -> SplitError {
    SplitError::MapDamaged { reason: reason.to_string() }
}

impl Manifest {
    /// Checks that `map` is the split that this certifies.
    ///
    /// # Errors
    /// [`SplitError::MapDamaged`] when the number of rows, the recipe or the ids differ.
    pub fn check(&self, map: &FoldMap) -> Result<(), SplitError> {
        let other = map.manifest();
        if other.rows != self.rows || other.k != self.k {
            let (rows, k) = (self.rows, self.k);
            return Err(damaged(format!(
                "{} rows in {} folds, certified were {rows} in {k}",
                other.rows, other.k
            )));
        }
        if other.ids_sha256 != self.ids_sha256 {
            return Err(damaged("the ids are not those that were certified"));
        }
        if other.spec != self.spec {
            return Err(damaged("the recipe is not the one that was certified"));
        }
        Ok(())
    }

    /// Checks that the data are still those that were split.
    ///
    /// # Errors
    /// As [`FoldMap::verify`].
    pub fn verify(&self, now: &Fingerprint) -> Result<(), SplitError> {
        verify(self.fingerprint.as_ref(), now)
    }
}

/// The certificate of splits that are no fold map: of windows of time, leave-outs, purged and predefined splits, the
/// bootstrap, repeated and nested ones (of those the outer splits). It knows them by their lists.
///
/// ```
/// use firebrick_split::{ListManifest, Rows, Splitter, TimeSeries};
///
/// let scheme = TimeSeries::new(3);
/// let splits = scheme.split(&Rows::new(8))?;
/// let manifest = ListManifest::new(&splits, scheme.spec(), None);
/// assert_eq!(manifest.sizes, [[2, 2], [4, 2], [6, 2]]);
/// manifest.check(&splits)?;
/// assert!(manifest.check(&scheme.with_gap(1).split(&Rows::new(8))?).is_err());
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListManifest {
    /// Version of this form.
    pub format: u32,
    /// Algorithm, version, parameters and seed.
    pub spec: Spec,
    /// Number of rows.
    pub rows: usize,
    /// Rows to train and to validate on in each split.
    pub sizes: Vec<[usize; 2]>,
    /// Fingerprint of the rows, where it was given.
    pub fingerprint: Option<Fingerprint>,
    /// SHA-256 of all lists, training before validation: the length as eight bytes, each row as four, little-endian.
    pub lists_sha256: String,
    /// What the user should know.
    pub warnings: Vec<Warning>,
}

impl ListManifest {
    /// Certifies `splits`, which `spec` made of rows with this fingerprint.
    #[must_use]
    pub fn new(splits: &impl Splits, spec: Spec, fingerprint: Option<Fingerprint>) -> Self {
        let (sizes, lists_sha256) = hash_lists(splits);
        let (rows, warnings) = (splits.rows(), splits.warnings().to_vec());
        Self { format: 1, spec, rows, sizes, fingerprint, lists_sha256, warnings }
    }

    /// Checks that `splits` are those that this certifies.
    ///
    /// # Errors
    /// [`SplitError::MapDamaged`] when the number of rows or any list differs.
    pub fn check(&self, splits: &impl Splits) -> Result<(), SplitError> {
        if splits.rows() != self.rows || splits.count() != self.sizes.len() {
            return Err(damaged(format!(
                "{} rows in {} splits, certified were {} in {}",
                splits.rows(),
                splits.count(),
                self.rows,
                self.sizes.len()
            )));
        }
        if hash_lists(splits).1 != self.lists_sha256 {
            return Err(damaged("the lists are not those that were certified"));
        }
        Ok(())
    }

    /// Checks that the data are still those that were split.
    ///
    /// # Errors
    /// As [`FoldMap::verify`].
    pub fn verify(&self, now: &Fingerprint) -> Result<(), SplitError> {
        verify(self.fingerprint.as_ref(), now)
    }
}

/// Sizes and hash of all lists, each made when it is reached.
fn hash_lists(splits: &impl Splits) -> (Vec<[usize; 2]>, String) {
    let mut hasher = Sha256::new();
    let mut sizes = Vec::new();
    for split in splits.iter() {
        for rows in [&split.train, &split.valid] {
            hasher.update((rows.len() as u64).to_le_bytes());
            let bytes: Vec<u8> = rows.iter().flat_map(u32::to_le_bytes).collect();
            hasher.update(bytes);
        }
        sizes.push([split.train.len(), split.valid.len()]);
    }
    (sizes, crate::hex::encode(&hasher.finalize()))
}

/// Says whether number, content or order of the rows changed.
fn verify(recorded: Option<&Fingerprint>, now: &Fingerprint) -> Result<(), SplitError> {
    let recorded =
        recorded.ok_or(SplitError::MissingColumn { column: "fingerprint", scheme: "verify" })?;
    let change = if recorded.rows != now.rows {
        DataChange::Count { recorded: recorded.rows, now: now.rows }
    } else if recorded.content != now.content {
        DataChange::Content
    } else if recorded.order != now.order {
        DataChange::Order
    } else {
        return Ok(());
    };
    Err(SplitError::DataChanged { change })
}

impl FoldMap {
    /// The certificate of this split.
    #[must_use]
    pub fn manifest(&self) -> Manifest {
        let excluded = self.excluded().len();
        Manifest {
            format: 1,
            spec: self.spec().clone(),
            rows: self.rows(),
            k: self.k(),
            sizes: self.sizes(),
            excluded,
            fingerprint: self.fingerprint(),
            ids_sha256: crate::hex::encode(&Sha256::digest(self.id_bytes())),
            warnings: self.warnings().to_vec(),
        }
    }

    /// Checks that the data are still those that were split.
    ///
    /// # Errors
    /// [`SplitError::DataChanged`] says whether number, content or order changed; [`SplitError::MissingColumn`] when the
    /// split was made without a fingerprint.
    pub fn verify(&self, now: &Fingerprint) -> Result<(), SplitError> {
        verify(self.fingerprint().as_ref(), now)
    }

    /// Writes the map: a line with the SHA-256 of all that follows, the manifest as one line of JSON, the ids as bytes.
    ///
    /// # Errors
    /// [`SplitError::Io`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), SplitError> {
        let path = path.as_ref();
        let io = |error: std::io::Error| SplitError::io(path, &error);
        let line = serde_json::to_string(&self.manifest())
            .map_err(|error| SplitError::io(path, &std::io::Error::other(error)))?;
        let ids = self.id_bytes();
        let mut hasher = Sha256::new();
        hasher.update(format!("{line}\n"));
        hasher.update(&ids);
        let head = format!("{MAGIC}{}\n{line}\n", crate::hex::encode(&hasher.finalize()));
        let mut file = std::fs::File::create(path).map_err(io)?;
        file.write_all(head.as_bytes())
            .and_then(|()| file.write_all(&ids))
            .and_then(|()| file.sync_all())
            .map_err(io)
    }

    /// Reads a map that [`FoldMap::save`] wrote, and checks it against its manifest.
    ///
    /// # Errors
    /// [`SplitError::Io`], [`SplitError::MapDamaged`] when a byte is another.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, SplitError> {
        let path = path.as_ref();
        let io = |error: std::io::Error| SplitError::io(path, &error);
        let mut file = BufReader::new(std::fs::File::open(path).map_err(io)?);
        let mut head = Vec::new();
        // Not the whole of a file that is no map.
        file.by_ref().take(128).read_until(b'\n', &mut head).map_err(io)?;
        let mut rest = Vec::new();
        file.read_to_end(&mut rest).map_err(io)?;
        let expected = format!("{MAGIC}{}\n", crate::hex::encode(&Sha256::digest(&rest)));
        if head != expected.as_bytes() {
            return Err(damaged("its hash does not fit its content"));
        }
        let end = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or_else(|| damaged("it has no manifest"))?;
        let bytes = rest.split_off(end + 1);
        let line = rest;
        let manifest: Manifest = serde_json::from_slice(&line).map_err(damaged)?;
        if manifest.format != 1 {
            return Err(damaged(format!("format {} is unknown to this version", manifest.format)));
        }
        let map = Self::from_id_bytes(
            manifest.k,
            bytes,
            manifest.spec.clone(),
            manifest.fingerprint,
            manifest.warnings.clone(),
        )?;
        let now = map.manifest();
        if now != manifest {
            manifest.check(&map)?;
            return Err(damaged("the sizes are not those of the ids"));
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KFold, RowHashes, Rows, Splitter};
    use firebrick_core::Seed;

    #[test]
    fn every_changed_byte_of_a_saved_map_is_detected() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("folds.map");
        let data = RowHashes::from_bytes((0..40u8).map(|row| [row])).fingerprint();
        for k in [3usize, 300] {
            let n = if k > 40 { 400 } else { 40 };
            let rows = Rows::new(n);
            let rows = if n == 40 { rows.with_fingerprint(data) } else { rows };
            let folds = KFold::new(k).with_shuffle(Seed(5)).split(&rows).expect("splits");
            folds.save(&path).expect("saves");
            assert_eq!(FoldMap::load(&path).expect("loads"), folds);
            let bytes = std::fs::read(&path).expect("readable");
            for place in 0..bytes.len() {
                let mut other = bytes.clone();
                other[place] ^= 1;
                std::fs::write(&path, &other).expect("writable");
                assert!(
                    matches!(FoldMap::load(&path), Err(SplitError::MapDamaged { .. })),
                    "byte {place}"
                );
            }
            std::fs::write(&path, &bytes[..bytes.len() - 1]).expect("writable");
            assert!(matches!(FoldMap::load(&path), Err(SplitError::MapDamaged { .. })));
        }
        assert!(matches!(FoldMap::load(folder.path().join("none")), Err(SplitError::Io { .. })));
    }

    #[test]
    fn splits_without_a_map_are_certified_by_their_lists() {
        use crate::{
            Bootstrap, LeavePGroupsOut, LeavePOut, Nested, Predefined, PurgedKFold, Repeated,
        };
        fn round<S: Splitter>(scheme: &S, other: &S, rows: &Rows<'_>) {
            let (splits, others) = (scheme.split(rows).expect("a"), other.split(rows).expect("b"));
            let manifest = ListManifest::new(&splits, scheme.spec(), rows.fingerprint);
            assert_eq!((manifest.rows, manifest.sizes.len()), (rows.n, splits.count()));
            let text = serde_json::to_string(&manifest).expect("serializes");
            let manifest: ListManifest = serde_json::from_str(&text).expect("reads back");
            assert!(manifest.check(&splits).is_ok());
            assert!(matches!(manifest.check(&others), Err(SplitError::MapDamaged { .. })));
            assert!(rows.fingerprint.is_some_and(|data| manifest.verify(&data).is_ok()));
            let fewer = RowHashes::new(vec![1, 2]).fingerprint();
            assert!(matches!(manifest.verify(&fewer), Err(SplitError::DataChanged { .. })));
        }
        let (groups, times) = ([0, 0, 1, 1, 2, 2, 3, 3], [0, 1, 2, 3, 4, 5, 6, 7]);
        let data = RowHashes::new((0..8).collect()).fingerprint();
        let rows = Rows::new(8).with_groups(&groups).with_times(&times).with_fingerprint(data);
        round(&crate::TimeSeries::new(2), &crate::TimeSeries::new(3), &rows);
        round(&LeavePOut::one(), &LeavePOut::new(2), &rows);
        round(&LeavePGroupsOut::one(), &LeavePGroupsOut::new(2), &rows);
        round(&PurgedKFold::new(2), &PurgedKFold::new(2).with_embargo(1), &rows);
        round(&Bootstrap::new(3, Seed(1)), &Bootstrap::new(3, Seed(2)), &rows);
        let given =
            |shift: u32| Predefined::new((0..8).map(|row| Some((row + shift) / 2 % 2)).collect());
        round(&given(0), &given(1), &rows);
        let folds = KFold::new(2).with_shuffle(Seed(0));
        round(&Repeated::new(folds.clone(), 2, Seed(1)), &Repeated::new(folds, 2, Seed(2)), &rows);
        let nested = |k| Nested::new(KFold::new(k), KFold::new(2));
        round(&nested(2), &nested(4), &rows);
    }

    #[test]
    fn changes_of_the_data_are_told_apart() {
        let of = |rows: &[&str]| RowHashes::from_bytes(rows).fingerprint();
        let data = of(&["a", "b", "c"]);
        let folds = KFold::new(2).split(&Rows::new(3).with_fingerprint(data)).expect("splits");
        let change = |rows: &[&str]| match folds.verify(&of(rows)) {
            Err(SplitError::DataChanged { change }) => Some(change),
            Ok(()) => None,
            Err(other) => panic!("{other}"),
        };
        let other = of(&["a", "d", "c"]);
        assert_eq!(folds.manifest().verify(&other), folds.verify(&other));
        assert_eq!(change(&["a", "b", "c"]), None);
        assert_eq!(change(&["a", "b"]), Some(DataChange::Count { recorded: 3, now: 2 }));
        assert_eq!(change(&["a", "b", "d"]), Some(DataChange::Content));
        assert_eq!(change(&["c", "b", "a"]), Some(DataChange::Order));
        let bare = KFold::new(2).split(&Rows::new(3)).expect("splits");
        assert!(matches!(bare.verify(&data), Err(SplitError::MissingColumn { .. })));
        let other = KFold::new(2).with_shuffle(Seed(1)).split(&Rows::new(3)).expect("splits");
        assert!(folds.manifest().check(&folds).is_ok() && folds.manifest().check(&other).is_err());
    }
}
