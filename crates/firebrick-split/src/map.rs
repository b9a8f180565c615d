//! The fold map: one byte a row that says which fold the row is in.

use crate::listing::{Wanted, both, list, tally};
use crate::splitter::no_split;
use crate::{Fingerprint, RowSet, Spec, Split, SplitError, Splits, Warning};
use serde::{Deserialize, Serialize};

/// A part of a hold-out split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PartName {
    /// Rows to train on.
    Train,
    /// Rows to choose by.
    Validation,
    /// Rows to be looked at once.
    Test,
}

impl std::fmt::Display for PartName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        })
    }
}

pub(crate) use crate::ids::{BYTE_FOLDS, Id, Ids, MAX_FOLDS, with_id};

/// Which fold each row is in: the product of the K-fold family.
///
/// Split `i` validates on fold `i` and trains on the other folds; excluded rows are in neither. Lists are
/// ascending and made on demand. Memory: 1 byte a row up to 255 folds, 2 up to 65,535.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_split::{KFold, Rows, Splits, Splitter};
///
/// let folds = KFold::new(3).with_shuffle(Seed(1)).split(&Rows::new(10))?;
/// assert_eq!(folds.sizes(), [4, 3, 3]);
/// for split in folds.iter() {
///     assert_eq!(split.train.len() + split.valid.len(), 10);
/// }
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct FoldMap {
    pub(crate) k: usize,
    pub(crate) ids: Ids,
    /// Rows of each fold, then of none.
    counts: Vec<usize>,
    pub(crate) spec: Spec,
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) warnings: Vec<Warning>,
}

/// All folds as one list with the place where each begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldLists {
    offsets: Vec<usize>,
    rows: Vec<u32>,
}

impl FoldLists {
    /// The rows of fold `fold`, ascending; empty for a fold that does not exist.
    #[must_use]
    pub fn fold(&self, fold: usize) -> &[u32] {
        match self.offsets.get(fold..fold.saturating_add(2)) {
            Some(&[start, end]) => &self.rows[start..end],
            _ => &[],
        }
    }

    /// Number of folds.
    #[must_use]
    pub fn count(&self) -> usize {
        self.offsets.len() - 1
    }
}

fn lists<I: Id>(ids: &[I], k: usize, counts: &[usize]) -> FoldLists {
    let mut offsets = vec![0usize; k + 1];
    for fold in 0..k {
        offsets[fold + 1] = offsets[fold] + counts[fold];
    }
    // Excluded rows are written behind all others and cut off.
    let mut rows = vec![0u32; ids.len()];
    let mut cursors = offsets.clone();
    for (row, id) in ids.iter().enumerate() {
        let cursor = &mut cursors[id.index().min(k)];
        rows[*cursor] = row as u32;
        *cursor += 1;
    }
    rows.truncate(offsets[k]);
    FoldLists { offsets, rows }
}

/// Gives a list whose content no longer matters that length.
fn resize(list: &mut Vec<u32>, len: usize) {
    if list.capacity() < len {
        // Memory that comes zeroed is not written twice.
        *list = vec![0; len];
    } else {
        list.resize(len, 0);
    }
}

impl FoldMap {
    /// A map from ids that are below `k` or excluded.
    pub(crate) fn new<I: Id>(
        k: usize,
        ids: Vec<I>,
        spec: Spec,
        fingerprint: Option<Fingerprint>,
        warnings: Vec<Warning>,
    ) -> Self {
        let counts = tally(&ids, k);
        Self { k, ids: I::wrap(ids), counts, spec, fingerprint, warnings }
    }

    /// Number of rows, excluded ones included.
    #[must_use]
    pub fn rows(&self) -> usize {
        match &self.ids {
            Ids::U8(ids) => ids.len(),
            Ids::U16(ids) => ids.len(),
        }
    }

    /// Number of folds.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// The fold of `row`; none for an excluded row and for one that does not exist.
    #[must_use]
    pub fn fold_of(&self, row: usize) -> Option<usize> {
        let fold = match &self.ids {
            Ids::U8(ids) => usize::from(*ids.get(row)?),
            Ids::U16(ids) => usize::from(*ids.get(row)?),
        };
        (fold < self.k).then_some(fold)
    }

    /// Number of rows in each fold.
    #[must_use]
    pub fn sizes(&self) -> Vec<usize> {
        self.counts[..self.k].to_vec()
    }

