//! The pass of a projection over weights in host memory: pieces that cores change on their own, in vectors.
//!
//! A unit is read twice, for its norm and to be scaled, and memory must not wait in between: while one row is scaled
//! in the cache the next one is read. Columns cannot be scaled before all of their matrix has been read; the second walk
//! starts at the end, which the second-level cache still holds, finds the rest in the third, and where most columns stay
//! passes over them. To scale one matrix while the next is read gains nothing over that.

use super::Kernel;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Elements of one piece of work: a megabyte, which stays in the second-level cache.
pub(super) const PIECE: usize = 1 << 18;
/// Elements of a module that several cores share: to wake another thread takes as long as one core takes for half of them.
const SHARED: usize = 1 << 19;
/// Elements of a unit whose squares are summed in f32 before they go to f64, and rows of a matrix for its columns.
const PART: usize = 4096;
const FEW: usize = 64;
/// Vectors that the squares of a unit are added up in.
const SUMS: usize = 4;
/// Rows that are shorter are taken together, so that loops are long.
const SHORT: usize = 512;
/// Elements of a cache line.
const LINE: usize = 16;
/// Elements that the second walk over columns goes upwards through at a time: half of a second-level cache.
const BLOCK: usize = 1 << 16;

/// A part of a weight that one core changes on its own.
pub(super) enum Piece<'a> {
    /// Element by element.
    Elements(Kernel, &'a mut [f32]),
    /// Whole units of this many elements each, one behind the other.
    Rows(Kernel, &'a mut [f32], usize),
    /// Units side by side.
    Columns(Columns<'a>),
    /// A weight whose units have elements before and behind: `(units, inner)`.
    Whole(Kernel, &'a mut [f32], usize, usize),
}

/// Columns of a matrix that are units: a part of each of its rows.
pub(super) struct Columns<'a> {
    kernel: Kernel,
    /// Rows of one width, but for the last one; short ones are several in one.
    rows: Vec<&'a mut [f32]>,
    units: usize,
    /// Elements of a unit.
    size: usize,
}

impl<'a> Columns<'a> {
    /// All columns of a matrix.
    pub(super) fn whole(kernel: Kernel, values: &'a mut [f32], units: usize) -> Self {
        let size = values.len() / units;
        let together = (SHORT / units).clamp(1, size);
        Self { kernel, rows: values.chunks_mut(together * units).collect(), units, size }
    }

    /// The columns of a matrix in panels of this width, which are changed on their own.
    pub(super) fn panels(
        kernel: Kernel,
        values: &'a mut [f32],
        units: usize,
        width: usize,
    ) -> Vec<Self> {
        let size = values.len() / units;
        let panel = |at: usize| {
            let units = width.min(units - at);
            Self { kernel, rows: Vec::with_capacity(size), units, size }
        };
        let mut panels: Vec<Self> = (0..units).step_by(width).map(panel).collect();
        for row in values.chunks_mut(units) {
            for (panel, part) in panels.iter_mut().zip(row.chunks_mut(width)) {
                panel.rows.push(part);
            }
        }
        panels
    }

    #[inline(always)]
    fn change<S: Simd>(mut self, simd: S) {
        let width = self.rows.first().map_or(0, |row| row.len());
        let mut sums = vec![0f64; self.units];
        let mut few = vec![0f32; width];
        for rows in self.rows.chunks(FEW) {
            few.fill(0.0);
            for row in rows {
                add_squares(simd, &mut few, row);
            }
            for few in few.chunks(self.units) {
                for (sum, few) in sums.iter_mut().zip(few) {
                    *sum += f64::from(*few);
                }
            }
        }
        let mut factors = Vec::with_capacity(width);
        for sum in sums {
            factors.push(self.kernel.factor(sum.sqrt(), self.size));
        }
        let factors = factors.repeat(width / self.units);
        let (lines, rest) = factors.as_chunks::<LINE>();
        let changes = |factors: &[f32]| factors.iter().any(|&factor| factor != 1.0);
        let mut changed = Vec::with_capacity(lines.len());
        changed.extend((0..).zip(lines).filter(|(_, line)| changes(line.as_slice())));
        let rest = if changes(rest) { rest } else { &[] };
        if changed.is_empty() && rest.is_empty() {
            return;
        }
        // Where most lines change, the gaps would cost more than they spare.
        let most = 2 * changed.len() > lines.len();
        // From the end, where rows are still in the cache; upwards within a block, as processors read ahead.
        for block in self.rows.rchunks_mut((BLOCK / width).max(1)) {
            for row in block {
                if most || row.len() < width {
                    scale_each(simd, row, &factors);
                    continue;
                }
                let (own, own_rest) = row.as_chunks_mut::<LINE>();
                for &(line, factors) in &changed {
                    if let Some(line) = own.get_mut(line) {
                        scale_each(simd, line, factors);
                    }
                }
                if !rest.is_empty() {
                    scale_each(simd, own_rest, rest);
                }
            }
        }
    }
}

impl Piece<'_> {
    fn elements(&self) -> usize {
        match self {
            Self::Elements(_, values) | Self::Rows(_, values, _) | Self::Whole(_, values, _, _) => {
                values.len()
            }
            Self::Columns(columns) => columns.units * columns.size,
        }
    }
}

/// Changes all pieces, on all cores where they are many.
pub(super) fn run(pieces: Vec<Piece<'_>>) {
    let arch = Arch::new();
    let change = |piece| arch.dispatch(Change(piece));
    if pieces.iter().map(Piece::elements).sum::<usize>() <= SHARED {
        pieces.into_iter().for_each(change);
    } else {
        pieces.into_par_iter().for_each(change);
    }
}

/// Loops stand in a type, not in a closure: rustc would leave a large closure out of line, without wide vectors.
struct Change<'a>(Piece<'a>);

