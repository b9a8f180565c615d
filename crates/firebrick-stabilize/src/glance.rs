//! The statistics of one tensor in host memory, in two vectorized passes and a part of a third.

use crate::lanes::{sums, total};
use crate::reduce::zeros;
use pulp::{Arch, Simd, WithSimd};

/// What [`Taps`](crate::Taps) wants to know of a tensor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glance {
    pub(crate) mean: f64,
    /// Mean squared distance from the mean.
    pub(crate) variance: f64,
    /// Share of elements that are 0.
    pub(crate) zeros: f64,
    /// Share of units that are dead.
    pub(crate) dead: f64,
    /// Share of units that are saturated; 0 without bounds.
    pub(crate) saturated: f64,
}

/// Below this a unit's output counts as nothing.
pub(crate) const QUIET: f32 = 1e-5;
/// In more than this share of its outputs a dead unit is quiet.
pub(crate) const DEAD: f64 = 0.95;
/// A unit whose outputs lie nearer to the bounds than this, on average, is saturated.
pub(crate) const SATURATED: f64 = 0.85;

/// Elements that are summed in f32, in 32 lanes.
const BLOCK: usize = 1024;

/// Looks at row-major `values`, whose units lie along an axis of length `units` with `inner` elements behind each.
pub(crate) fn glance(
    values: &[f32],
    units: usize,
    inner: usize,
    bounds: Option<(f64, f64)>,
) -> Glance {
    Arch::new().dispatch(Whole { values, units, inner, bounds })
}

struct Whole<'a> {
    values: &'a [f32],
    units: usize,
    inner: usize,
    bounds: Option<(f64, f64)>,
}

impl WithSimd for Whole<'_> {
    type Output = Glance;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Glance {
        let Self { values, units, inner, bounds } = self;
        let (mean, variance) = moments(simd, values);
        let zeros = zeros(values) as f64 / values.len() as f64;
        let each = values.len() / units;
        let dead = dead(values, units, inner, each) as f64 / units as f64;
        let mut saturated = 0.0;
        if let Some((low, high)) = bounds {
            let (low, scale) = (low as f32, (2.0 / (high - low)) as f32);
            let edge = by_unit(values, units, inner, |value| ((value - low) * scale - 1.0).abs());
            let share = |unit: f32| f64::from(unit) / each as f64;
            let over = edge.into_iter().filter(|&unit| share(unit) > SATURATED).count();
            saturated = over as f64 / units as f64;
        }
        Glance { mean, variance, zeros, dead, saturated }
    }
}

/// Mean and variance alone; the rest is NaN.
pub(crate) fn size(values: &[f32]) -> Glance {
    let (mean, variance) = Arch::new().dispatch(Moments(values));
    Glance { mean, variance, zeros: f64::NAN, dead: f64::NAN, saturated: f64::NAN }
}

struct Moments<'a>(&'a [f32]);

impl WithSimd for Moments<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (f64, f64) {
        moments(simd, self.0)
    }
}

/// Mean and variance in one pass over memory: each block is centred on its own mean, and the blocks are
/// joined by the rule of Chan, Golub and LeVeque (1979).
#[inline(always)]
fn moments<S: Simd>(simd: S, values: &[f32]) -> (f64, f64) {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for block in values.chunks(BLOCK) {
        let [sum] = sums(simd, [block], |[value]| [value]);
        let length = block.len() as f64;
        let own = total(&sum) / length;
        let middle = simd.splat_f32s(own as f32);
        let [spread] = sums(simd, [block], |[value]| {
            let gap = simd.sub_f32s(value, middle);
            [simd.mul_f32s(gap, gap)]
        });
        let (gap, all) = (own - mean, count + length);
        squares += total(&spread);
        squares += gap * gap * count * length / all;
        mean += gap * length / all;
        count = all;
    }
    (mean, squares / count)
}

/// How many units are quiet in more than [`DEAD`] of their `each` outputs; looks no further once none can be.
#[inline(always)]
fn dead(values: &[f32], units: usize, inner: usize, each: usize) -> usize {
    let is_dead = |loud: usize| (each - loud) as f64 / each as f64 > DEAD;
    let mut enough = (each as f64 * (1.0 - DEAD)) as usize;
    while is_dead(enough) {
        enough += 1;
    }
    while enough > 0 && !is_dead(enough - 1) {
        enough -= 1;
    }
    let mut loud = vec![0u32; units];
    let below = |loud: &[u32]| loud.iter().filter(|&&loud| (loud as usize) < enough).count();
    if inner == 1 {
        // Rows between two looks at the counts.
        for rows in values.chunks(16 * units) {
            for row in rows.chunks_exact(units) {
                // A sum that is checked for overflow is not vectorized.
                for (loud, &value) in loud.iter_mut().zip(row) {
                    *loud = loud.wrapping_add(u32::from(!is_quiet(value)));
                }
            }
            if below(&loud) == 0 {
                return 0;
            }
        }
        return below(&loud);
    }
    let mut left = if enough == 0 { 0 } else { units };
    for (index, run) in values.chunks_exact(inner).enumerate() {
        if left == 0 {
            break;
        }
        let unit = &mut loud[index % units];
        if (*unit as usize) < enough {
            *unit = unit.wrapping_add(count(run, |value| !is_quiet(value)));
            left -= usize::from(*unit as usize >= enough);
        }
    }
    left
}

/// How many values are `so`.
#[inline(always)]
fn count(values: &[f32], so: impl Fn(f32) -> bool) -> u32 {
    // A sum that is checked for overflow is not vectorized.
    values.iter().fold(0, |found: u32, &value| found.wrapping_add(u32::from(so(value))))
}

/// Whether an output counts as nothing; NaN does not.
#[inline(always)]
fn is_quiet(value: f32) -> bool {
    value.abs() < QUIET
}

/// The sum of each unit's terms.
#[inline(always)]
fn by_unit(values: &[f32], units: usize, inner: usize, term: impl Fn(f32) -> f32) -> Vec<f32> {
    let mut sums = vec![0f32; units];
    if inner == 1 {
        for row in values.chunks_exact(units) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += term(value);
            }
        }
    } else {
        for (index, run) in values.chunks_exact(inner).enumerate() {
            sums[index % units] += run.iter().map(|&value| term(value)).sum::<f32>();
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebrick_core::Seed;

    #[test]
    fn the_dead_are_those_of_a_count_that_looks_at_everything() {
        let mut stream = Seed(3).stream("outputs");
        for (units, inner, samples) in [(5, 1, 64), (5, 1, 7), (3, 4, 20), (1, 1, 100), (4, 1, 1)] {
            for loud in [0.0, 0.03, 0.05, 0.06, 0.5, 1.0] {
                let mut values: Vec<f32> = (0..samples * units * inner)
                    .map(|_| if stream.uniform() < loud { 1.0 } else { 0.0 })
                    .collect();
                // Between nothing and quiet, and a number that is none.
                values[0] = 9e-6;
                *values.last_mut().expect("not empty") = f32::NAN;
                let mut quiet = vec![0usize; units];
                for (index, value) in values.iter().enumerate() {
                    quiet[index / inner % units] += usize::from(value.abs() < QUIET);
                }
                let each = (samples * inner) as f64;
                let dead = quiet.iter().filter(|&&quiet| quiet as f64 / each > DEAD).count();
                let found = glance(&values, units, inner, None);
                assert_eq!(found.dead, dead as f64 / units as f64, "{units} {inner} {loud}");
                let zeros = values.iter().filter(|&&value| value == 0.0).count();
                assert_eq!(found.zeros, zeros as f64 / values.len() as f64);
            }
        }
    }
}
