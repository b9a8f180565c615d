//! Statistics of activations over depth: size, dead units, saturation, in one read however many layers.
//!
//! # Rules
//! ```text
//! dead unit        |x| < 1e-5 in more than 95 % of its outputs
//! saturated unit   mean over its outputs of |2 (x - low) / (high - low) - 1| > 0.85       (bounded functions)
//! slope            least squares of ln(deviation) over depth, per layer
//! ```
//! # Reference
//! A. Rakitianskaia, A. Engelbrecht, "Measuring saturation in neural networks", SSCI 2015; H. Ben Braiek,
//! F. Khomh, "TheDeepChecker", TOSEM 2022 (dead units, thresholds).

use crate::glance::{DEAD, Glance, QUIET, SATURATED, glance, size};
use crate::read::read;
use crate::units::over_units;
use burn::tensor::{DType, FloatDType, Tensor};
use firebrick_backend::host::HostTensor;
use firebrick_core::Record;

/// Collects statistics of tensors on the device until they are read together.
///
/// Costs two passes over a tensor in host memory, and a third that ends once every unit has shown that it lives;
/// elsewhere four to six reductions, and one read for all. For the errors going back see [`Watch`](crate::Watch).
///
/// ```
/// use burn::tensor::{Device, Tensor, activation::relu};
/// use firebrick_stabilize::Taps;
///
/// let x = Tensor::<2>::from_floats([[1.0, -2.0], [3.0, -4.0]], &Device::flex());
/// let mut taps = Taps::default();
/// taps.see("input", &x);
/// taps.see("relu", &relu(x));
/// let taps = taps.read();
/// assert_eq!(taps[0].rms, 7.5f64.sqrt());
/// assert_eq!((taps[1].zeros, taps[1].dead), (0.5, 0.5)); // the second unit never fires
/// ```
#[derive(Debug, Default)]
pub struct Taps {
    seen: Vec<Seen>,
    /// The fields of each [`Glance`] that is still on the device.
    there: Vec<Tensor<1>>,
}

#[derive(Debug)]
struct Seen {
    name: String,
    bounded: bool,
    /// `None` while it is on the device.
    found: Option<Glance>,
}

/// What one tensor looks like.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Tap {
    /// The name it was given.
    pub name: String,
    /// Mean.
    pub mean: f64,
    /// Standard deviation over all elements (divided by their number).
    pub deviation: f64,
    /// Root mean square.
    pub rms: f64,
    /// Share of elements that are exactly 0.
    pub zeros: f64,
    /// Share of units that are dead.
    pub dead: f64,
    /// Share of units that are saturated, where the bounds were given.
    pub saturated: Option<f64>,
}

impl Taps {
    /// Looks at `tensor`, whose units lie along axis 1: `[batch, features]` or `[batch, channels, ..]`.
    ///
    /// An empty tensor is passed over.
    pub fn see<const D: usize>(&mut self, name: impl Into<String>, tensor: &Tensor<D>) {
        self.look(name.into(), tensor, 1.min(D.saturating_sub(1)), None);
    }

    /// Looks at `tensor` with its units along `axis`: 2 for `[batch, sequence, features]`.
    pub fn see_units<const D: usize>(
        &mut self,
        name: impl Into<String>,
        tensor: &Tensor<D>,
        axis: usize,
    ) {
        self.look(name.into(), tensor, axis.min(D.saturating_sub(1)), None);
    }

    /// Looks at the outputs of a function with values between `low` and `high`: -1 and 1 for tanh, 0 and 1 for
    /// the sigmoid.
    pub fn see_bounded<const D: usize>(
        &mut self,
        name: impl Into<String>,
        tensor: &Tensor<D>,
        low: f64,
        high: f64,
    ) {
        self.look(name.into(), tensor, 1.min(D.saturating_sub(1)), Some((low, high)));
    }

    /// Looks at the size of `tensor` and at nothing else: shares are NaN.
    pub(crate) fn see_size<const D: usize>(&mut self, name: String, tensor: &Tensor<D>) {
        let there = |tensor: Tensor<D>| {
            let tensor = tensor.cast(FloatDType::F32);
            let mean = tensor.clone().mean();
            let centred = tensor - mean.clone().reshape([1; D]);
            let rest = Tensor::full([3], f64::NAN, (&mean.device(), DType::F32));
            Tensor::cat(vec![mean, centred.square().mean(), rest], 0)
        };
        self.note(name, tensor, false, size, there);
    }

