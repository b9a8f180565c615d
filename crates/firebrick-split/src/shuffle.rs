//! The shuffle of fold numbers: the same draws as `firebrick_core::Philox`, sixteen blocks at a time.
//!
//! Shuffling one byte a row instead of row numbers keeps ten million rows in cache, and generating words
//! in batches lets the compiler use vector instructions. The result is word for word that of
//! `Philox::shuffle`, which the tests check.

use crate::ids::Id;
use firebrick_core::{Philox, Seed};
use rayon::prelude::*;
use std::ops::Range;

/// Blocks made at once.
const BATCH: usize = 16;

/// The words of a [`Philox`] stream from its start, made in batches.
#[derive(Debug)]
pub(crate) struct Words {
    stream: Philox,
    next_block: u64,
    words: [u32; 4 * BATCH],
    used: usize,
}

impl Words {
    /// The words of `stream` from its first on.
    pub(crate) fn new(stream: Philox) -> Self {
        Self::at(stream, 0)
    }

    /// The words of `stream` from those of block `block` on.
    fn at(stream: Philox, block: u64) -> Self {
        Self { stream, next_block: block, words: [0; 4 * BATCH], used: 4 * BATCH }
    }

    #[inline(never)]
    fn refill(&mut self) {
        // Packed in pairs: LLVM makes vector instructions of this loop, and of one that stores four words it does not.
        let mut blocks = [[0u64; 2]; BATCH];
        for (lane, block) in blocks.iter_mut().enumerate() {
            let at = self.next_block.wrapping_add(lane as u64);
            let [a, b, c, d] = self.stream.block_at(at).map(u64::from);
            *block = [a | b << 32, c | d << 32];
        }
        let pairs = self.words.as_chunks_mut::<2>().0.iter_mut().zip(blocks.as_flattened());
        pairs.for_each(|(words, &pair)| *words = [pair as u32, (pair >> 32) as u32]);
        self.next_block = self.next_block.wrapping_add(BATCH as u64);
        self.used = 0;
    }

    /// The words that are there and not used, at least one; whoever takes them counts them in `used`.
    #[inline]
    fn ready(&mut self) -> &[u32] {
        if self.used == self.words.len() {
            self.refill();
        }
        &self.words[self.used..]
    }

    /// The next word.
    #[inline]
    pub(crate) fn next(&mut self) -> u32 {
        let word = self.ready()[0];
        self.used += 1;
        word
    }

    /// Uniform in `0..n` for `n` of at least 1.
    #[inline]
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        loop {
            if let Some(draw) = draw(self.next(), n) {
                return draw;
            }
        }
    }

    /// Shuffles uniformly; at most `u32::MAX` items.
    pub(crate) fn shuffle<T: Copy>(&mut self, items: &mut [T]) {
        debug_assert!(items.len() <= u32::MAX as usize);
        let mut left = items.len();
        while left > 1 {
            let mut used = 0;
            // The draws of `below`, with the words of a batch at hand.
            for &word in self.ready() {
                used += 1;
                let Some(draw) = draw(word, left as u32) else { continue };
                left -= 1;
                items.swap(left, draw as usize);
                if left == 1 {
                    break;
                }
            }
            self.used += used;
        }
    }
}

/// What a word draws out of `0..n`, by the rule of `Philox::below`; `None` for one of the few that would favour some.
#[inline]
fn draw(word: u32, n: u32) -> Option<u32> {
    let product = u64::from(word) * u64::from(n);
    let accepted = product as u32 >= n || product as u32 >= n.wrapping_neg() % n;
    accepted.then_some((product >> 32) as u32)
}

/// Longer columns are dealt into buckets first, so that every swap stays within the cache.
const IN_CACHE: usize = 1 << 20;
/// Items whose buckets one task draws.
const PIECE: usize = 1 << 18;

/// Fills `ids` with runs of equal ids, which must have its length together.
pub(crate) fn fill<I: Id>(ids: &mut [I], runs: impl IntoIterator<Item = (I, usize)>) {
    let mut rest = ids;
    for (id, len) in runs {
        let (run, behind) = rest.split_at_mut(len);
        run.fill(id);
        rest = behind;
    }
}

