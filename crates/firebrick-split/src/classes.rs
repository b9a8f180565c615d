//! Classes and groups in dense numbering: by first appearance, or by ascending code.

use rayon::prelude::*;

/// Rows that one task looks at.
const PART: usize = 1 << 16;
/// Rows of a block, whose codes are counted by themselves.
pub(crate) const BLOCK: usize = 1 << 18;
/// Codes below this are counted in one pass over the column.
pub(crate) const SMALL: usize = 4096;

/// Rows of each code in each block of the column; none where a code is not below [`SMALL`].
fn blocks_of_codes(column: &[u32]) -> Option<Vec<Vec<u32>>> {
    let count = |block: &[u32]| {
        // Two tables, so that equal neighbours do not wait for one another.
        let mut tables = [[0u32; SMALL]; 2];
        let mut bits = 0;
        let (pairs, last) = block.as_chunks::<2>();
        for codes in pairs.iter().map(|pair| &pair[..]).chain([last]) {
            for (table, &code) in tables.iter_mut().zip(codes) {
                bits |= code;
                let rows = &mut table[code as usize % SMALL];
                *rows = rows.wrapping_add(1);
            }
        }
        // No code is above all bits together.
        let codes = bits as usize + 1;
        let sum = |(one, two): (&u32, &u32)| one + two;
        (codes <= SMALL).then(|| tables[0][..codes].iter().zip(&tables[1]).map(sum).collect())
    };
    column.par_chunks(BLOCK).map(count).collect()
}

/// Rows of each code up to `max`, the column in four parts at once where their tables are small against it.
fn rows_of_codes(column: &[u32], max: usize) -> Vec<u32> {
    // One byte a code keeps the table of a million codes in cache; a code that has filled its byte is noted.
    let count = |part: &[u32]| {
        let (mut table, mut full) = (vec![0u8; max + 1], Vec::new());
        for &code in part {
            let rows = &mut table[code as usize];
            *rows = rows.wrapping_add(1);
            if *rows == 0 {
                full.push(code);
            }
        }
        (table, full)
    };
    let parts = if (max + 1).saturating_mul(8) <= column.len() { 4 } else { 1 };
    let parts = column.par_chunks(column.len().div_ceil(parts).max(PART)).map(count);
    let parts: Vec<(Vec<u8>, Vec<u32>)> = parts.collect();
    // Fewer than 2^32 rows fit into a column.
    let mut sums = vec![0u32; max + 1];
    for (table, full) in parts {
        sums.iter_mut().zip(table).for_each(|(sum, rows)| *sum += u32::from(rows));
        full.into_iter().for_each(|code| sums[code as usize] += 1 << u8::BITS);
    }
    sums
}

/// Distinct values of a column of codes, numbered densely.
#[derive(Debug)]
pub(crate) struct Dense {
    /// The code of each number.
    pub(crate) codes: Vec<u32>,
    /// Rows of each number.
    pub(crate) counts: Vec<usize>,
    lookup: Lookup,
    /// Rows of each code in each block of [`BLOCK`] rows, where all codes are small.
    pub(crate) blocks: Option<Vec<Vec<u32>>>,
}

#[derive(Debug)]
enum Lookup {
    /// Number by code.
    Table(Vec<u32>),
    /// (code, number), ascending, for codes far above the number of rows.
    Sorted(Vec<(u32, u32)>),
}

impl Dense {
    /// Numbers by first appearance, so that renaming the codes changes nothing.
    pub(crate) fn by_appearance(column: &[u32]) -> Self {
        Self::build(column, true)
    }

    /// Numbers by ascending code.
    pub(crate) fn by_code(column: &[u32]) -> Self {
        Self::build(column, false)
    }

    fn build(column: &[u32], appearance: bool) -> Self {
        if let Some(blocks) = blocks_of_codes(column) {
            let codes = blocks.iter().map(Vec::len).max().unwrap_or(0);
            let mut table = vec![0u32; codes];
            for block in &blocks {
                table.iter_mut().zip(block).for_each(|(sum, rows)| *sum += rows);
            }
            let dense = Self::with_table(column, table, appearance);
            return Self { blocks: Some(blocks), ..dense };
        }
        let max = column.par_chunks(PART).filter_map(|part| part.iter().max()).max();
        let max = max.copied().unwrap_or(0) as usize;
        // A table pays while it is not much larger than the column itself.
        if max <= column.len().saturating_mul(2).max(4096) {
            Self::with_table(column, rows_of_codes(column, max), appearance)
        } else {
            Self::with_sort(column, appearance)
        }
    }

    /// From the rows of each code.
    fn with_table(column: &[u32], mut table: Vec<u32>, appearance: bool) -> Self {
        if !appearance {
            let (mut codes, mut counts) = (Vec::new(), Vec::new());
            // The table counted first, and is now overwritten by the numbers.
            for (code, entry) in table.iter_mut().enumerate() {
                if *entry > 0 {
                    counts.push(*entry as usize);
                    *entry = codes.len() as u32;
                    codes.push(code as u32);
                }
            }
            return Self { codes, counts, lookup: Lookup::Table(table), blocks: None };
        }
        let distinct = table.iter().filter(|&&rows| rows > 0).count();
        let mut numbers = vec![u32::MAX; table.len()];
        let mut codes = Vec::with_capacity(distinct);
        for &code in column {
            // Most often all have appeared soon.
            if codes.len() == distinct {
                break;
            }
            let number = &mut numbers[code as usize];
            if *number == u32::MAX {
                *number = codes.len() as u32;
                codes.push(code);
            }
        }
        let counts = codes.iter().map(|&code| table[code as usize] as usize).collect();
        Self { codes, counts, lookup: Lookup::Table(numbers), blocks: None }
    }