    fn look<const D: usize>(
        &mut self,
        name: String,
        tensor: &Tensor<D>,
        axis: usize,
        bounds: Option<(f64, f64)>,
    ) {
        let dims = tensor.dims();
        let here = |values: &[f32]| {
            let inner = dims.iter().skip(axis + 1).product();
            let units = dims.get(axis).copied().unwrap_or(1);
            glance(values, units, inner, bounds)
        };
        let there = |tensor| on_device(tensor, axis, bounds);
        self.note(name, tensor, bounds.is_some(), here, there);
    }

    /// Looks at `tensor` where it lives.
    fn note<const D: usize>(
        &mut self,
        name: String,
        tensor: &Tensor<D>,
        bounded: bool,
        here: impl FnOnce(&[f32]) -> Glance,
        there: impl FnOnce(Tensor<D>) -> Tensor<1>,
    ) {
        if tensor.shape().num_elements() == 0 {
            return;
        }
        let tensor = tensor.clone().inner();
        let found = match HostTensor::take(tensor) {
            Ok(host) => Some(here(host.as_slice())),
            Err(tensor) => {
                self.there.push(there(tensor));
                None
            }
        };
        self.seen.push(Seen { name, bounded, found });
    }

    /// Takes over what was seen elsewhere.
    pub(crate) fn take(&mut self, name: String, found: Glance) {
        self.seen.push(Seen { name, bounded: false, found: Some(found) });
    }

    /// How many tensors were looked at.
    pub(crate) fn count(&self) -> usize {
        self.seen.len()
    }

    /// Reads everything in one transfer, in the order in which it was seen.
    #[must_use]
    pub fn read(self) -> Vec<Tap> {
        let values = read(self.there);
        let mut values = values.into_iter();
        let mut next = || values.next().unwrap_or(f64::NAN);
        let tap = |Seen { name, bounded, found }| {
            let there = || Glance {
                mean: next(),
                variance: next(),
                zeros: next(),
                dead: next(),
                saturated: next(),
            };
            let Glance { mean, variance, zeros, dead, saturated } = found.unwrap_or_else(there);
            let rms = (mean * mean + variance).sqrt();
            let saturated = bounded.then_some(saturated);
            Tap { name, mean, deviation: variance.sqrt(), rms, zeros, dead, saturated }
        };
        self.seen.into_iter().map(tap).collect()
    }
}

/// The fields of a [`Glance`] by tensor operations.
fn on_device<const D: usize>(
    tensor: Tensor<D>,
    axis: usize,
    bounds: Option<(f64, f64)>,
) -> Tensor<1> {
    let tensor = tensor.cast(FloatDType::F32);
    let by_unit = |share: Tensor<D>| over_units(share, Some(axis), |t, axis| t.mean_dim(axis));
    // Not `float`, which is the device's default type.
    let quiet = by_unit(tensor.clone().abs().lower_scalar(QUIET).cast(FloatDType::F32));
    let mean = tensor.clone().mean();
    let centred = tensor.clone() - mean.clone().reshape([1; D]);
    let saturated = match bounds {
        Some((low, high)) => {
            let scaled = (tensor.clone() - low).mul_scalar(2.0 / (high - low)) - 1.0;
            by_unit(scaled.abs()).greater_scalar(SATURATED).cast(FloatDType::F32).mean()
        }
        None => mean.zeros_like(),
    };
    let found = vec![
        mean,
        centred.square().mean(),
        tensor.equal_scalar(0.0).cast(FloatDType::F32).mean(),
        quiet.greater_scalar(DEAD).cast(FloatDType::F32).mean(),
        saturated,
    ];
    Tensor::cat(found, 0)
}

/// The slope of `ln(size)` over depth, per layer, by least squares; beyond 0.3 either way is ill.
///
/// Sizes that are not above 0 and finite are left out; `None` with fewer than two left.
///
/// ```
/// let slope = firebrick_stabilize::depth_slope(&[1.0, 0.5, 0.25]).expect("three sizes");
/// assert!((slope + 2f64.ln()).abs() < 1e-12);
/// ```
#[must_use]
pub fn depth_slope(sizes: &[f64]) -> Option<f64> {
    let points: Vec<(f64, f64)> = sizes
        .iter()
        .enumerate()
        .filter(|(_, size)| size.is_finite() && **size > 0.0)
        .map(|(depth, size)| (depth as f64, size.ln()))
        .collect();
    if points.len() < 2 {
        return None;
    }
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / n, y / n);
    let (up, down) = points.iter().fold((0.0, 0.0), |(up, down), point| {
        (up + (point.0 - x) * (point.1 - y), down + (point.0 - x).powi(2))
    });
    Some(up / down)
}