impl WithSimd for Change<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.0 {
            Piece::Elements(kernel, values) => kernel.elements(values),
            Piece::Rows(kernel, values, length) => rows(simd, kernel, values, length),
            Piece::Columns(columns) => columns.change(simd),
            Piece::Whole(kernel, values, units, inner) => {
                let mut sums = vec![0f64; units];
                for row in values.chunks(units * inner) {
                    for (sum, slice) in sums.iter_mut().zip(row.chunks(inner)) {
                        *sum += squares(simd, slice);
                    }
                }
                let size = values.len() / units;
                for row in values.chunks_mut(units * inner) {
                    for (sum, slice) in sums.iter().zip(row.chunks_mut(inner)) {
                        scale(simd, slice, kernel.factor(sum.sqrt(), size));
                    }
                }
            }
        }
    }
}

/// Whole units, each scaled while the next one is read.
#[inline(always)]
fn rows<S: Simd>(simd: S, kernel: Kernel, values: &mut [f32], length: usize) {
    let mut units = values.chunks_exact_mut(length);
    let Some(mut own) = units.next() else { return };
    let mut sum = squares(simd, own);
    for next in units {
        // A unit that stays is not written.
        sum = match kernel.factor(sum.sqrt(), length) {
            1.0 => squares(simd, next),
            factor => {
                let mut sum = 0.0;
                for (own, next) in own.chunks_mut(PART).zip(next.chunks(PART)) {
                    sum += scale_and_sum(simd, own, factor, next);
                }
                sum
            }
        };
        own = next;
    }
    scale(simd, own, kernel.factor(sum.sqrt(), length));
}

#[inline(always)]
fn scale<S: Simd>(simd: S, values: &mut [f32], factor: f32) {
    if factor == 1.0 {
        return;
    }
    let (vectors, rest) = S::as_mut_simd_f32s(values);
    let by = simd.splat_f32s(factor);
    for value in vectors {
        *value = simd.mul_f32s(*value, by);
    }
    for value in rest {
        *value *= factor;
    }
}

/// The sum of squares, to the bit as [`scale_and_sum`] takes it.
#[inline(always)]
fn squares<S: Simd>(simd: S, values: &[f32]) -> f64 {
    let mut total = 0.0;
    for part in values.chunks(PART) {
        let (vectors, rest) = S::as_simd_f32s(part);
        let (groups, others) = vectors.as_chunks::<SUMS>();
        let mut sums = [simd.splat_f32s(0.0); SUMS];
        for group in groups {
            add(simd, &mut sums, group);
        }
        total += total_of(simd, sums, others, rest);
    }
    total
}

