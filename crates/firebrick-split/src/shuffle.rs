//! The shuffle of fold numbers: the same draws as `firebrick_core::Philox`, sixteen blocks at a time.
//!
//! Shuffling one byte a row instead of row numbers keeps ten million rows in cache, and generating words
//! in batches lets the compiler use vector instructions. The result is word for word that of
//! `Philox::shuffle`, which the tests check.

use crate::ids::Id;
use firebrick_core::{Philox, Seed};
use rayon::prelude::*;

/// Blocks made at once.
const BATCH: usize = 16;

/// The words of a [`Philox`] stream from its start, made in batches.
#[derive(Debug)]
pub(crate) struct Words {
    stream: Philox,
    next_block: u64,
    words: [[u32; 4]; BATCH],
    used: usize,
}

impl Words {
    /// The words of `stream` from its first on.
    pub(crate) fn new(stream: Philox) -> Self {
        Self { stream, next_block: 0, words: [[0; 4]; BATCH], used: 4 * BATCH }
    }

    #[inline(never)]
    fn refill(&mut self) {
        for (lane, block) in self.words.iter_mut().enumerate() {
            *block = self.stream.block_at(self.next_block + lane as u64);
        }
        self.next_block += BATCH as u64;
        self.used = 0;
    }

    /// The next word.
    #[inline]
    pub(crate) fn next(&mut self) -> u32 {
        if self.used == 4 * BATCH {
            self.refill();
        }
        let word = self.words.as_flattened()[self.used];
        self.used += 1;
        word
    }

    /// Uniform in `0..n` for `n` of at least 1, by the rule of `Philox::below`.
    #[inline]
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        let mut product = u64::from(self.next()) * u64::from(n);
        if (product as u32) < n {
            let reject = n.wrapping_neg() % n;
            while (product as u32) < reject {
                product = u64::from(self.next()) * u64::from(n);
            }
        }
        (product >> 32) as u32
    }

    /// Shuffles uniformly; at most `u32::MAX` items.
    pub(crate) fn shuffle<T: Copy>(&mut self, items: &mut [T]) {
        debug_assert!(items.len() <= u32::MAX as usize);
        for i in (1..items.len()).rev() {
            let j = self.below(i as u32 + 1) as usize;
            items.swap(i, j);
        }
    }
}

/// Longer columns are dealt into buckets first, so that every swap stays within the cache.
const IN_CACHE: usize = 1 << 20;

/// Shuffles fold numbers uniformly under (seed, purpose).
///
/// Up to 2^20 of them as `Philox::shuffle` does. Beyond, each goes to a random one of at most 256 buckets, whose
/// contents are then shuffled one by one, each from its own stream: uniform over all orders for any number of
/// buckets, and the same on any number of threads. V. S. Rao 1961; M. Sandelius, "A simple randomization procedure",
/// J. R. Stat. Soc. B 1962.
pub(crate) fn shuffle_ids<I: Id>(ids: &mut [I], seed: Seed, purpose: &str) {
    if ids.len() <= IN_CACHE {
        Words::new(seed.stream(purpose)).shuffle(ids);
        return;
    }
    let buckets = (ids.len() >> 18).next_power_of_two().min(256);
    let mut words = Words::new(seed.stream(purpose));
    let mut homes = vec![0u8; ids.len()];
    let mut sizes = vec![0usize; buckets];
    // A byte of the words for each item, the lowest first.
    for four in homes.chunks_mut(4) {
        for (home, byte) in four.iter_mut().zip(words.next().to_le_bytes()) {
            *home = byte & (buckets - 1) as u8;
            sizes[usize::from(*home)] += 1;
        }
    }
    let mut cursors = vec![0usize; buckets];
    for bucket in 1..buckets {
        cursors[bucket] = cursors[bucket - 1] + sizes[bucket - 1];
    }
    let mut dealt = vec![I::new(0); ids.len()];
    for (&id, home) in ids.iter().zip(homes) {
        let cursor = &mut cursors[usize::from(home)];
        dealt[*cursor] = id;
        *cursor += 1;
    }
    let mut rest = dealt.as_mut_slice();
    let mut parts = Vec::with_capacity(buckets);
    for size in sizes {
        let (part, behind) = rest.split_at_mut(size);
        parts.push(part);
        rest = behind;
    }
    parts.into_par_iter().enumerate().for_each(|(bucket, part)| {
        Words::new(seed.child(bucket as u64).stream(purpose)).shuffle(part);
    });
    ids.copy_from_slice(&dealt);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shuffle_is_that_of_the_generator() {
        for n in [0usize, 1, 2, 63, 64, 65, 1000] {
            for seed in 0..20 {
                let mut ours: Vec<u16> = (0..n as u16).collect();
                let mut theirs = ours.clone();
                Words::new(Seed(seed).stream("split")).shuffle(&mut ours);
                Seed(seed).stream("split").shuffle(&mut theirs);
                assert_eq!(ours, theirs, "n {n} seed {seed}");
            }
        }
    }

    #[test]
    fn long_columns_are_permuted_alike_on_any_number_of_threads() {
        let n = IN_CACHE + 12_345;
        let start: Vec<u8> = (0..n).map(|row| (row * 5 / n) as u8).collect();
        let shuffled = |threads| {
            let pool =
                rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let mut ids = start.clone();
            pool.install(|| shuffle_ids(&mut ids, Seed(3), "split/test"));
            ids
        };
        let ids = shuffled(1);
        assert!(ids == shuffled(2) && ids == shuffled(3));
        let count = |ids: &[u8], id: u8| ids.iter().filter(|&&other| other == id).count();
        // Each id as often as before, and in each eighth of the rows as often as chance has it: 40 cells, the
        // 0.9999 quantile of chi-square with 28 degrees of freedom is 63.
        let mut chi = 0.0;
        for id in 0..5 {
            assert_eq!(count(&ids, id), count(&start, id));
            for eighth in ids.chunks(n.div_ceil(8)) {
                let expected = eighth.len() as f64 / 5.0;
                chi += (count(eighth, id) as f64 - expected).powi(2) / expected;
            }
        }
        assert!(chi < 63.0, "{chi}");
    }

    #[test]
    fn neighbours_in_long_columns_are_independent() {
        // Pairs (i, i + 1) over 5 x 5 ids: 24 degrees of freedom at most, 0.9999 quantile 60.
        let n = 2 * IN_CACHE;
        let mut ids: Vec<u8> = (0..n).map(|row| (row * 5 / n) as u8).collect();
        shuffle_ids(&mut ids, Seed(4), "split/test");
        let mut counts = [0f64; 25];
        ids.chunks_exact(2)
            .for_each(|pair| counts[usize::from(pair[0]) * 5 + usize::from(pair[1])] += 1.0);
        let expected = n as f64 / 50.0;
        let chi: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
        assert!(chi < 60.0, "{chi}");
    }
}