/// Writes the statistics as `activation_std/<name>`, `dead/<name>`, `saturated/<name>` and `activation_slope`.
pub fn record_taps(taps: &[Tap], record: &mut Record) {
    for tap in taps {
        let mut add = |what: &str, value: f64| {
            record.values.insert([what, tap.name.as_str()].concat(), value);
        };
        add("activation_std/", tap.deviation);
        add("dead/", tap.dead);
        if let Some(saturated) = tap.saturated {
            add("saturated/", saturated);
        }
    }
    let sizes: Vec<f64> = taps.iter().map(|tap| tap.deviation).collect();
    if let Some(slope) = depth_slope(&sizes) {
        record.values.insert("activation_slope".into(), slope);
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use firebrick_backend::testing::{devices, with_half_by_default};

    #[test]
    fn channels_of_images_are_units() {
        for device in devices() {
            let live = Tensor::<4>::ones([2, 1, 2, 2], &device);
            let dead = Tensor::<4>::zeros([2, 3, 2, 2], &device);
            let mut taps = Taps::default();
            taps.see("image", &Tensor::cat(vec![live, dead], 1));
            let tap = &taps.read()[0];
            assert_eq!((tap.mean, tap.zeros, tap.dead), (0.25, 0.75, 0.75));
            assert!((tap.deviation - 0.1875f64.sqrt()).abs() < 1e-6);
            assert_eq!(tap.saturated, None);
        }
    }

    #[test]
    fn negative_values_are_not_dead_and_bounds_show_saturation() {
        for device in devices() {
            let leaky = Tensor::<2>::full([4, 2], -0.01, &device);
            let gates = Tensor::<2>::from_floats([[0.99, 0.5], [0.01, 0.6]], &device);
            let mut taps = Taps::default();
            taps.see("leaky", &leaky);
            taps.see_bounded("gates", &gates, 0.0, 1.0);
            taps.see_units("sequence", &Tensor::<3>::zeros([2, 3, 4], &device), 2);
            taps.see("nothing", &Tensor::<2>::zeros([0, 3], &device));
            let taps = taps.read();
            assert_eq!((taps.len(), taps[0].dead, taps[2].dead), (3, 0.0, 1.0));
            assert_eq!(taps[1].saturated, Some(0.5));
            let mut record = Record::new(1, 1);
            record_taps(&taps, &mut record);
            assert_eq!(record.get("dead/sequence"), Some(1.0));
            assert_eq!(record.get("saturated/gates"), Some(0.5));
        }
    }

    #[test]
    fn slopes_leave_out_what_has_no_logarithm() {
        assert_eq!(depth_slope(&[1.0]), None);
        assert_eq!(depth_slope(&[0.0, 1.0, f64::NAN]), None);
        let slope = depth_slope(&[1.0, f64::NAN, 4.0]).expect("two points");
        assert!((slope - 2f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn the_host_and_the_device_see_the_same() {
        let mut stream = firebrick_core::Seed(2).stream("values");
        let values: Vec<f32> = (0..7 * 5 * 33)
            .map(|i| if i % 5 == 2 { 0.0 } else { stream.uniform().powi(3) as f32 })
            .collect();
        for device in devices() {
            let tensor = Tensor::<1>::from_floats(values.as_slice(), &device).reshape([7, 5, 33]);
            for axis in 0..3 {
                let dims = tensor.dims();
                let inner = dims[axis + 1..].iter().product();
                let here = glance(&values, dims[axis], inner, Some((0.0, 1.0)));
                let there = on_device(tensor.clone(), axis, Some((0.0, 1.0)));
                let there = there.try_to_vec_as::<f64>().expect("reads");
                let here = [here.mean, here.variance, here.zeros, here.dead, here.saturated];
                for (here, there) in here.into_iter().zip(there) {
                    // Both sum some thousand numbers below 1 in f32.
                    assert!((here - there).abs() < 1e-5, "{axis} {here} {there}");
                }
            }
        }
    }

    #[test]
    fn a_default_type_of_half_precision_changes_nothing() {
        let name = "taps::tests::a_default_type_of_half_precision_changes_nothing";
        with_half_by_default(name, |device| {
            let rows = [[0.0f32, 2.0], [0.0, -2.0]];
            let mut taps = Taps::default();
            taps.see_bounded(
                "half",
                &Tensor::<2>::from_data(rows, (&device, DType::F16)),
                -2.0,
                2.0,
            );
            let tap = &taps.read()[0];
            assert_eq!((tap.zeros, tap.dead, tap.saturated), (0.5, 0.5, Some(0.5)));
        });
    }

    #[test]
    fn nan_is_shown() {
        for device in devices() {
            let mut taps = Taps::default();
            taps.see("broken", &Tensor::<2>::full([1, 2], f32::NAN, &device));
            assert!(taps.read()[0].rms.is_nan());
        }
    }
}
