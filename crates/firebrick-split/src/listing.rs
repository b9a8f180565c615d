//! Row lists out of fold ids: eight rows at a time, blocks of rows in parallel.
//!
//! A block's place in the list follows from counts, so every block can be written alone and the result does not depend on
//! the number of threads. Within a block no branch depends on the ids: a table gives the kept rows of eight.

use crate::ids::Id;
use rayon::prelude::*;

/// Rows that one task lists.
const BLOCK: usize = 1 << 16;

/// The rows to list.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    /// Those of one fold.
    Fold(usize),
    /// Those of all other folds.
    Others(usize),
    /// Those of none.
    Excluded,
}

impl Wanted {
    #[inline]
    fn keeps<I: Id>(self, id: I) -> bool {
        match self {
            Self::Fold(fold) => id == I::new(fold),
            Self::Others(fold) => (id != I::new(fold)) & (id != I::EXCLUDED),
            Self::Excluded => id == I::EXCLUDED,
        }
    }
}

/// Number of wanted rows.
fn count<I: Id>(ids: &[I], wanted: Wanted) -> usize {
    match wanted {
        Wanted::Fold(fold) => count_by(ids, |id| id == I::new(fold)),
        Wanted::Others(fold) => count_by(ids, |id| (id != I::new(fold)) & (id != I::EXCLUDED)),
        Wanted::Excluded => count_by(ids, |id| id == I::EXCLUDED),
    }
}

/// Counts in bytes, which vectorizes.
#[inline]
fn count_by<I: Id>(ids: &[I], keep: impl Fn(I) -> bool) -> usize {
    let of = |some: &[I]| some.iter().fold(0u8, |sum, &id| sum.wrapping_add(u8::from(keep(id))));
    let (most, rest) = ids.as_chunks::<128>();
    most.iter().map(|some| usize::from(of(some))).sum::<usize>() + usize::from(of(rest))
}

/// Rows per fold; the last entry counts the excluded ones.
pub(crate) fn tally<I: Id>(ids: &[I], k: usize) -> Vec<usize> {
    let of = |block: &[I]| -> Vec<usize> {
        if k <= 16 {
            let folds = (0..k).map(Wanted::Fold).chain([Wanted::Excluded]);
            return folds.map(|wanted| count(block, wanted)).collect();
        }
        let mut counts = vec![0usize; k + 1];
        block.iter().for_each(|id| counts[id.index().min(k)] += 1);
        counts
    };
    let add = |mut sum: Vec<usize>, other: Vec<usize>| {
        sum.iter_mut().zip(other).for_each(|(sum, count)| *sum += count);
        sum
    };
    // Blocks that are long against the table they fill.
    let block = BLOCK.max(16 * k);
    let counts = ids.par_chunks(block).map(of).reduce(|| vec![0; k + 1], add);
    debug_assert_eq!(counts.iter().sum::<usize>(), ids.len());
    counts
}

/// The wanted rows, ascending; `len` is their number.
pub(crate) fn list<I: Id>(ids: &[I], len: usize, wanted: Wanted) -> Vec<u32> {
    let mut rows = vec![0u32; len];
    if ids.len() <= 2 * BLOCK {
        I::write(ids, 0, wanted, &mut rows);
        return rows;
    }
    let counts: Vec<usize> = ids.par_chunks(BLOCK).map(|block| count(block, wanted)).collect();
    let blocks = ids.par_chunks(BLOCK).enumerate();
    blocks.zip(cut(&mut rows, counts)).for_each(|((number, block), part)| {
        I::write(block, (number * BLOCK) as u32, wanted, part);
    });
    rows
}