/// Fills `ids` with runs of equal ids in an order that is uniformly random under (seed, purpose).
///
/// Up to 2^20 of them as `Philox::shuffle` does. Beyond, each goes to a random one of at most 256 buckets, whose
/// contents are then shuffled one by one, each from its own stream: uniform over all orders for any number of
/// buckets, and the same on any number of threads. Of a run only the number that goes to each bucket matters, so nothing
/// is moved before the last step. V. S. Rao 1961; M. Sandelius, "A simple randomization procedure", J. R. Stat. Soc. B
/// 1962.
pub(crate) fn fill_shuffled<I: Id>(
    ids: &mut [I],
    runs: impl IntoIterator<Item = (I, usize)>,
    seed: Seed,
    purpose: &str,
) {
    if ids.len() <= IN_CACHE {
        fill(ids, runs);
        Words::new(seed.stream(purpose)).shuffle(ids);
        return;
    }
    let runs: Vec<(I, usize)> = runs.into_iter().collect();
    let buckets = (ids.len() >> 18).next_power_of_two().min(256);
    // Pieces of runs: the run's number, and its items by their place in the whole.
    let mut pieces = Vec::new();
    let mut start = 0;
    for (run, &(_, len)) in runs.iter().enumerate() {
        let end = start + len;
        pieces.extend((start..end).step_by(PIECE).map(|at| (run, at..end.min(at + PIECE))));
        start = end;
    }
    let stream = seed.stream(purpose);
    let drawn: Vec<Vec<u32>> =
        pieces.par_iter().map(|(_, place)| homes(&stream, place.clone(), buckets)).collect();
    let mut counts = vec![0u32; runs.len() * buckets];
    for ((run, _), drawn) in pieces.iter().zip(drawn) {
        let sums = &mut counts[run * buckets..(run + 1) * buckets];
        sums.iter_mut().zip(drawn).for_each(|(sum, count)| *sum += count);
    }
    let of = |run: usize, bucket: usize| counts[run * buckets + bucket] as usize;
    let mut rest = ids;
    let mut parts = Vec::with_capacity(buckets);
    for bucket in 0..buckets {
        let size = (0..runs.len()).map(|run| of(run, bucket)).sum();
        let (part, behind) = rest.split_at_mut(size);
        parts.push(part);
        rest = behind;
    }
    parts.into_par_iter().enumerate().for_each(|(bucket, part)| {
        fill(part, runs.iter().enumerate().map(|(run, &(id, _))| (id, of(run, bucket))));
        Words::new(seed.child(bucket as u64).stream(purpose)).shuffle(part);
    });
}

/// How many of the items at `place` go to each bucket: item `i` by byte `i` of the stream, the lowest of a word first.
fn homes(stream: &Philox, place: Range<usize>, buckets: usize) -> Vec<u32> {
    let mask = (buckets - 1) as u8;
    let mut words = Words::at(stream.clone(), (place.start / 16) as u64);
    for _ in 0..place.start % 16 / 4 {
        words.next();
    }
    // A table for each byte of a word, so that equal neighbours do not wait for one another.
    let mut tables = [[0u32; 256]; 4];
    let mut next = place.start;
    while next < place.end {
        let bytes = words.next().to_le_bytes();
        if next.is_multiple_of(4) && next + 4 <= place.end {
            tables.iter_mut().zip(bytes).for_each(|(table, b)| table[usize::from(b & mask)] += 1);
            next += 4;
        } else {
            let end = (next / 4 * 4 + 4).min(place.end);
            bytes[next % 4..].iter().take(end - next).for_each(|b| {
                tables[0][usize::from(b & mask)] += 1;
            });
            next = end;
        }
    }
    (0..buckets).map(|bucket| tables.iter().map(|table| table[bucket]).sum()).collect()
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
        let runs = || (0..5u8).map(move |id| (id, n / 5 + usize::from(usize::from(id) < n % 5)));
        let mut start = vec![0u8; n];
        fill(&mut start, runs());
        let shuffled = |threads| {
            let pool =
                rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let mut ids = vec![0; n];
            pool.install(|| fill_shuffled(&mut ids, runs(), Seed(3), "split/test"));
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
    fn long_columns_are_dealt_as_one_by_one() {
        // The definition: every item to the bucket that its byte names, in order; then each bucket shuffled.
        let n = IN_CACHE + 54_321;
        let runs = [(7u8, 12_345), (1, 700_001), (7, 0), (0, 3), (9, n - 712_349)];
        let mut start = vec![0u8; n];
        fill(&mut start, runs);
        let mut buckets = vec![Vec::new(); (n >> 18).next_power_of_two()];
        let mut stream = Seed(5).stream("split/test");
        for four in start.chunks(4) {
            for (id, byte) in four.iter().zip(stream.next_u32().to_le_bytes()) {
                let bucket = usize::from(byte) % buckets.len();
                buckets[bucket].push(*id);
            }
        }
        for (bucket, items) in buckets.iter_mut().enumerate() {
            Seed(5).child(bucket as u64).stream("split/test").shuffle(items);
        }
        let mut ids = vec![0; n];
        fill_shuffled(&mut ids, runs, Seed(5), "split/test");
        assert!(ids == buckets.concat());
    }

    #[test]
    fn neighbours_in_long_columns_are_independent() {
        // Pairs (i, i + 1) over 5 x 5 ids: 24 degrees of freedom at most, 0.9999 quantile 60.
        let n = 2 * IN_CACHE;
        let mut ids = vec![0u8; n];
        let runs = (0..5u8).map(|id| (id, n / 5 + usize::from(usize::from(id) < n % 5)));
        fill_shuffled(&mut ids, runs, Seed(4), "split/test");
        let mut counts = [0f64; 25];
        ids.chunks_exact(2)
            .for_each(|pair| counts[usize::from(pair[0]) * 5 + usize::from(pair[1])] += 1.0);
        let expected = n as f64 / 50.0;
        let chi: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
        assert!(chi < 60.0, "{chi}");
    }
}
