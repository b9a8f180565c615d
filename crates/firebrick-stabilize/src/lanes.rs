//! Sums of f32 in 32 lanes: the same bits with registers of any width.
//!
//! An element is added to the lane that its place modulo 32 names, and the lanes are joined in f64. Registers are named
//! here because the compiler, left alone with 32 sums, takes them apart into single numbers.

use pulp::Simd;

/// How many sums run side by side.
const LANES: usize = 32;

/// The sums of `M` terms over the elements of `N` slices of one length, lane by lane.
#[inline(always)]
pub(crate) fn sums<S: Simd, const N: usize, const M: usize>(
    simd: S,
    slices: [&[f32]; N],
    term: impl Fn([S::f32s; N]) -> [S::f32s; M],
) -> [[f32; LANES]; M] {
    // As many registers as there are lanes to fill: a number that the compiler knows.
    match S::F32_LANES {
        4 => Sums::<S, 8, M>::of(simd, slices, term),
        8 => Sums::<S, 4, M>::of(simd, slices, term),
        16 => Sums::<S, 2, M>::of(simd, slices, term),
        // pulp's others hold one.
        _ => Sums::<S, LANES, M>::of(simd, slices, term),
    }
}

/// `M` sums in `R` registers each.
struct Sums<S: Simd, const R: usize, const M: usize>([[S::f32s; R]; M]);

impl<S: Simd, const R: usize, const M: usize> Sums<S, R, M> {
    #[inline(always)]
    fn of<const N: usize>(
        simd: S,
        slices: [&[f32]; N],
        term: impl Fn([S::f32s; N]) -> [S::f32s; M],
    ) -> [[f32; LANES]; M] {
        let parts = slices.map(|slice| slice.as_chunks::<LANES>());
        let mut sums = Self([[simd.splat_f32s(0.0); R]; M]);
        for index in 0..parts[0].0.len() {
            sums.add(simd, std::array::from_fn(|n| &parts[n].0[index]), &term);
        }
        let mut lanes = sums.lanes();
        let length = parts[0].1.len();
        if length > 0 {
            let mut last = [[0.0; LANES]; N];
            for (last, (_, rest)) in last.iter_mut().zip(&parts) {
                last[..length].copy_from_slice(rest);
            }
            let mut terms = Self([[simd.splat_f32s(0.0); R]; M]);
            terms.add(simd, last.each_ref(), &term);
            for (lanes, terms) in lanes.iter_mut().zip(terms.lanes()) {
                for (lane, term) in lanes.iter_mut().zip(&terms[..length]) {
                    *lane += term;
                }
            }
        }
        lanes
    }

    #[inline(always)]
    fn add<const N: usize>(
        &mut self,
        simd: S,
        chunks: [&[f32; LANES]; N],
        term: &impl Fn([S::f32s; N]) -> [S::f32s; M],
    ) {
        let chunks = chunks.map(|chunk| S::as_simd_f32s(chunk).0);
        for at in 0..R {
            let terms = term(std::array::from_fn(|n| chunks[n][at]));
            for (sums, term) in self.0.iter_mut().zip(terms) {
                sums[at] = simd.add_f32s(sums[at], term);
            }
        }
    }

    #[inline(always)]
    fn lanes(&self) -> [[f32; LANES]; M] {
        let mut lanes = [[0.0; LANES]; M];
        for (lanes, registers) in lanes.iter_mut().zip(&self.0) {
            S::as_mut_simd_f32s(lanes).0.copy_from_slice(registers);
        }
        lanes
    }
}

/// The magnitudes.
#[inline(always)]
pub(crate) fn abs<S: Simd>(simd: S, values: S::f32s) -> S::f32s {
    // pulp's own is inlined where the compiler likes.
    simd.and_f32s(simd.splat_f32s(f32::from_bits(0x7fff_ffff)), values)
}

/// The sum of the lanes in f64; one after another they would wait for each other.
#[inline(always)]
pub(crate) fn total(lanes: &[f32; LANES]) -> f64 {
    let mut sums = [0f64; 4];
    for four in lanes.as_chunks::<4>().0 {
        for (sum, &lane) in sums.iter_mut().zip(four) {
            *sum += f64::from(lane);
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::{Arch, WithSimd};

    /// The sums of the differences and of the products of two slices.
    struct Both<'a>(&'a [f32], &'a [f32]);

    impl WithSimd for Both<'_> {
        type Output = [[f32; LANES]; 2];

        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            sums(simd, [self.0, self.1], |[left, right]| {
                [simd.sub_f32s(left, right), simd.mul_f32s(left, right)]
            })
        }
    }

    #[test]
    fn the_bits_are_those_of_a_plain_loop_with_registers_of_any_width() {
        for length in [0, 1, 31, 32, 33, 64, 1000, 1024] {
            let left: Vec<f32> = (0..length).map(|i| (i as f32 * 0.7).sin()).collect();
            let right: Vec<f32> = (0..length).map(|i| (i as f32 * 1.3).cos() * 1e3).collect();
            let mut plain = [[0f32; LANES]; 2];
            for (index, (left, right)) in left.iter().zip(&right).enumerate() {
                plain[0][index % LANES] += left - right;
                plain[1][index % LANES] += left * right;
            }
            assert_eq!(Arch::new().dispatch(Both(&left, &right)), plain);
            assert_eq!(Both(&left, &right).with_simd(pulp::Scalar::new()), plain);
        }
    }

    #[test]
    fn what_is_behind_the_end_takes_no_part() {
        struct One<'a>(&'a [f32]);
        impl WithSimd for One<'_> {
            type Output = f64;
            fn with_simd<S: Simd>(self, simd: S) -> f64 {
                let [lanes] = sums(simd, [self.0], |_| [simd.splat_f32s(1.0)]);
                total(&lanes)
            }
        }
        for length in [0, 5, 32, 70] {
            assert_eq!(Arch::new().dispatch(One(&vec![f32::NAN; length])), length as f64);
        }
    }
}