/// Both lists of a split in one pass: the rows of all other folds, and those of `fold`; each has just the room it needs.
pub(crate) fn both<I: Id>(ids: &[I], fold: usize, train: &mut [u32], valid: &mut [u32]) {
    if ids.len() <= 2 * BLOCK {
        return I::write_both(ids, 0, fold, train, valid);
    }
    let complete = train.len() + valid.len() == ids.len();
    let counts = ids.par_chunks(BLOCK).map(|block| {
        let kept = count(block, Wanted::Fold(fold));
        let excluded = if complete { 0 } else { count(block, Wanted::Excluded) };
        (block.len() - kept - excluded, kept)
    });
    let (others, kept): (Vec<usize>, Vec<usize>) = counts.unzip();
    let parts = cut(train, others).into_par_iter().zip(cut(valid, kept));
    ids.par_chunks(BLOCK).enumerate().zip(parts).for_each(|((number, block), (train, valid))| {
        I::write_both(block, (number * BLOCK) as u32, fold, train, valid);
    });
}

/// The list in parts of these lengths.
fn cut(list: &mut [u32], lengths: Vec<usize>) -> Vec<&mut [u32]> {
    let mut rest = list;
    let part = |len| {
        let (part, behind) = std::mem::take(&mut rest).split_at_mut(len);
        rest = behind;
        part
    };
    lengths.into_iter().map(part).collect()
}

/// Writes the wanted rows of a block that begins at row `first`; `out` has room for just them.
pub(crate) fn write<I: Id>(ids: &[I], first: u32, wanted: Wanted, out: &mut [u32]) {
    let kept = ids.iter().enumerate().filter(|(_, id)| wanted.keeps(**id));
    for (slot, (row, _)) in out.iter_mut().zip(kept) {
        *slot = first + row as u32;
    }
}

/// The same for one-byte ids.
pub(crate) fn write_bytes(ids: &[u8], first: u32, wanted: Wanted, out: &mut [u32]) {
    match wanted {
        Wanted::Fold(fold) => compact(ids, first, [out], |eight| [equal(eight, fold as u8)]),
        Wanted::Others(fold) => {
            compact(ids, first, [out], |eight| [others(eight, equal(eight, fold as u8))]);
        }
        Wanted::Excluded => compact(ids, first, [out], |eight| [equal(eight, u8::EXCLUDED)]),
    }
}

/// Writes the rows of all other folds and those of `fold`, for one-byte ids.
pub(crate) fn write_both_bytes(
    ids: &[u8],
    first: u32,
    fold: usize,
    train: &mut [u32],
    valid: &mut [u32],
) {
    compact(ids, first, [train, valid], |eight| {
        let kept = equal(eight, fold as u8);
        [others(eight, kept), kept]
    });
}

/// 1 in each byte.
const ONES: u64 = 0x0101_0101_0101_0101;

/// Which of eight ids are `id`: 1 in the byte of each that is, else 0.
#[inline]
fn equal(eight: u64, id: u8) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let difference = eight ^ u64::from_le_bytes([id; 8]);
    // The highest bit of each byte that is not zero; no sum of two bytes below 128 carries into the next.
    let other = ((difference & LOW) + LOW) | difference;
    (!other & !LOW) >> 7
}

/// Which of eight ids are in a fold, without the `kept` ones.
#[inline]
fn others(eight: u64, kept: u64) -> u64 {
    ONES ^ (kept | equal(eight, u8::EXCLUDED))
}

/// For each choice of eight rows: their places in order, then zeros, two in a word, which halves the work.
static PLACES: [[u64; 4]; 256] = {
    let mut table = [[0; 4]; 256];
    let mut choice = 0;
    while choice < 256 {
        let (mut place, mut next) = (0, 0);
        while place < 8 {
            if choice >> place & 1 == 1 {
                table[choice][next / 2] |= place << (32 * (next % 2));
                next += 1;
            }
            place += 1;
        }
        choice += 1;
    }
    table
};

