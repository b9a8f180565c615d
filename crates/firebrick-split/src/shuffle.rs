//! The shuffle of fold numbers: the same draws as `firebrick_core::Philox`, sixteen blocks at a time.
//!
//! Shuffling one byte a row instead of row numbers keeps ten million rows in cache, and generating words
//! in batches lets the compiler use vector instructions. The result is word for word that of
//! `Philox::shuffle`, which the tests check.

use firebrick_core::Philox;

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

#[cfg(test)]
mod tests {
    use super::*;
    use firebrick_core::Seed;

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
}