    /// The rows of fold `fold`, ascending.
    ///
    /// # Errors
    /// [`SplitError::NoSuchSplit`] when there is no such fold.
    pub fn fold(&self, fold: usize) -> Result<Vec<u32>, SplitError> {
        if fold >= self.k {
            return Err(no_split(fold, self.k));
        }
        Ok(self.list(self.counts[fold], Wanted::Fold(fold)))
    }

    /// The rows of all folds but `fold`, ascending, without excluded ones.
    ///
    /// # Errors
    /// [`SplitError::NoSuchSplit`] when there is no such fold.
    pub fn train(&self, fold: usize) -> Result<Vec<u32>, SplitError> {
        if fold >= self.k {
            return Err(no_split(fold, self.k));
        }
        let len = self.rows() - self.counts[fold] - self.counts[self.k];
        Ok(self.list(len, Wanted::Others(fold)))
    }

    /// Split `fold` into two lists whose memory is used again: `train` receives the rows of all other folds, `valid`
    /// those of `fold`, both ascending, without excluded ones.
    ///
    /// The form for going through the folds one at a time: it makes both lists in one pass, and allocates once.
    ///
    /// ```
    /// use firebrick_split::{KFold, Rows, Splitter};
    ///
    /// let folds = KFold::new(3).split(&Rows::new(7))?;
    /// let (mut train, mut valid) = (Vec::new(), Vec::new());
    /// for fold in 0..folds.k() {
    ///     folds.split_into(fold, &mut train, &mut valid)?;
    ///     assert_eq!(train.len() + valid.len(), 7);
    /// }
    /// assert_eq!((train, valid), (vec![0, 1, 2, 3, 4], vec![5, 6]));
    /// # Ok::<(), firebrick_split::SplitError>(())
    /// ```
    ///
    /// # Errors
    /// [`SplitError::NoSuchSplit`] when there is no such fold; the lists are then as they were.
    pub fn split_into(
        &self,
        fold: usize,
        train: &mut Vec<u32>,
        valid: &mut Vec<u32>,
    ) -> Result<(), SplitError> {
        if fold >= self.k {
            return Err(no_split(fold, self.k));
        }
        resize(train, self.rows() - self.counts[fold] - self.counts[self.k]);
        resize(valid, self.counts[fold]);
        match &self.ids {
            Ids::U8(ids) => both(ids, fold, train, valid),
            Ids::U16(ids) => both(ids, fold, train, valid),
        }
        Ok(())
    }

    /// All folds listed in one pass; 4 bytes a row.
    #[must_use]
    pub fn lists(&self) -> FoldLists {
        match &self.ids {
            Ids::U8(ids) => lists(ids, self.k, &self.counts),
            Ids::U16(ids) => lists(ids, self.k, &self.counts),
        }
    }

    /// The rows in no fold, ascending.
    #[must_use]
    pub fn excluded(&self) -> Vec<u32> {
        self.list(self.counts[self.k], Wanted::Excluded)
    }

    fn list(&self, len: usize, wanted: Wanted) -> Vec<u32> {
        match &self.ids {
            Ids::U8(ids) => list(ids, len, wanted),
            Ids::U16(ids) => list(ids, len, wanted),
        }
    }

    /// The recipe that made the map.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The fingerprint of the rows, where it was given.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// What the user should know.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The ids as little-endian bytes.
    pub(crate) fn id_bytes(&self) -> std::borrow::Cow<'_, [u8]> {
        match &self.ids {
            Ids::U8(ids) => ids.into(),
            Ids::U16(ids) => ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<_>>().into(),
        }
    }

    /// The map of ids that were saved; refuses ids beyond `k`.
    pub(crate) fn from_id_bytes(
        k: usize,
        bytes: Vec<u8>,
        spec: Spec,
        fingerprint: Option<Fingerprint>,
        warnings: Vec<Warning>,
    ) -> Result<Self, SplitError> {
        let damaged = |reason: String| SplitError::MapDamaged { reason };
        if k == 0 || k > MAX_FOLDS {
            return Err(damaged(format!("{k} folds; a map holds 1 to {MAX_FOLDS}")));
        }
        let ids = if k <= BYTE_FOLDS {
            Ids::U8(bytes)
        } else {
            let (pairs, []) = bytes.as_chunks::<2>() else {
                return Err(damaged("an odd number of bytes for two-byte ids".into()));
            };
            Ids::U16(pairs.iter().map(|&pair| u16::from_le_bytes(pair)).collect())
        };
        let bad = match &ids {
            Ids::U8(ids) => ids.iter().position(|&id| id != u8::EXCLUDED && id.index() >= k),
            Ids::U16(ids) => ids.iter().position(|&id| id != u16::EXCLUDED && id.index() >= k),
        };
        match bad {
            Some(row) => Err(damaged(format!("row {row} is in a fold beyond the {k} there are"))),
            None => {
                let counts = match &ids {
                    Ids::U8(ids) => tally(ids, k),
                    Ids::U16(ids) => tally(ids, k),
                };
                Ok(Self { k, ids, counts, spec, fingerprint, warnings })
            }
        }
    }
}

