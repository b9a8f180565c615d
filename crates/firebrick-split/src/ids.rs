//! Fold numbers as they are stored: one byte a row while that is enough, else two.

use crate::listing::{self, Wanted};

/// The fold of each row in one byte, or two from 256 folds on; the largest value marks rows in no fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ids {
    /// Up to 255 folds.
    U8(Vec<u8>),
    /// Up to 65,535 folds.
    U16(Vec<u16>),
}

/// A fold number as it is stored.
pub(crate) trait Id: Copy + Eq + Send + Sync + 'static {
    /// Marks a row in no fold.
    const EXCLUDED: Self;
    /// The number as an id; callers keep it below `EXCLUDED`.
    fn new(fold: usize) -> Self;
    /// The id as a number.
    fn index(self) -> usize;
    /// Wraps a column of ids.
    fn wrap(ids: Vec<Self>) -> Ids;
    /// Writes the wanted rows of a block that begins at row `first`; `out` has room for just them.
    fn write(ids: &[Self], first: u32, wanted: Wanted, out: &mut [u32]) {
        listing::write(ids, first, wanted, out);
    }
    /// Writes the rows of all other folds and those of `fold`; each list has room for just them.
    fn write_both(ids: &[Self], first: u32, fold: usize, train: &mut [u32], valid: &mut [u32]) {
        listing::write(ids, first, Wanted::Others(fold), train);
        listing::write(ids, first, Wanted::Fold(fold), valid);
    }
}

impl Id for u8 {
    const EXCLUDED: Self = Self::MAX;
    #[inline]
    fn new(fold: usize) -> Self {
        fold as Self
    }
    #[inline]
    fn index(self) -> usize {
        self.into()
    }
    fn wrap(ids: Vec<Self>) -> Ids {
        Ids::U8(ids)
    }
    fn write(ids: &[Self], first: u32, wanted: Wanted, out: &mut [u32]) {
        listing::write_bytes(ids, first, wanted, out);
    }
    fn write_both(ids: &[Self], first: u32, fold: usize, train: &mut [u32], valid: &mut [u32]) {
        listing::write_both_bytes(ids, first, fold, train, valid);
    }
}

impl Id for u16 {
    const EXCLUDED: Self = Self::MAX;
    #[inline]
    fn new(fold: usize) -> Self {
        fold as Self
    }
    #[inline]
    fn index(self) -> usize {
        self.into()
    }
    fn wrap(ids: Vec<Self>) -> Ids {
        Ids::U16(ids)
    }
}

/// Most folds that one byte a row can name.
pub(crate) const BYTE_FOLDS: usize = u8::MAX as usize;
/// Most folds that a map can hold.
pub const MAX_FOLDS: usize = u16::MAX as usize;

/// Runs `$body` with `$id` as the narrowest type for `$k` folds.
macro_rules! with_id {
    ($k:expr, $id:ident => $body:expr) => {
        if $k <= $crate::ids::BYTE_FOLDS {
            type $id = u8;
            $body
        } else {
            type $id = u16;
            $body
        }
    };
}
pub(crate) use with_id;
