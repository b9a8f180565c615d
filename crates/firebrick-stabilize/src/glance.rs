//! The statistics of one tensor in host memory, in three vectorized passes.

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

/// Elements whose sum is taken in f32, in 32 lanes.
const BLOCK: usize = 1024;

/// Looks at row-major `values`, whose units lie along an axis of length `units` with `inner` elements behind each.
pub(crate) fn glance(
    values: &[f32],
    units: usize,
    inner: usize,
    bounds: Option<(f64, f64)>,
) -> Glance {
    Arch::new().dispatch(|| {
        let count = values.len() as f64;
        let (mean, variance) = moments(values);
        let zeros = sum(values, |value| f32::from(u8::from(value == 0.0))) / count;
        let each = count / units as f64;
        let quiet = by_unit(values, units, inner, |value| f32::from(u8::from(value.abs() < QUIET)));
        let share = |of: &[f32], above: f64| {
            of.iter().filter(|&&unit| f64::from(unit) / each > above).count() as f64 / units as f64
        };
        let saturated = bounds.map_or(0.0, |(low, high)| {
            let (low, scale) = (low as f32, (2.0 / (high - low)) as f32);
            let edge = by_unit(values, units, inner, |value| ((value - low) * scale - 1.0).abs());
            share(&edge, SATURATED)
        });
        Glance { mean, variance, zeros, dead: share(&quiet, DEAD), saturated }
    })
}

/// Mean and variance alone; the rest is NaN.
pub(crate) fn size(values: &[f32]) -> Glance {
    let (mean, variance) = Arch::new().dispatch(|| moments(values));
    Glance { mean, variance, zeros: f64::NAN, dead: f64::NAN, saturated: f64::NAN }
}

#[inline(always)]
fn moments(values: &[f32]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = sum(values, |value| value) / count;
    let middle = mean as f32;
    (mean, sum(values, |value| (value - middle) * (value - middle)) / count)
}

#[inline(always)]
fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    let block = |block: &[f32]| {
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
        lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>()
    };
    values.chunks(BLOCK).map(block).sum()
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