impl Splits for FoldMap {
    fn rows(&self) -> usize {
        self.rows()
    }

    fn count(&self) -> usize {
        self.k
    }

    fn get(&self, index: usize) -> Result<Split, SplitError> {
        let (mut train, mut valid) = (Vec::new(), Vec::new());
        self.split_into(index, &mut train, &mut valid)?;
        Ok(Split { train: RowSet::List(train), valid: RowSet::List(valid) })
    }

    fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// The serialized form: the ids as hexadecimal text, 2 or 4 digits a row.
#[derive(Serialize, Deserialize)]
struct Stored {
    k: usize,
    spec: Spec,
    #[serde(default)]
    fingerprint: Option<Fingerprint>,
    #[serde(default)]
    warnings: Vec<Warning>,
    ids: String,
}

impl Serialize for FoldMap {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Stored {
            k: self.k,
            spec: self.spec.clone(),
            fingerprint: self.fingerprint,
            warnings: self.warnings.clone(),
            ids: crate::hex::encode(&self.id_bytes()),
        }
        .serialize(to)
    }
}

impl<'de> Deserialize<'de> for FoldMap {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(from)?;
        let bytes = crate::hex::decode(&stored.ids)
            .ok_or_else(|| serde::de::Error::custom("`ids` is not hexadecimal"))?;
        Self::from_id_bytes(stored.k, bytes, stored.spec, stored.fingerprint, stored.warnings)
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(k: usize, ids: &[u16]) -> FoldMap {
        let spec = Spec::new("test", None);
        with_id!(k, I => {
            let ids = ids.iter().map(|&id| if id == u16::MAX { I::EXCLUDED } else { I::new(id.into()) });
            FoldMap::new(k, ids.collect(), spec, None, vec![])
        })
    }

    #[test]
    fn lists_agree_in_both_widths() {
        for k in [3, 300] {
            let map = map(k, &[0, 2, u16::MAX, 1, 0, 2, 2, 1, 0, u16::MAX, 0]);
            assert_eq!(map.fold(0).expect("exists"), [0, 4, 8, 10]);
            assert_eq!(map.fold(2).expect("exists"), [1, 5, 6]);
            assert_eq!(map.train(0).expect("exists"), [1, 3, 5, 6, 7]);
            assert_eq!(map.excluded(), [2, 9]);
            assert_eq!(map.sizes()[..3], [4, 2, 3]);
            assert_eq!((map.fold_of(1), map.fold_of(2), map.fold_of(99)), (Some(2), None, None));
            // Lists that were longer, shorter and of another map.
            let (mut train, mut valid) = (vec![7; 100], vec![7]);
            for fold in 0..3 {
                map.split_into(fold, &mut train, &mut valid).expect("exists");
                assert_eq!(train, map.train(fold).expect("exists"));
                assert_eq!(valid, map.fold(fold).expect("exists"));
            }
            assert!(map.split_into(k, &mut train, &mut valid).is_err());
            assert_eq!(valid, [1, 5, 6]);
            let lists = map.lists();
            assert_eq!(lists.count(), k);
            for fold in 0..k {
                assert_eq!(lists.fold(fold), map.fold(fold).expect("exists"));
            }
            assert_eq!(lists.fold(usize::MAX), [0u32; 0]);
            assert!(
                matches!(map.train(k), Err(SplitError::NoSuchSplit { index, count }) if index == k && count == k)
            );
            let text = serde_json::to_string(&map).expect("serializes");
            assert_eq!(serde_json::from_str::<FoldMap>(&text).expect("reads back"), map);
        }
    }

    #[test]
    fn damaged_maps_are_refused() {
        let text = serde_json::to_string(&map(3, &[0, 1, 2])).expect("serializes");
        for (from, to) in
            [("000102", "000103"), ("000102", "00010"), ("000102", "zz"), ("\"k\":3", "\"k\":0")]
        {
            assert!(text.contains(from));
            assert!(serde_json::from_str::<FoldMap>(&text.replace(from, to)).is_err(), "{to}");
        }
    }
}
