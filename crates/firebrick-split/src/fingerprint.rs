//! What the rows contain, in a few bytes: a 64-bit hash a row, and a fingerprint of all.
//!
//! The row hash is pinned (version 1): 16 bytes at a time are folded by a 64 by 64 bit multiplication. It is
//! made for accidents, not for adversaries: with n rows, two different ones collide with probability of
//! about n^2 / 2^65, 3e-6 at 10 million rows, and checks that act on equal hashes compare the bytes as well.

use crate::SplitError;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Odd constants: the fractional parts of the square roots of 2, 3 and 5.
const KEYS: [u64; 3] = [0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b];

/// Lower and upper half of the product, combined.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// A hash of one row, fed value by value.
#[derive(Debug, Clone)]
struct RowHasher {
    state: u64,
    length: u64,
}

impl RowHasher {
    fn new() -> Self {
        Self { state: KEYS[2], length: 0 }
    }

    #[inline]
    fn pair(&mut self, a: u64, b: u64) {
        self.state = fold(a ^ KEYS[0], b ^ self.state).wrapping_add(KEYS[1]);
        self.length = self.length.wrapping_add(1);
    }

    fn finish(self) -> u64 {
        let mixed = fold(self.state ^ KEYS[1], self.length ^ KEYS[0]);
        fold(mixed ^ KEYS[2], mixed ^ KEYS[0])
    }
}

/// The hash of a row given as bytes.
#[must_use]
pub fn hash_bytes(row: &[u8]) -> u64 {
    let mut hasher = RowHasher::new();
    let (chunks, tail) = row.as_chunks::<16>();
    for chunk in chunks {
        let value = u128::from_le_bytes(*chunk);
        hasher.pair(value as u64, (value >> 64) as u64);
    }
    let mut last = [0u8; 16];
    last[..tail.len()].copy_from_slice(tail);
    let value = u128::from_le_bytes(last);
    hasher.pair(value as u64, (value >> 64) as u64);
    // The length tells a row that ends in zeros from a shorter one.
    hasher.pair(row.len() as u64, 1);
    hasher.finish()
}

/// The bits of a float; -0 counts as 0, and every NaN as the same one.
#[inline]
fn bits(value: f32) -> u32 {
    if value == 0.0 {
        0
    } else if value.is_nan() {
        0x7fc0_0000
    } else {
        value.to_bits()
    }
}

/// The hash of a row of floats with its label; equal values hash alike (-0 is 0, NaN is NaN).
#[must_use]
pub fn hash_f32(features: &[f32], label: Option<u32>) -> u64 {
    let mut hasher = RowHasher::new();
    let (quads, tail) = features.as_chunks::<4>();
    let join = |low: f32, high: f32| u64::from(bits(low)) | u64::from(bits(high)) << 32;
    for &[a, b, c, d] in quads {
        hasher.pair(join(a, b), join(c, d));
    }
    let mut last = [0.0; 4];
    last[..tail.len()].copy_from_slice(tail);
    hasher.pair(join(last[0], last[1]), join(last[2], last[3]));
    hasher.pair(features.len() as u64, label.map_or(1 << 32, u64::from));
    hasher.finish()
}

/// One hash a row: what the sealed test part and the ledger know of the data.
///
/// ```
/// use firebrick_split::RowHashes;
///
/// // Three rows of two features, with labels.
/// let hashes = RowHashes::from_f32(&[0.0, 1.0, 2.0, 3.0, 0.0, 1.0], 2, Some(&[7, 8, 7]))?;
/// assert_eq!(hashes.as_slice()[0], hashes.as_slice()[2]);
/// assert_eq!(hashes.fingerprint().rows, 3);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RowHashes(Vec<u64>);

impl RowHashes {
    /// From hashes that [`hash_bytes`] or [`hash_f32`] made, one a row.
    #[must_use]
    pub fn new(hashes: Vec<u64>) -> Self {
        Self(hashes)
    }