/// Scales `own`, which is as long as `next`, and gives the sum of squares of `next`.
#[inline(always)]
fn scale_and_sum<S: Simd>(simd: S, own: &mut [f32], factor: f32, next: &[f32]) -> f64 {
    let (vectors, rest) = S::as_simd_f32s(next);
    let (groups, others) = vectors.as_chunks::<SUMS>();
    let (own, own_rest) = S::as_mut_simd_f32s(own);
    let (own_groups, own_others) = own.as_chunks_mut::<SUMS>();
    let mut sums = [simd.splat_f32s(0.0); SUMS];
    let by = simd.splat_f32s(factor);
    for (group, own) in groups.iter().zip(own_groups) {
        add(simd, &mut sums, group);
        for value in own {
            *value = simd.mul_f32s(*value, by);
        }
    }
    for value in own_others {
        *value = simd.mul_f32s(*value, by);
    }
    for value in own_rest {
        *value *= factor;
    }
    total_of(simd, sums, others, rest)
}

#[inline(always)]
fn add<S: Simd>(simd: S, sums: &mut [S::f32s; SUMS], group: &[S::f32s; SUMS]) {
    for (sum, &value) in sums.iter_mut().zip(group) {
        *sum = simd.mul_add_e_f32s(value, value, *sum);
    }
}

#[inline(always)]
fn total_of<S: Simd>(simd: S, sums: [S::f32s; SUMS], others: &[S::f32s], rest: &[f32]) -> f64 {
    let [mut first, second, third, fourth] = sums;
    for &value in others {
        first = simd.mul_add_e_f32s(value, value, first);
    }
    let sum = simd.add_f32s(simd.add_f32s(first, second), simd.add_f32s(third, fourth));
    let mut total = f64::from(simd.reduce_sum_f32s(sum));
    for &value in rest {
        total += f64::from(value) * f64::from(value);
    }
    total
}

/// Adds the squares of `row`, which is not longer than `sums`, to them.
#[inline(always)]
fn add_squares<S: Simd>(simd: S, sums: &mut [f32], row: &[f32]) {
    let (vectors, rest) = S::as_simd_f32s(row);
    let (own, own_rest) = sums.split_at_mut(row.len() - rest.len());
    for (sum, &value) in S::as_mut_simd_f32s(own).0.iter_mut().zip(vectors) {
        *sum = simd.mul_add_e_f32s(value, value, *sum);
    }
    for (sum, value) in own_rest.iter_mut().zip(rest) {
        *sum += value * value;
    }
}

