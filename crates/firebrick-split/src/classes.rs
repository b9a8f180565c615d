//! Classes and groups in dense numbering: by first appearance, or by ascending code.

/// Distinct values of a column of codes, numbered densely.
#[derive(Debug)]
pub(crate) struct Dense {
    /// The code of each number.
    pub(crate) codes: Vec<u32>,
    /// Rows of each number.
    pub(crate) counts: Vec<usize>,
    lookup: Lookup,
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
        let max = column.iter().copied().max().unwrap_or(0) as usize;
        // A table pays while it is not much larger than the column itself.
        if max <= column.len().saturating_mul(2).max(4096) {
            Self::with_table(column, max, appearance)
        } else {
            Self::with_sort(column, appearance)
        }
    }

    fn with_table(column: &[u32], max: usize, appearance: bool) -> Self {
        let (mut codes, mut counts) = (Vec::new(), Vec::new());
        let mut table = vec![u32::MAX; max + 1];
        if appearance {
            for &code in column {
                let number = &mut table[code as usize];
                if *number == u32::MAX {
                    *number = codes.len() as u32;
                    codes.push(code);
                    counts.push(0usize);
                }
                counts[*number as usize] += 1;
            }
        } else {
            // The table counts first, and is then overwritten by the numbers; fewer than 2^32 rows fit.
            table.fill(0);
            for &code in column {
                table[code as usize] += 1;
            }
            for (code, entry) in table.iter_mut().enumerate() {
                if *entry > 0 {
                    counts.push(*entry as usize);
                    *entry = codes.len() as u32;
                    codes.push(code as u32);
                }
            }
        }
        Self { codes, counts, lookup: Lookup::Table(table) }
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
}
