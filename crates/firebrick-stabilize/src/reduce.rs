//! Norms and scaling over slices in host memory: vectorized, parallel, the same bits for any number of threads.
//!
//! Slices are split at fixed places, so the order of a sum never depends on how many threads take part, and
//! nothing is allocated. Blocks are summed in f32, seven times as fast as in f64, and their sums in f64; a block
//! whose squares overflow or vanish in f32 is summed again in f64, where none can.

use crate::NormType;
use crate::lanes::{abs, sums, total};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Work that is compiled once more for each instruction set, and run with the best one that the machine has. The
/// whole of it must be inlined by force: what is called is compiled for the oldest machine.
macro_rules! vectorized {
    ($work:ty, $output:ty) => {
        impl pulp::WithSimd for $work {
            type Output = $output;

            #[inline(always)]
            fn with_simd<S: pulp::Simd>(self, _: S) -> $output {
                self.run()
            }
        }
    };
}

/// Elements that are summed by one core without a pause.
const LEAF: usize = 1 << 15;
/// Elements that several cores share. Whoever hands work to rayon sleeps until one of its threads has woken, 25 to 75 us on
/// two cores; meanwhile one core has read half a million elements in its cache.
const SHARED: usize = 1 << 20;

/// Both results, from two threads if there are `several`.
fn both<A: Send, B: Send>(
    several: bool,
    left: impl FnOnce() -> A + Send,
    right: impl FnOnce() -> B + Send,
) -> (A, B) {
    if several { rayon::join(left, right) } else { (left(), right()) }
}

/// Sum of magnitudes, sum of squares, or largest magnitude; NaN if an element is NaN.
fn reduce(norm_type: NormType, values: &[f32], several: bool) -> f64 {
    if values.len() <= LEAF {
        return Arch::new().dispatch(Reduce { norm_type, values });
    }
    // Halves of whole leaves: the tree of sums is fixed by the length alone.
    let middle = (values.len() / 2).next_multiple_of(LEAF).min(values.len() - 1);
    let (left, right) = values.split_at(middle);
    let half = |values| move || reduce(norm_type, values, several);
    let (left, right) = both(several, half(left), half(right));
    match norm_type {
        NormType::Infinity => largest_of(left, right),
        NormType::One | NormType::Two => left + right,
    }
}

/// [`reduce`] of a leaf.
struct Reduce<'a> {
    norm_type: NormType,
    values: &'a [f32],
}

impl WithSimd for Reduce<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        match self.norm_type {
            NormType::One => {
                let exact = |value: f32| f64::from(value.abs());
                sum(simd, self.values, 0.0, |value| abs(simd, value), exact)
            }
            NormType::Two => {
                let exact = |value: f32| f64::from(value) * f64::from(value);
                sum(simd, self.values, TINY_SQUARES, |value| simd.mul_f32s(value, value), exact)
            }
            NormType::Infinity => largest(self.values),
        }
    }
}

/// [`reduce`] of each slice, in one parallel region.
pub(crate) fn reduce_all(norm_type: NormType, slices: &[&[f32]], results: &mut [f64]) {
    let several = slices.iter().map(|slice| slice.len()).sum::<usize>() > SHARED;
    reduce_each(norm_type, slices, results, several);
}

fn reduce_each(norm_type: NormType, slices: &[&[f32]], results: &mut [f64], several: bool) {
    let few = || slices.iter().map(|slice| slice.len()).sum::<usize>() <= LEAF;
    if !several || slices.len() <= 1 || few() {
        for (slice, result) in slices.iter().zip(results) {
            *result = reduce(norm_type, slice, several);
        }
        return;
    }
    let middle = slices.len() / 2;
    let (left, right) = slices.split_at(middle);
    let (left_results, right_results) = results.split_at_mut(middle);
    rayon::join(
        || reduce_each(norm_type, left, left_results, several),
        || reduce_each(norm_type, right, right_results, several),
    );
}

/// Multiplies every element by `factor`; by one that f32 cannot hold in full, in f64, so that it loses nothing.
pub(crate) fn scale_all(slices: &mut [&mut [f32]], factor: f64) {
    let scale = |values: &mut [f32]| Arch::new().dispatch(Scale { values, factor });
    if slices.iter().map(|slice| slice.len()).sum::<usize>() <= SHARED {
        slices.iter_mut().for_each(|slice| scale(slice));
    } else {
        slices.par_iter_mut().for_each(|slice| slice.par_chunks_mut(LEAF).for_each(scale));
    }
}

struct Scale<'a> {
    values: &'a mut [f32],
    factor: f64,
}