/// Writes each list's rows; `wanted` says for eight ids which rows each list takes.
#[inline]
fn compact<const LISTS: usize>(
    ids: &[u8],
    first: u32,
    mut lists: [&mut [u32]; LISTS],
    wanted: impl Fn(u64) -> [u64; LISTS],
) {
    let (eights, tail) = ids.as_chunks::<8>();
    let mut row = first;
    for eight in eights {
        let wanted = wanted(u64::from_le_bytes(*eight));
        lists.iter_mut().zip(wanted).for_each(|(list, wanted)| append(list, row, wanted));
        // Blocks begin at multiples of eight, and the rows are fewer than 2^32.
        row = row.wrapping_add(8);
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    let there = (1 << (8 * tail.len())) - 1;
    let wanted = wanted(u64::from_le_bytes(last));
    lists.iter_mut().zip(wanted).for_each(|(list, wanted)| append(list, row, wanted & there));
}

/// Writes those of the eight rows from `row` on that are wanted, and leaves the room behind them.
#[inline]
fn append(list: &mut &mut [u32], row: u32, wanted: u64) {
    // Bit 8 j to bit 56 + j: no two products share a place. And the sum of the bytes.
    let choice = (wanted.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8;
    let kept = (wanted.wrapping_mul(ONES) >> 56) as usize;
    match list.first_chunk_mut::<8>() {
        // Eight are written, of which only the wanted ones count: the next eight overwrite the others.
        Some(slots) => *slots = rows(row, choice),
        None => write_last(list, row, choice),
    }
    *list = &mut std::mem::take(list)[kept..];
}

/// The same where there is no room for eight.
#[cold]
#[inline(never)]
fn write_last(list: &mut [u32], row: u32, choice: u8) {
    list.iter_mut().zip(rows(row, choice)).for_each(|(slot, row)| *slot = row);
}

/// The chosen ones of the eight rows from `row` on, then `row`.
#[inline]
fn rows(row: u32, choice: u8) -> [u32; 8] {
    let twice = u64::from(row) << 32 | u64::from(row);
    let [a, b, c, d] = PLACES[usize::from(choice)].map(|places| twice | places);
    let (low, high) = (|two: u64| two as u32, |two: u64| (two >> 32) as u32);
    [low(a), high(a), low(b), high(b), low(c), high(c), low(d), high(d)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The lists one row at a time.
    fn plain<I: Id>(ids: &[I], wanted: Wanted) -> Vec<u32> {
        (0..ids.len()).filter(|&row| wanted.keeps(ids[row])).map(|row| row as u32).collect()
    }

    fn agree<I: Id>(ids: &[I], k: usize) {
        let counts = tally(ids, k);
        for wanted in
            (0..k).flat_map(|f| [Wanted::Fold(f), Wanted::Others(f)]).chain([Wanted::Excluded])
        {
            let expected = plain(ids, wanted);
            assert_eq!(list(ids, expected.len(), wanted), expected, "{wanted:?}");
            match wanted {
                Wanted::Fold(fold) => assert_eq!(counts[fold], expected.len()),
                Wanted::Others(_) => assert_eq!(count(ids, wanted), expected.len()),
                Wanted::Excluded => assert_eq!(counts[k], expected.len()),
            }
        }
        for fold in 0..k {
            let expected = (plain(ids, Wanted::Others(fold)), plain(ids, Wanted::Fold(fold)));
            let mut lists = (vec![0; expected.0.len()], vec![0; expected.1.len()]);
            both(ids, fold, &mut lists.0, &mut lists.1);
            assert_eq!(lists, expected, "fold {fold}");
        }
    }

    proptest! {
        #[test]
        fn eight_at_a_time_is_one_at_a_time(ids in prop::collection::vec(prop_oneof![0u8..6, Just(u8::MAX), 127u8..130], 0..700)) {
            agree(&ids, 130);
            let wide: Vec<u16> = ids.iter().map(|&id| if id == u8::MAX { u16::MAX } else { id.into() }).collect();
            agree(&wide, 130);
        }
    }

    #[test]
    fn blocks_meet_without_a_seam() {
        let ids: Vec<u8> = (0..5 * BLOCK + 77)
            .map(|row| (row * row / 7 % 4) as u8)
            .map(|id| if id == 3 { 255 } else { id })
            .collect();
        agree(&ids, 3);
        let wide: Vec<u16> =
            ids.iter().map(|&id| if id == 255 { u16::MAX } else { id.into() }).collect();
        agree(&wide, 3);
    }
}