    fn with_sort(column: &[u32], appearance: bool) -> Self {
        let mut first: Vec<(u32, u32)> =
            column.iter().enumerate().map(|(row, &code)| (code, row as u32)).collect();
        first.sort_unstable();
        let mut runs: Vec<(u32, u32, usize)> = Vec::new();
        for (code, row) in first {
            match runs.last_mut() {
                Some(run) if run.0 == code => run.2 += 1,
                _ => runs.push((code, row, 1)),
            }
        }
        if appearance {
            runs.sort_unstable_by_key(|run| run.1);
        }
        let mut sorted: Vec<(u32, u32)> =
            runs.iter().enumerate().map(|(number, run)| (run.0, number as u32)).collect();
        sorted.sort_unstable();
        Self {
            codes: runs.iter().map(|run| run.0).collect(),
            counts: runs.iter().map(|run| run.2).collect(),
            lookup: Lookup::Sorted(sorted),
            blocks: None,
        }
    }

    /// Number of distinct values.
    pub(crate) fn len(&self) -> usize {
        self.codes.len()
    }

    /// The number of a code that occurs in the column.
    #[inline]
    pub(crate) fn number(&self, code: u32) -> usize {
        match &self.lookup {
            Lookup::Table(table) => table[code as usize] as usize,
            Lookup::Sorted(sorted) => {
                let place = sorted.partition_point(|&(c, _)| c < code);
                sorted[place].1 as usize
            }
        }
    }

    /// What `of` holds for the number of each row.
    pub(crate) fn spread<T: Copy + Send + Sync>(&self, column: &[u32], of: &[T]) -> Vec<T> {
        let rows = column.par_iter().with_min_len(PART);
        match (&self.lookup, of.first()) {
            // One table from codes straight to values; codes that do not occur hold any.
            (Lookup::Table(table), Some(&any)) => {
                let values = table.iter().map(|&n| of.get(n as usize).copied().unwrap_or(any));
                let values: Vec<T> = values.collect();
                rows.map(|&code| values[code as usize]).collect()
            }
            _ => rows.map(|&code| of[self.number(code)]).collect(),
        }
    }

    /// Code and rows of the numbers that `wanted` picks.
    pub(crate) fn list(&self, wanted: impl Fn(usize) -> bool) -> Vec<(u32, usize)> {
        self.codes
            .iter()
            .zip(&self.counts)
            .filter(|(_, count)| wanted(**count))
            .map(|(c, n)| (*c, *n))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_with_more_rows_than_a_byte_holds_are_counted() {
        // On one part, and on four.
        for times in [1, 1000] {
            let counts = [1usize, 0, 255, 256, 257, 512, 70_000].map(|count| count * times);
            let column: Vec<u32> =
                (0..).zip(counts).flat_map(|(code, count)| vec![code; count]).collect();
            assert_eq!(rows_of_codes(&column, 6), counts.map(|count| count as u32));
        }
    }

    #[test]
    fn both_ways_of_numbering_agree_for_small_and_huge_codes() {
        let small = [7u32, 3, 7, 0, 3, 7];
        let huge: Vec<u32> = small.iter().map(|&c| u32::MAX - 10 + c).collect();
        for column in [&small[..], &huge] {
            let appearance = Dense::by_appearance(column);
            assert_eq!(appearance.codes, [column[0], column[1], column[3]]);
            assert_eq!(appearance.counts, [3, 2, 1]);
            let numbers: Vec<usize> = column.iter().map(|&c| appearance.number(c)).collect();
            assert_eq!(numbers, [0, 1, 0, 2, 1, 0]);
            let code = Dense::by_code(column);
            assert_eq!(code.codes, [column[3], column[1], column[0]]);
            assert_eq!(code.counts, [1, 2, 3]);
            assert_eq!(code.number(column[0]), 2);
        }
    }

    #[test]
    fn blocks_hold_the_rows_of_each_code() {
        let column: Vec<u32> = (0..BLOCK as u32 + 3).map(|row| row % 5 * 1000).collect();
        let blocks = blocks_of_codes(&column).expect("all are small");
        let of = |block: usize, code: usize| blocks[block].get(code).copied().unwrap_or(0);
        assert_eq!((of(0, 0), of(0, 1000), of(0, 4000)), (52_429, 52_429, 52_428));
        assert_eq!([0, 1000, 2000, 3000, 4000].map(|code| of(1, code)), [1, 1, 0, 0, 1]);
        assert_eq!(of(0, 1) + of(1, 1), 0);
        assert_eq!(
            blocks_of_codes(&[0, SMALL as u32 - 1]).map(|blocks| blocks[0][SMALL - 1]),
            Some(1)
        );
        assert_eq!(blocks_of_codes(&[0, SMALL as u32]), None);
    }
}