    /// From rows given as bytes, in order.
    pub fn from_bytes<B: AsRef<[u8]>>(rows: impl IntoIterator<Item = B>) -> Self {
        Self(rows.into_iter().map(|row| hash_bytes(row.as_ref())).collect())
    }

    /// From a row-major matrix with `columns` features a row, and the label of each row.
    ///
    /// # Errors
    /// When `columns` is 0, does not divide the number of values, or the labels differ in number.
    pub fn from_f32(
        values: &[f32],
        columns: usize,
        labels: Option<&[u32]>,
    ) -> Result<Self, SplitError> {
        firebrick_core::check::at_least("columns", columns, 1)?;
        let n = values.len() / columns;
        if n * columns != values.len() {
            let len = values.len();
            return Err(SplitError::LengthMismatch { column: "values", len, n: n * columns });
        }
        if let Some(labels) = labels
            && labels.len() != n
        {
            return Err(SplitError::LengthMismatch { column: "labels", len: labels.len(), n });
        }
        let hash =
            |(row, features): (usize, &[f32])| hash_f32(features, labels.map(|labels| labels[row]));
        Ok(Self(values.par_chunks_exact(columns).enumerate().map(hash).collect()))
    }

    /// The hashes in row order.
    #[must_use]
    pub fn as_slice(&self) -> &[u64] {
        &self.0
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The hashes of some rows, ascending, so that their order says nothing.
    ///
    /// # Errors
    /// [`SplitError::RowsDiffer`] when a row does not exist.
    pub fn select_sorted(&self, rows: &[u32]) -> Result<Vec<u64>, SplitError> {
        let mut hashes = Vec::with_capacity(rows.len());
        for &row in rows {
            let hash = self.0.get(row as usize).ok_or(SplitError::RowsDiffer {
                what: "the row hashes",
                len: self.len(),
                n: row as usize + 1,
            })?;
            hashes.push(*hash);
        }
        hashes.sort_unstable();
        Ok(hashes)
    }

    /// The fingerprint of all rows.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.0)
    }
}

/// What a set of rows contains: their number, their content whatever the order, and their order.
///
/// The content is the sum modulo 2^128 of a 128-bit spreading of each row's hash, so it counts repeated
/// rows and does not depend on order; the order is a chain over the hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Number of rows.
    pub rows: u64,
    /// The content, independent of order.
    #[serde(with = "wide")]
    pub content: u128,
    /// The content in its order.
    #[serde(with = "wide")]
    pub order: u128,
}

impl Fingerprint {
    /// The fingerprint of rows with these hashes.
    #[must_use]
    pub fn of(hashes: &[u64]) -> Self {
        let spread = |hash: u64| {
            u128::from(fold(hash ^ KEYS[0], KEYS[1] ^ hash.rotate_left(32)))
                | u128::from(fold(hash ^ KEYS[1], KEYS[2] ^ hash.rotate_left(17))) << 64
        };
        let (mut content, mut chain) = (0u128, [KEYS[0], KEYS[1]]);
        for &hash in hashes {
            content = content.wrapping_add(spread(hash));
            chain = [
                fold(chain[0] ^ hash, KEYS[1]).wrapping_add(chain[1]),
                fold(chain[1] ^ hash.rotate_left(29), KEYS[2]).wrapping_add(chain[0]),
            ];
        }
        let order = u128::from(chain[0]) | u128::from(chain[1]) << 64;
        Self { rows: hashes.len() as u64, content, order }
    }

    /// Whether both describe the same rows in any order.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        (self.rows, self.content) == (other.rows, other.content)
    }

    /// Rows and content as text, without the order: `1797:0123..ef`.
    #[must_use]
    pub fn content_text(&self) -> String {
        format!("{}:{:032x}", self.rows, self.content)
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{:032x}:{:032x}", self.rows, self.content, self.order)
    }
}

