//! The statistics of one tensor in host memory, in two vectorized passes.

use crate::reduce::{total, vectorized};
use pulp::Arch;

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

impl Whole<'_> {
    #[inline(always)]
    fn run(self) -> Glance {
        let Self { values, units, inner, bounds } = self;
        let (mean, variance) = moments(values);
        let each = values.len() as f64 / units as f64;
        let [zeros, quiet] = silence(values, units, inner);
        let zeros: f64 = zeros.into_iter().map(f64::from).sum();
        let zeros = zeros / values.len() as f64;
        let dead = quiet.into_iter().filter(|&unit| f64::from(unit) / each > DEAD).count();
        let dead = dead as f64 / units as f64;
        let mut saturated = 0.0;
        if let Some((low, high)) = bounds {
            let (low, scale) = (low as f32, (2.0 / (high - low)) as f32);
            let edge = by_unit(values, units, inner, |value| ((value - low) * scale - 1.0).abs());
            let over = edge.into_iter().filter(|&unit| f64::from(unit) / each > SATURATED).count();
            saturated = over as f64 / units as f64;
        }
        Glance { mean, variance, zeros, dead, saturated }
    }
}

vectorized!(Whole<'_>, Glance);

/// Mean and variance alone; the rest is NaN.
pub(crate) fn size(values: &[f32]) -> Glance {
    let (mean, variance) = Arch::new().dispatch(Moments(values));
    Glance { mean, variance, zeros: f64::NAN, dead: f64::NAN, saturated: f64::NAN }
}

struct Moments<'a>(&'a [f32]);

impl Moments<'_> {
    #[inline(always)]
    fn run(self) -> (f64, f64) {
        moments(self.0)
    }
}

vectorized!(Moments<'_>, (f64, f64));

/// Mean and variance in one pass over memory: each block is centred on its own mean, and the blocks are joined by the
/// rule of Chan, Golub and LeVeque (1979).
#[inline(always)]
fn moments(values: &[f32]) -> (f64, f64) {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for block in values.chunks(BLOCK) {
        let length = block.len() as f64;
        let own = sum(block, |value| value) / length;
        let middle = own as f32;
        let (gap, all) = (own - mean, count + length);
        squares += sum(block, |value| (value - middle) * (value - middle));
        squares += gap * gap * count * length / all;
        mean += gap * length / all;
        count = all;
    }
    (mean, squares / count)
}

/// The sum over one block.
#[inline(always)]
fn sum(block: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    let mut lanes = [0f32; 32];
    let (chunks, rest) = block.as_chunks::<32>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += term(value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane += term(value);
    }
    total(&lanes)
}

/// How often each unit is 0, and how often it is quiet.
#[inline(always)]
fn silence(values: &[f32], units: usize, inner: usize) -> [Vec<u32>; 2] {
    let (mut zeros, mut quiet) = (vec![0u32; units], vec![0u32; units]);
    // A sum that is checked for overflow is not vectorized.
    if inner == 1 {
        for row in values.chunks_exact(units) {
            for ((zero, quiet), &value) in zeros.iter_mut().zip(&mut quiet).zip(row) {
                *zero = zero.wrapping_add(u32::from(value == 0.0));
                *quiet = quiet.wrapping_add(u32::from(value.abs() < QUIET));
            }
        }
    } else {
        for (index, run) in values.chunks_exact(inner).enumerate() {
            let (mut zero, mut silent) = (0u32, 0u32);
            for &value in run {
                zero = zero.wrapping_add(u32::from(value == 0.0));
                silent = silent.wrapping_add(u32::from(value.abs() < QUIET));
            }
            let unit = index % units;
            zeros[unit] = zeros[unit].wrapping_add(zero);
            quiet[unit] = quiet[unit].wrapping_add(silent);
        }
    }
    [zeros, quiet]
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