impl Scale<'_> {
    #[inline(always)]
    fn run(self) {
        let narrow = self.factor as f32;
        if narrow.is_normal() {
            for value in self.values {
                *value *= narrow;
            }
        } else {
            for value in self.values {
                *value = (f64::from(*value) * self.factor) as f32;
            }
        }
    }
}

vectorized!(Scale<'_>, ());

/// Copies `from` into `to`, as far as the shorter of them goes.
pub(crate) fn copy(from: &[f32], to: &mut [f32]) {
    let length = from.len().min(to.len());
    let (from, to) = (&from[..length], &mut to[..length]);
    if length <= SHARED {
        to.copy_from_slice(from);
    } else {
        let leaves = to.par_chunks_mut(LEAF).zip(from.par_chunks(LEAF));
        leaves.for_each(|(to, from)| to.copy_from_slice(from));
    }
}

/// How many elements are 0.
pub(crate) fn zeros(values: &[f32]) -> usize {
    let leaf = |values| Arch::new().dispatch(Zeros(values));
    if values.len() <= SHARED {
        values.chunks(LEAF).map(leaf).sum()
    } else {
        values.par_chunks(LEAF).map(leaf).sum()
    }
}

/// [`zeros`] of a leaf.
struct Zeros<'a>(&'a [f32]);

impl Zeros<'_> {
    #[inline(always)]
    fn run(self) -> usize {
        // A leaf's count fits, and a sum that is checked for overflow is not vectorized.
        let mut count = 0u32;
        for &value in self.0 {
            count = count.wrapping_add(u32::from(value == 0.0));
        }
        count as usize
    }
}

vectorized!(Zeros<'_>, usize);

/// The sums of `|new - old|` and of `|old|`.
pub(crate) fn change(old: &[f32], new: &[f32]) -> (f64, f64) {
    let length = old.len().min(new.len());
    change_of(&old[..length], &new[..length], length > SHARED)
}

/// [`change`] of slices of one length.
fn change_of(old: &[f32], new: &[f32], several: bool) -> (f64, f64) {
    let length = old.len();
    if length <= LEAF {
        return Arch::new().dispatch(Change { old, new });
    }
    let middle = (length / 2).next_multiple_of(LEAF).min(length - 1);
    let ((old_left, old_right), (new_left, new_right)) =
        (old.split_at(middle), new.split_at(middle));
    let half = |old, new| move || change_of(old, new, several);
    let (left, right) = both(several, half(old_left, new_left), half(old_right, new_right));
    (left.0 + right.0, left.1 + right.1)
}

/// [`change`] of a leaf.
struct Change<'a> {
    old: &'a [f32],
    new: &'a [f32],
}

impl WithSimd for Change<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (f64, f64) {
        let (mut moved, mut size) = (0.0, 0.0);
        for (old, new) in self.old.chunks(BLOCK).zip(self.new.chunks(BLOCK)) {
            let [change, magnitude] = sums(simd, [old, new], |[old, new]| {
                [abs(simd, simd.sub_f32s(new, old)), abs(simd, old)]
            });
            moved += total(&change);
            size += total(&magnitude);
        }
        (moved, size)
    }
}

/// Elements of a block; each of its 32 lanes adds up 32 of them, so the sum is good to 33 roundings, 2e-6.
const BLOCK: usize = 1024;

/// A sum of squares above this has lost at most 1e-7 of itself to underflow.
const TINY_SQUARES: f64 = 1e-28;

#[inline(always)]
fn sum<S: Simd>(
    simd: S,
    values: &[f32],
    smallest: f64,
    term: impl Fn(S::f32s) -> S::f32s,
    exact: impl Fn(f32) -> f64,
) -> f64 {
    let mut whole = 0.0;
    for block in values.chunks(BLOCK) {
        let [lanes] = sums(simd, [block], |[value]| [term(value)]);
        let quick = total(&lanes);
        whole += if quick.is_finite() && quick >= smallest {
            quick
        } else {
            block.iter().map(|&value| exact(value)).sum()
        };
    }
    whole
}

/// Magnitudes compare like their bits, and every NaN lies above infinity.
#[inline(always)]
fn largest(values: &[f32]) -> f64 {
    let mut lanes = [0u32; 16];
    let (chunks, rest) = values.as_chunks::<16>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = (*lane).max(value.abs().to_bits());
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = (*lane).max(value.abs().to_bits());
    }
    f64::from(f32::from_bits(lanes.into_iter().max().unwrap_or(0)))
}

