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
    let mut rest = rows.as_mut_slice();
    let mut parts = Vec::with_capacity(counts.len());
    for count in counts {
        let (part, behind) = rest.split_at_mut(count);
        parts.push(part);
        rest = behind;
    }
    let blocks = ids.par_chunks(BLOCK).enumerate();
    blocks.zip(parts).for_each(|((number, block), part)| {
        I::write(block, (number * BLOCK) as u32, wanted, part);
    });
    rows
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
        Wanted::Fold(fold) => compact(ids, first, out, |eight| equal(eight, fold as u8)),
        Wanted::Others(fold) => compact(ids, first, out, |eight| {
            !(equal(eight, fold as u8) | equal(eight, u8::EXCLUDED))
        }),
        Wanted::Excluded => compact(ids, first, out, |eight| equal(eight, u8::EXCLUDED)),
    }
}

/// A bit for each of eight ids, the first the lowest: whether it is `id`.
#[inline]
fn equal(eight: u64, id: u8) -> u8 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let difference = eight ^ u64::from_le_bytes([id; 8]);
    // The highest bit of each byte that is not zero; no sum of two bytes below 128 carries into the next.
    let other = ((difference & LOW) + LOW) | difference;
    let zero = (!other & !LOW) >> 7;
    // Bit 8 j to bit 56 + j; no two products share a place.
    (zero.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}

/// For each choice of eight rows: their places in order, then zeros.
static PLACES: [[u32; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut choice = 0;
    while choice < 256 {
        let (mut place, mut next) = (0, 0);
        while place < 8 {
            if choice >> place & 1 == 1 {
                table[choice][next] = place;
                next += 1;
            }
            place += 1;
        }
        choice += 1;
    }
    table
};

fn compact(ids: &[u8], first: u32, out: &mut [u32], mask: impl Fn(u64) -> u8) {
    let (eights, tail) = ids.as_chunks::<8>();
    let (mut next, mut row) = (0, first);
    for eight in eights {
        let mask = mask(u64::from_le_bytes(*eight));
        let (places, kept) = (&PLACES[usize::from(mask)], mask.count_ones() as usize);
        match out[next..].first_chunk_mut::<8>() {
            // Eight are written, of which only the kept ones count: the next eight overwrite the others.
            Some(slots) => {
                slots.iter_mut().zip(places).for_each(|(slot, place)| *slot = row | place);
            }
            None => {
                let slots = out[next..next + kept].iter_mut();
                slots.zip(places).for_each(|(slot, place)| *slot = row | place);
            }
        }
        next += kept;
        // Blocks begin at multiples of eight, and the rows are fewer than 2^32.
        row = row.wrapping_add(8);
    }
    let mut last = [u8::EXCLUDED; 8];
    last[..tail.len()].copy_from_slice(tail);
    let mask = mask(u64::from_le_bytes(last)) & ((1u16 << tail.len()) - 1) as u8;
    let slots = out[next..].iter_mut();
    slots.zip(&PLACES[usize::from(mask)]).for_each(|(slot, place)| *slot = row | place);
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
