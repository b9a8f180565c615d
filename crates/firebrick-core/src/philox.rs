//! Philox4x32-10: the counter-based generator behind every random choice of firebrick.
//!
//! A block of four 32-bit words is a pure function of (key, counter), so any element can be had alone,
//! and no result depends on how many threads ask. The key is the seed, the upper half of the counter
//! the stream, the lower half the position: 2^64 streams of 2^66 words for each seed.
//!
//! The mapping from words to numbers is fixed here and never changes: what a seed gives today it gives
//! on every platform and in every later version.
//!
//! # Reference
//! J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3",
//! SC 2011.

/// A stream of random numbers that is fixed by (seed, stream) and can be entered at any position.
///
/// ```
/// use firebrick_core::Philox;
///
/// let mut stream = Philox::new(7, 0);
/// let first: Vec<u32> = (0..6).map(|_| stream.next_u32()).collect();
/// stream.seek(4); // words are counted from 0
/// assert_eq!(stream.next_u32(), first[4]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
    stream: u64,
    /// Number of the next word of the stream.
    position: u128,
    /// The block that holds the last word drawn.
    block: [u32; 4],
}

impl Philox {
    /// The generator at the start of `stream` under `seed`.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let key = [seed as u32, (seed >> 32) as u32];
        Self { key, stream, position: 0, block: [0; 4] }
    }

    /// The function itself: ten rounds over the counter under the key.
    #[must_use]
    #[inline]
    pub fn block(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
        let ([mut a, mut b, mut c, mut d], [mut k, mut l]) = (counter, key);
        for _ in 0..10 {
            let left = u64::from(a) * 0xD251_1F53;
            let right = u64::from(c) * 0xCD9E_8D57;
            (a, b, c, d) = (
                (right >> 32) as u32 ^ b ^ k,
                right as u32,
                (left >> 32) as u32 ^ d ^ l,
                left as u32,
            );
            k = k.wrapping_add(0x9E37_79B9);
            l = l.wrapping_add(0xBB67_AE85);
        }
        [a, b, c, d]
    }

    /// The four words of block `index` of this stream, without moving the position.
    #[must_use]
    #[inline]
    pub fn block_at(&self, index: u64) -> [u32; 4] {
        let counter =
            [index as u32, (index >> 32) as u32, self.stream as u32, (self.stream >> 32) as u32];
        Self::block(counter, self.key)
    }

    /// The number of the next word.
    #[must_use]
    pub fn position(&self) -> u128 {
        self.position
    }

    /// Goes to word number `position` of the stream (modulo 2^66).
    pub fn seek(&mut self, position: u128) {
        self.position = position & ((1 << 66) - 1);
        if !self.position.is_multiple_of(4) {
            self.block = self.block_at((self.position / 4) as u64);
        }
    }

    /// The next 32 bits.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        let lane = (self.position % 4) as usize;
        if lane == 0 {
            self.block = self.block_at((self.position / 4) as u64);
        }
        self.position = (self.position + 1) & ((1 << 66) - 1);
        self.block[lane]
    }

    /// The next 64 bits: the first word drawn is the lower half.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        low | u64::from(self.next_u32()) << 32
    }

    /// Uniform in [0, 1) with 53 bits.
    #[inline]
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform integer in [0, `n`) without bias; 0 when `n` is 0.
    ///
    /// Lemire's multiplication with rejection, on 32 bits while `n` fits, else on 64.
    /// D. Lemire, "Fast random integer generation in an interval", TOMACS 2019.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        if let Ok(n) = u32::try_from(n) {
            let mut product = u64::from(self.next_u32()) * u64::from(n);
            if (product as u32) < n {
                let reject = n.wrapping_neg() % n.max(1);
                while (product as u32) < reject {
                    product = u64::from(self.next_u32()) * u64::from(n);
                }
            }
            return product >> 32;
        }
        let reject = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= reject {
                return (product >> 64) as u64;
            }
        }
    }

    /// Normal with mean 0 and variance 1, by the cosine branch of Box and Muller.
    ///
    /// Logarithm and cosine come from `libm`, so the bits do not depend on the platform's C library.
    pub fn normal(&mut self) -> f64 {
        // 1 - uniform lies in (0, 1], so the logarithm is finite.
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform()));
        radius * libm::cos(std::f64::consts::TAU * self.uniform())
    }

    /// Shuffles uniformly: Fisher and Yates from the end, `swap(i, below(i + 1))`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The known answers that the authors publish with their Random123 library.
    #[test]
    fn matches_the_published_vectors() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([!0; 4], [!0; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(Philox::block(counter, key), expected);
        }
    }

    #[test]
    fn the_mapping_is_pinned() {
        let mut stream = Philox::new(0, 0);
        assert_eq!(stream.next_u64(), 0xe169_c58d_6627_e8d5);
        stream.seek(0);
        assert_eq!(
            stream.uniform().to_bits(),
            ((0xe169_c58d_6627_e8d5u64 >> 11) as f64 / 2f64.powi(53)).to_bits()
        );
    }

    #[test]
    fn below_is_uniform() {
        // Chi-square with 9 degrees of freedom; 33.7 is the 0.9999 quantile.
        let mut stream = Philox::new(3, 1);
        let mut counts = [0u32; 10];
        for _ in 0..100_000 {
            counts[stream.below(10) as usize] += 1;
        }
        let chi: f64 = counts.iter().map(|&c| (f64::from(c) - 1e4).powi(2) / 1e4).sum();
        assert!(chi < 33.7, "chi-square {chi}");
    }

    #[test]
    fn shuffles_are_uniform_over_all_orders() {
        // 24 orders, 23 degrees of freedom; 56.0 is the 0.9999 quantile.
        let mut stream = Philox::new(5, 1);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..24_000 {
            let mut items = [0, 1, 2, 3];
            stream.shuffle(&mut items);
            *counts.entry(items).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        let chi: f64 = counts.values().map(|&c| (f64::from(c) - 1e3).powi(2) / 1e3).sum();
        assert!(chi < 56.0, "chi-square {chi}");
    }

    #[test]
    fn normals_have_the_moments_of_a_normal() {
        let mut stream = Philox::new(11, 0);
        let n = 200_000;
        let draws: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
        let moment = |k: i32| draws.iter().map(|x| x.powi(k)).sum::<f64>() / f64::from(n);
        // Five standard errors: var(x) = 1, var(x^2) = 2, var(x^3) = 15, var(x^4) = 96.
        let bound = |variance: f64| 5.0 * (variance / f64::from(n)).sqrt();
        assert!(moment(1).abs() < bound(1.0));
        assert!((moment(2) - 1.0).abs() < bound(2.0));
        assert!(moment(3).abs() < bound(15.0));
        assert!((moment(4) - 3.0).abs() < bound(96.0));
    }

    #[test]
    fn degenerate_bounds_are_defined() {
        let mut stream = Philox::new(1, 1);
        assert_eq!(stream.below(0), 0);
        assert_eq!(stream.below(1), 0);
        assert!(stream.below(u64::MAX) < u64::MAX);
        stream.shuffle::<u8>(&mut []);
    }

    proptest! {
        #[test]
        fn every_position_can_be_entered(seed: u64, stream: u64, skip in 0usize..50) {
            let mut whole = Philox::new(seed, stream);
            let words: Vec<u32> = (0..60).map(|_| whole.next_u32()).collect();
            let mut entered = Philox::new(seed, stream);
            entered.seek(skip as u128);
            prop_assert_eq!(entered.next_u32(), words[skip]);
            prop_assert_eq!(entered.position(), skip as u128 + 1);
        }

        #[test]
        fn below_stays_below(seed: u64, n in 1u64..) {
            let mut stream = Philox::new(seed, 0);
            for _ in 0..8 {
                prop_assert!(stream.below(n) < n);
            }
        }
    }
}