/// The larger of two magnitudes; NaN if one is.
pub(crate) fn largest_of(left: f64, right: f64) -> f64 {
    if left.is_nan() || right.is_nan() { f64::NAN } else { left.max(right) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn norm(norm_type: NormType, values: &[f32]) -> f64 {
        let mut results = [0.0];
        reduce_all(norm_type, &[values], &mut results);
        results[0]
    }

    #[test]
    fn long_slices_match_their_closed_form() {
        let values: Vec<f32> = (0..300_001).map(|i| if i % 2 == 0 { 3.0 } else { -4.0 }).collect();
        assert_eq!(norm(NormType::One, &values), 150_001.0 * 3.0 + 150_000.0 * 4.0);
        assert_eq!(norm(NormType::Two, &values), 150_001.0 * 9.0 + 150_000.0 * 16.0);
        assert_eq!(norm(NormType::Infinity, &values), 4.0);
    }

    #[test]
    fn a_huge_and_a_tiny_block_side_by_side_are_both_exact() {
        let mut values = vec![1e-30f32; BLOCK];
        let tiny = norm(NormType::Two, &values);
        assert!((tiny / (1024.0 * 1e-60) - 1.0).abs() < 1e-6);
        values.extend(vec![1e30f32; BLOCK]);
        let huge = norm(NormType::Two, &values);
        assert!((huge / (1024.0 * 1e60) - 1.0).abs() < 1e-6);
        assert_eq!(norm(NormType::One, &vec![f32::MAX; BLOCK]), 1024.0 * f64::from(f32::MAX));
    }

    #[test]
    fn a_single_broken_element_is_seen_wherever_it_stands() {
        for place in [0, 15, 16, LEAF - 1, LEAF, 3 * LEAF + 7] {
            let mut values = vec![1.0f32; 3 * LEAF + 8];
            values[place] = f32::NAN;
            for norm_type in [NormType::One, NormType::Two, NormType::Infinity] {
                assert!(norm(norm_type, &values).is_nan());
            }
            values[place] = f32::NEG_INFINITY;
            for norm_type in [NormType::One, NormType::Two, NormType::Infinity] {
                assert_eq!(norm(norm_type, &values), f64::INFINITY);
            }
        }
    }

    #[test]
    fn zeros_and_changes_match_a_plain_loop() {
        for length in [0, 1, 31, 33, 1025, 2 * LEAF + 5, SHARED + 5] {
            let old: Vec<f32> = (0..length).map(|i| (i % 7) as f32 - 3.0).collect();
            let new: Vec<f32> = old.iter().map(|value| value + 0.5).collect();
            assert_eq!(zeros(&old), old.iter().filter(|value| **value == 0.0).count());
            let mut copied = vec![9.0; length];
            copy(&old, &mut copied);
            assert_eq!(copied, old);
            let size: f64 = old.iter().map(|&value| f64::from(value.abs())).sum();
            assert_eq!(change(&old, &new), (0.5 * length as f64, size));
        }
        let (moved, _) = change(&[0.0, 1.0], &[f32::NAN, 1.0]);
        assert!(moved.is_nan());
    }

    #[test]
    fn one_thread_and_three_give_the_same_bits() {
        let old: Vec<f32> = (0..SHARED + 77_777).map(|i| (i as f32 * 0.37).sin()).collect();
        let new: Vec<f32> = old.iter().map(|value| value * 1.01).collect();
        let all = || (norm(NormType::Two, &old).to_bits(), change(&old, &new));
        let in_pool = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
            pool.install(all)
        };
        assert_eq!(in_pool(1), in_pool(3));
        // What one core does alone is cut at the same places.
        let alone = reduce(NormType::Two, &old, false).to_bits();
        assert_eq!(all(), (alone, change_of(&old, &new, false)));
    }

    /// Vectors of one magnitude each, from far below to far above where squares fit into f32.
    fn values() -> impl Strategy<Value = Vec<f32>> {
        (-40i32..38, prop::collection::vec(-1f32..1.0, 0..3000)).prop_map(|(power, values)| {
            values.into_iter().map(|value| (f64::from(value) * 10f64.powi(power)) as f32).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn matches_a_plain_loop(values in values(), factor in 0.0f64..2.0) {
            let squares: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
            let norm = norm(NormType::Two, &values);
            prop_assert!((norm - squares).abs() <= 2e-6 * squares);
            let mut scaled = values.clone();
            scale_all(&mut [scaled.as_mut_slice()], factor);
            for (new, old) in scaled.iter().zip(&values) {
                // One rounding of the factor, one of the product, and what is lost below f32's normal numbers.
                let exact = f64::from(*old) * factor;
                prop_assert!((f64::from(*new) - exact).abs() <= 1.3e-7 * exact.abs() + 1e-44);
            }
        }
    }
}