/// Scales each element of `row`, which is not longer than `factors`, by its own one.
#[inline(always)]
fn scale_each<S: Simd>(simd: S, row: &mut [f32], factors: &[f32]) {
    let (vectors, rest) = S::as_mut_simd_f32s(row);
    let (by, by_rest) = factors.split_at(factors.len().min(vectors.len() * S::F32_LANES));
    for (value, &factor) in vectors.iter_mut().zip(S::as_simd_f32s(by).0) {
        *value = simd.mul_f32s(*value, factor);
    }
    for (value, factor) in rest.iter_mut().zip(by_rest) {
        *value *= factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MaskSource;
    use firebrick_core::Seed;

    const KERNELS: [Kernel; 3] = [Kernel::MaxNorm(1.0), Kernel::UnitNorm, Kernel::Group(0.02)];

    fn draw(count: usize, seed: u64) -> Vec<f32> {
        MaskSource::new(Seed(seed)).normals(count)
    }

    /// The same in f64, unit by unit; `unit` gives that of each element.
    fn model(
        kernel: Kernel,
        values: &[f32],
        units: usize,
        unit: impl Fn(usize) -> usize,
    ) -> Vec<f64> {
        let mut sums = vec![0f64; units];
        for (at, &value) in values.iter().enumerate() {
            sums[unit(at)] += f64::from(value).powi(2);
        }
        let factor = |at: usize| kernel.factor(sums[unit(at)].sqrt(), values.len() / units);
        values.iter().enumerate().map(|(at, &v)| f64::from(v) * f64::from(factor(at))).collect()
    }

    fn columns(kernel: Kernel, values: &mut [f32], units: usize) -> Piece<'_> {
        Piece::Columns(Columns::whole(kernel, values, units))
    }

    fn close(found: &[f32], expected: &[f64]) {
        for (at, (a, b)) in found.iter().zip(expected).enumerate() {
            // Some 60 squares are added up in f32.
            assert!((f64::from(*a) - b).abs() <= 2e-6 * b.abs() + 1e-9, "{at}: {a} {b}");
        }
    }

    #[test]
    fn rows_and_columns_of_any_length_are_those_of_the_model() {
        for (size, units) in
            [(1, 1), (1, 9), (2, 3), (4, 8), (5, 1), (67, 13), (130, 64), (9, 700), (4100, 3)]
        {
            for kernel in KERNELS {
                let values = draw(size * units, 1);
                let mut whole = values.clone();
                run(vec![columns(kernel, &mut whole, units)]);
                close(&whole, &model(kernel, &values, units, |at| at % units));
                let mut panels = values.clone();
                run(Columns::panels(kernel, &mut panels, units, 16)
                    .into_iter()
                    .map(Piece::Columns)
                    .collect());
                close(&panels, &model(kernel, &values, units, |at| at % units));
                let mut rows = values.clone();
                run(vec![Piece::Rows(kernel, &mut rows, size)]);
                close(&rows, &model(kernel, &values, units, |at| at / size));
                let mut middle = values.clone();
                // Units with one element before and `size` behind are rows.
                run(vec![Piece::Whole(kernel, &mut middle, units, size)]);
                close(&middle, &model(kernel, &values, units, |at| at / size));
            }
        }
    }

    #[test]
    fn of_columns_only_those_too_large_change() {
        // Of 600 columns most lines stay; of 70 the last line is a short one.
        for units in [3, 24, 70, 100, 600, 605] {
            let mut values = draw(37 * units, 8);
            let large = [0, units / 2, units - 1];
            for row in values.chunks_mut(units) {
                large.iter().for_each(|&unit| row[unit] *= 100.0);
            }
            let kernel = Kernel::MaxNorm(30.0);
            let expected = model(kernel, &values, units, |at| at % units);
            let mut found = values.clone();
            run(vec![columns(kernel, &mut found, units)]);
            close(&found, &expected);
            for (at, (found, value)) in found.iter().zip(&values).enumerate() {
                assert_eq!(found != value, large.contains(&(at % units)), "{at} of {units}");
            }
        }
    }

    #[test]
    fn what_is_changed_beside_another_is_the_same_to_the_bit() {
        // Alike and not, more elements than one core takes alone; the last rows are shorter than the others.
        let shapes = [
            (300, 500),
            (300, 500),
            (300, 500),
            (301, 500),
            (900, 50),
            (901, 50),
            (300, 500),
            (2, 3),
        ];
        for kernel in KERNELS {
            let values: Vec<Vec<f32>> =
                (0..).zip(shapes).map(|(seed, (size, units))| draw(size * units, seed)).collect();
            let (mut together, mut alone) = (values.clone(), values.clone());
            let pieces = together
                .iter_mut()
                .zip(shapes)
                .map(|(values, (_, units))| columns(kernel, values, units));
            run(pieces.collect());
            for (values, (_, units)) in alone.iter_mut().zip(shapes) {
                run(vec![columns(kernel, values, units)]);
            }
            assert_eq!(together, alone, "{kernel:?}");
            assert_ne!(together, values);
            for length in [7, 256, 1037, 5000] {
                let values = draw(7 * length, 6);
                let (mut together, mut alone) = (values.clone(), values);
                run(vec![Piece::Rows(kernel, &mut together, length)]);
                alone
                    .chunks_mut(length)
                    .for_each(|unit| run(vec![Piece::Rows(kernel, unit, length)]));
                assert_eq!(together, alone, "{kernel:?} {length}");
            }
        }
    }

    #[test]
    fn units_that_stay_are_not_written_and_nan_shows_in_its_unit_alone() {
        let values = draw(40 * 24, 3);
        for side in [true, false] {
            let changed = |mut values: Vec<f32>| {
                let kernel = Kernel::MaxNorm(100.0);
                run(vec![if side {
                    columns(kernel, &mut values, 24)
                } else {
                    Piece::Rows(kernel, &mut values, 24)
                }]);
                values
            };
            assert_eq!(changed(values.clone()), values);
            let mut broken = values.clone();
            broken[24] = f32::NAN;
            let own = |at: usize| if side { at.is_multiple_of(24) } else { at / 24 == 1 };
            for (at, value) in changed(broken).into_iter().enumerate() {
                assert_eq!(value.is_nan(), own(at), "{at}");
            }
        }
    }
}