/// 128-bit numbers as 32 hexadecimal digits: JSON's numbers end at 2^53 for many readers.
mod wide {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{value:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        let text = String::deserialize(from)?;
        u128::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn equal_rows_hash_alike_and_others_do_not() {
        assert_eq!(hash_f32(&[0.0, f32::NAN], None), hash_f32(&[-0.0, -f32::NAN], None));
        assert_ne!(hash_f32(&[0.0], None), hash_f32(&[0.0, 0.0], None));
        assert_ne!(hash_f32(&[0.0], None), hash_f32(&[0.0], Some(0)));
        assert_ne!(hash_f32(&[0.0], Some(1)), hash_f32(&[0.0], Some(0)));
        assert_ne!(hash_bytes(b"a"), hash_bytes(b"a\0"));
        assert_ne!(hash_bytes(b""), hash_bytes(b"\0"));
    }

    #[test]
    fn rows_that_differ_in_little_do_not_collide() {
        // Small images with few grey values, and counters: 300,000 rows, expected collisions 2e-9.
        let mut seen = HashSet::new();
        for value in 0..100_000u32 {
            assert!(seen.insert(hash_bytes(&value.to_le_bytes())));
            assert!(
                seen.insert(hash_f32(&[0.0, (value % 317) as f32, (value / 317) as f32], None))
            );
            assert!(seen.insert(hash_f32(&[1.0; 5], Some(value))));
        }
    }

    #[test]
    fn one_bit_changes_half_of_the_hash() {
        // Mean of 64 x 256 flips: half, with a standard error of 0.0039 in the share; five of them.
        let mut flipped = 0;
        for row in 0..64u64 {
            let bytes: Vec<u8> = (0..32).map(|i| (row * 37 + i * 11) as u8).collect();
            let base = hash_bytes(&bytes);
            for bit in 0..256 {
                let mut other = bytes.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                flipped += (hash_bytes(&other) ^ base).count_ones();
            }
        }
        let share = f64::from(flipped) / (64.0 * 256.0 * 64.0);
        assert!((share - 0.5).abs() < 0.0025, "{share}");
    }

    #[test]
    fn the_hash_is_pinned() {
        assert_eq!(hash_bytes(b"firebrick"), PINNED.0);
        assert_eq!(hash_f32(&[1.0, 2.0, 3.0, 4.0, 5.0], Some(6)), PINNED.1);
    }
    /// What version 1 gives for ever, from tests/references/split_pinned.py.
    const PINNED: (u64, u64) = (0x445b_92d9_160b_8535, 0x7cd8_0b07_820a_5be3);

    #[test]
    fn shapes_are_checked() {
        assert!(RowHashes::from_f32(&[1.0; 6], 4, None).is_err());
        assert!(RowHashes::from_f32(&[1.0; 6], 0, None).is_err());
        assert!(RowHashes::from_f32(&[1.0; 6], 2, Some(&[0, 1])).is_err());
        assert!(RowHashes::new(vec![1]).select_sorted(&[1]).is_err());
    }

    proptest! {
        #[test]
        fn order_counts_only_where_it_should(mut hashes in prop::collection::vec(any::<u64>(), 2..40), a: usize, b: usize) {
            let before = Fingerprint::of(&hashes);
            let (a, b) = (a % hashes.len(), b % hashes.len());
            hashes.swap(a, b);
            let after = Fingerprint::of(&hashes);
            prop_assert!(before.same_content(&after));
            prop_assert_eq!(before.order == after.order, hashes[a] == hashes[b]);
            hashes[a] ^= 1 << (b % 64);
            prop_assert!(!before.same_content(&Fingerprint::of(&hashes)));
            let text = serde_json::to_string(&after).expect("serializes");
            prop_assert_eq!(serde_json::from_str::<Fingerprint>(&text).expect("reads back"), after);
        }
    }
}
