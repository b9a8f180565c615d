//! Penalties on weights as matrices: orthogonality and the largest singular value.
//!
//! # Formula
//! ```text
//! orthogonal   strength * || G - I ||_F^2          G: the smaller of W^T W and W W^T
//!              strength * sum_{i != j} G_ij^2      off-diagonal form: G between units
//! spectral     strength / 2 * sigma_1(W)^2         sigma_1 = u^T W v by power iteration
//! ```
//! A kernel is read as the matrix [units, everything else], which is not the operator that the convolution
//! applies. Which axis counts units matters for kernels and for the off-diagonal form; else a matrix and its transpose are
//! alike.
//!
//! # Reference
//! A. Brock, T. Lim, J. M. Ritchie, N. Weston, "Neural photo editing with introspective adversarial networks",
//! ICLR 2017; N. Bansal, X. Chen, Z. Wang, NeurIPS 2018; A. Brock, J. Donahue, K. Simonyan, ICLR 2019
//! (off-diagonal); Y. Yoshida, T. Miyato, "Spectral norm regularization for improving the generalizability of
//! deep learning", 2017.

use super::{Measure, Penalty, PenaltyScope, Site, Target, sum_over};
use crate::RegularizeError;
use crate::places::Places;
use crate::units::{Axis, UnitAxis};
use burn::config::Config;
use burn::module::{Module, ParamGroup, ParamId};
use burn::tensor::{Tensor, TensorData};
use firebrick_core::{ConfigError, Seed, check};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the Gram matrix is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gram {
    /// The identity: units orthogonal and of norm 1.
    Identity,
    /// Anything diagonal: units orthogonal, of any norm.
    OffDiagonal,
}

/// Configuration of [`Orthogonal`].
#[derive(Config, Debug)]
pub struct OrthogonalConfig {
    /// Factor, at least 0; 1e-4 is usual.
    pub strength: f64,
    /// What the Gram matrix is compared with.
    #[config(default = "Gram::Identity")]
    pub gram: Gram,
    /// The axis that counts units.
    #[config(default = "UnitAxis::ByLayer")]
    pub axis: UnitAxis,
}

impl OrthogonalConfig {
    /// Checks the strength and builds the penalty.
    ///
    /// # Errors
    /// When `strength` is negative, NaN or infinite.
    pub fn init(&self) -> Result<Orthogonal, ConfigError> {
        let strength = check::non_negative("strength", self.strength)?;
        let target = Target::new(PenaltyScope::Weights);
        Ok(Orthogonal { strength, gram: self.gram, axis: self.axis, target })
    }
}

/// Draws the units of a layer towards orthogonality.
///
/// A weight whose unit axis is unknown is read by its first axis; [`check`](Penalty::check) tells.
///
/// ```
/// use burn::nn::{Initializer, LinearConfig};
/// use burn::tensor::Device;
/// use firebrick_regularize::{OrthogonalConfig, Penalty};
///
/// let device = Device::flex().autodiff();
/// let layer = LinearConfig::new(3, 2).with_initializer(Initializer::Ones).init(&device);
/// let term = OrthogonalConfig::new(1.0).init()?.term(&layer).expect("has a weight");
/// assert_eq!(term.into_scalar::<f32>(), 4.0 + 9.0 + 9.0 + 4.0); // the Gram matrix is all 3
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Orthogonal {
    strength: f64,
    gram: Gram,
    axis: UnitAxis,
    target: Target,
}

impl Orthogonal {
    /// The same penalty on the weights of `group` alone.
    #[must_use]
    pub fn only(self, group: ParamGroup) -> Self {
        Self { target: self.target.only(group), ..self }
    }
}

impl Penalty for Orthogonal {
    fn check<M: Module>(&self, model: &M) -> Result<(), RegularizeError> {
        let axis = match self.gram {
            Gram::Identity => Axis::Kernels(self.axis),
            Gram::OffDiagonal => Axis::Units(self.axis),
        };
        Places::of(model, &self.target, axis).map(drop)
    }
    fn term<M: Module>(&self, model: &M) -> Option<Tensor<1>> {
        sum_over(model, &self.target, self.strength, self)
    }
}

impl Measure for Orthogonal {
    fn of<const D: usize>(&self, weight: Tensor<D>, site: &Site) -> Tensor<1> {
        let matrix = as_matrix(weight, self.axis, &site.owner);
        let [units, inputs] = matrix.dims();
        let other = matrix.clone().transpose();
        let gram = if self.gram == Gram::OffDiagonal || units <= inputs {
            matrix.matmul(other)
        } else {
            other.matmul(matrix)
        };
        let eye = Tensor::<2>::eye(gram.dims()[0], &gram.device().inner()).cast(gram.dtype());
        match self.gram {
            Gram::Identity => (gram - eye).square().sum(),
            Gram::OffDiagonal => (gram * (eye.neg() + 1.0)).square().sum(),
        }
    }
}

/// Configuration of [`Spectral`].
#[derive(Config, Debug)]
pub struct SpectralConfig {
    /// Factor, at least 0; 0.01 is usual.
    pub strength: f64,
    /// Power iterations a call, at least 1.
    #[config(default = 1)]
    pub iterations: usize,
    /// Power iterations when a weight is first met: one alone is biased low.
    #[config(default = 15)]
    pub warmup: usize,
    /// The axis that counts units.
    #[config(default = "UnitAxis::ByLayer")]
    pub axis: UnitAxis,
}

impl SpectralConfig {
    /// Checks the values and builds the penalty, whose iterations start from `seed`.
    ///
    /// # Errors
    /// When `strength` is negative or not finite, or `iterations` is 0.
    pub fn init(&self, seed: Seed) -> Result<Spectral, ConfigError> {
        Ok(Spectral {
            strength: check::non_negative("strength", self.strength)?,
            iterations: check::at_least("iterations", self.iterations, 1)?,
            warmup: self.warmup,
            axis: self.axis,
            seed,
            target: Target::new(PenaltyScope::Weights),
            left: Arc::default(),
        })
    }
}

/// Half the squared largest singular value of every weight.
///
/// The singular vectors are kept between calls (clones share them); the gradient is `strength * sigma u v^T`. Where a
/// weight is 0 or not finite none is found, and the next call starts anew, without a warm-up.
///
/// The vectors are in no record of a model: save [`vectors`](Self::vectors) with a checkpoint and give them back by
/// [`set_vectors`](Self::set_vectors), or a resumed run warms up anew and is not the same to the last digit.
///
/// A weight whose unit axis is unknown is read by its first axis; [`check`](Penalty::check) tells.
///
/// ```
/// use burn::nn::{Initializer, LinearConfig};
/// use burn::tensor::Device;
/// use firebrick_core::Seed;
/// use firebrick_regularize::{Penalty, SpectralConfig};
///
/// let device = Device::flex().autodiff();
/// let layer = LinearConfig::new(3, 2).with_initializer(Initializer::Ones).init(&device);
/// let term = SpectralConfig::new(1.0).init(Seed(7))?.term(&layer).expect("has a weight");
/// assert!((term.into_scalar::<f32>() - 3.0).abs() < 1e-5); // sigma_1 = sqrt(6)
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Spectral {
    strength: f64,
    iterations: usize,
    warmup: usize,
    axis: UnitAxis,
    seed: Seed,
    target: Target,
    left: Arc<Mutex<HashMap<ParamId, Left>>>,
}

/// A left singular vector so far.
#[expect(clippy::large_enum_variant, reason = "one for each weight, and mostly the large one")]
#[derive(Debug, Clone)]
enum Left {
    /// [units, 1] both, on a plain device.
    Kept {
        /// Never 0 and always finite, or the iteration would not leave it.
        left: Tensor<2>,
        /// Where the iteration starts anew.
        start: Tensor<2>,
    },
    /// Given by the user, for a weight that has not been met since.
    Given(Vec<f64>),
}

impl Spectral {
    /// The same penalty on the weights of `group` alone.
    #[must_use]
    pub fn only(self, group: ParamGroup) -> Self {
        Self { target: self.target.only(group), ..self }
    }

    /// The left singular vectors so far, by the number of the parameter (`ParamId::val`), which burn's records keep.
    ///
    /// # Errors
    /// When one cannot be read from its device.
    pub fn vectors(&self) -> Result<BTreeMap<u64, Vec<f64>>, RegularizeError> {
        let read = |(id, left): (&ParamId, &Left)| {
            let values = match left {
                Left::Kept { left, .. } => left.try_to_vec_as::<f64>()?,
                Left::Given(values) => values.clone(),
            };
            Ok::<_, RegularizeError>((id.val(), values))
        };
        self.lock().iter().map(read).collect()
    }

    /// Goes on from vectors that [`vectors`](Self::vectors) gave, in place of those so far.
    ///
    /// One that does not fit its weight, is 0 or is not finite is left out when the weight is met.
    pub fn set_vectors(&self, vectors: BTreeMap<u64, Vec<f64>>) {
        let given = |(id, values)| (ParamId::from(id), Left::Given(values));
        *self.lock() = vectors.into_iter().map(given).collect();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ParamId, Left>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Penalty for Spectral {
    fn check<M: Module>(&self, model: &M) -> Result<(), RegularizeError> {
        Places::of(model, &self.target, Axis::Kernels(self.axis)).map(drop)
    }
    fn term<M: Module>(&self, model: &M) -> Option<Tensor<1>> {
        sum_over(model, &self.target, self.strength / 2.0, self)
    }
}

impl Measure for Spectral {
    fn of<const D: usize>(&self, weight: Tensor<D>, site: &Site) -> Tensor<1> {
        let matrix = as_matrix(weight, self.axis, &site.owner);
        let fixed = matrix.clone().inner();
        let (units, device, dtype) = (fixed.dims()[0], fixed.device(), fixed.dtype());
        let place = |values: TensorData| Tensor::<2>::from_data(values, (&device, dtype));
        let mut kept = self.lock();
        let moved = |vector: &Tensor<2>| vector.clone().to_device(&device).cast(dtype);
        let drawn = || {
            let mut stream = self.seed.stream("spectral");
            let draws: Vec<f32> = (0..units).map(|_| stream.normal() as f32).collect();
            place(TensorData::new(draws, [units, 1]))
        };
        let (mut left, start, steps) = match kept.get(&site.id) {
            Some(Left::Kept { left, start }) if left.dims()[0] == units => {
                (moved(left), moved(start), self.iterations)
            }
            Some(Left::Given(values)) if values.len() == units && has_direction(values) => {
                (place(TensorData::new(values.clone(), [units, 1])), drawn(), self.iterations)
            }
            _ => {
                let start = drawn();
                (start.clone(), start, self.iterations.max(self.warmup))
            }
        };
        let mut right = normalized(fixed.clone().transpose().matmul(left.clone()));
        for step in 0..steps {
            if step > 0 {
                right = normalized(fixed.clone().transpose().matmul(left));
            }
            left = normalized(fixed.clone().matmul(right.clone()));
        }
        kept.insert(site.id, Left::Kept { left: usable(&left, &start), start });
        left.transpose().matmul(matrix).matmul(right).square().sum()
    }
}

/// Whether a vector can be normalized.
fn has_direction(values: &[f64]) -> bool {
    let square: f64 = values.iter().map(|value| value * value).sum();
    square > 0.0 && square.is_finite()
}

/// `left` if it is of norm 1, or `start` if a weight that is 0 or not finite has left nothing of it; chosen on the
/// device, which need not be waited for.
fn usable(left: &Tensor<2>, start: &Tensor<2>) -> Tensor<2> {
    // False for NaN too.
    let good = left.clone().square().sum().greater_elem(0.5);
    start.clone().mask_where(good.unsqueeze::<2>().expand(left.dims()), left.clone())
}

fn normalized(vector: Tensor<2>) -> Tensor<2> {
    let norm = vector.clone().square().sum().sqrt().clamp_min(1e-12);
    vector / norm.unsqueeze()
}

/// The weight as [units, everything else]; what [`Penalty::check`] refuses by its first axis.
fn as_matrix<const D: usize>(weight: Tensor<D>, axis: UnitAxis, owner: &str) -> Tensor<2> {
    let units = axis.of(owner, D).unwrap_or(0);
    let count = weight.dims()[units];
    let rest = weight.dims().iter().product::<usize>() / count.max(1);
    let front = if units == 0 { weight } else { weight.swap_dims(0, units) };
    front.reshape([count, rest])
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::module::Param;
    use burn::nn::conv::{Conv1d, Conv1dConfig};
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;

    fn linear(rows: [[f32; 2]; 3], device: &Device) -> Linear {
        let mut layer = LinearConfig::new(3, 2).init(device);
        layer.weight = Param::from_data(rows, device);
        layer
    }

    fn value(penalty: &impl Penalty, model: &impl Module) -> f64 {
        penalty.term(model).expect("has a weight").into_scalar()
    }

    const ROWS: [[f32; 2]; 3] = [[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]];

    #[test]
    fn orthogonal_values_and_gradients_by_hand() {
        for device in devices() {
            let device = device.autodiff();
            let layer = linear(ROWS, &device);
            // Columns (1, 0.5, 3) and (2, -1, 0): G = [[10.25, 1.5], [1.5, 5]].
            let identity = OrthogonalConfig::new(2.0).init().expect("valid");
            let expected = 2.0 * (9.25f64.powi(2) + 2.0 * 1.5f64.powi(2) + 16.0);
            assert!((value(&identity, &layer) - expected).abs() < 1e-4);
            let off =
                OrthogonalConfig::new(2.0).with_gram(Gram::OffDiagonal).init().expect("valid");
            assert!((value(&off, &layer) - 2.0 * 4.5).abs() < 1e-5);
            // d/dW of ||W^T W - I||^2 is 4 W (W^T W - I).
            let gradients = identity.term(&layer).expect("a term").backward();
            let gradient = layer.weight.val().grad(&gradients).expect("has one");
            let gradient: Vec<f64> = gradient.try_to_vec_as().expect("reads");
            let (a, b, c) = (9.25, 1.5, 4.0);
            for (row, found) in ROWS.iter().zip(gradient.chunks(2)) {
                let (x, y) = (f64::from(row[0]), f64::from(row[1]));
                let expected = [8.0 * (x * a + y * b), 8.0 * (x * b + y * c)];
                assert!((found[0] - expected[0]).abs() < 1e-3, "{found:?} {expected:?}");
                assert!((found[1] - expected[1]).abs() < 1e-3, "{found:?} {expected:?}");
            }
        }
    }

    #[test]
    fn a_kernel_and_its_linear_twin_agree() {
        let device = Device::flex().autodiff();
        let layer = linear(ROWS, &device);
        let mut conv: Conv1d = Conv1dConfig::new(3, 2, 1).init(&device);
        conv.weight = Param::from_data([[[1.0], [0.5], [3.0]], [[2.0], [-1.0], [0.0]]], &device);
        for gram in [Gram::Identity, Gram::OffDiagonal] {
            let penalty = OrthogonalConfig::new(1.0).with_gram(gram).init().expect("valid");
            assert!((value(&penalty, &layer) - value(&penalty, &conv)).abs() < 1e-4);
        }
        let penalty = SpectralConfig::new(1.0).init(Seed(1)).expect("valid");
        assert!((value(&penalty, &layer) - value(&penalty, &conv)).abs() < 1e-4);
    }

    #[test]
    fn spectral_is_the_largest_eigenvalue_and_its_gradient_the_outer_product() {
        for device in devices() {
            let device = device.autodiff();
            let layer = linear(ROWS, &device);
            let penalty = SpectralConfig::new(0.5).init(Seed(1)).expect("valid");
            // The eigenvalues of [[10.25, 1.5], [1.5, 5]] are 7.625 +- sqrt(2.625^2 + 1.5^2).
            let top = 7.625 + (2.625f64.powi(2) + 2.25).sqrt();
            assert!((value(&penalty, &layer) - 0.25 * top).abs() < 1e-4);
            let gradients = penalty.term(&layer).expect("a term").backward();
            let gradient = layer.weight.val().grad(&gradients).expect("has one");
            // strength * sigma * u v^T has Frobenius norm strength * sigma.
            let norm: f64 = gradient.square().sum().sqrt().into_scalar();
            assert!((norm - 0.5 * top.sqrt()).abs() < 1e-4, "{norm}");
        }
    }

    #[derive(Module, Debug)]
    struct Own {
        weight: Param<Tensor<2>>,
    }

    #[derive(Module, Debug)]
    struct Kernel {
        weight: Param<Tensor<3>>,
    }

    #[test]
    fn the_unit_axis_is_named_or_that_of_the_layer() {
        let device = Device::flex().autodiff();
        let (layer, own) = (linear(ROWS, &device), Own { weight: Param::from_data(ROWS, &device) });
        let off = || OrthogonalConfig::new(1.0).with_gram(Gram::OffDiagonal);
        let by_layer = off().init().expect("valid");
        let named = off().with_axis(UnitAxis::At(1)).init().expect("valid");
        // Units are columns, (1, 0.5, 3) and (2, -1, 0): twice the square of 1.5.
        assert!((value(&by_layer, &layer) - 4.5).abs() < 1e-5);
        assert!((value(&named, &own) - 4.5).abs() < 1e-5);
        // Read by the first axis: rows with products 0 - 1.5, 3 and 1.5.
        let rows = 2.0 * ((0.5f64 - 2.0).powi(2) + 9.0 + 2.25);
        assert!((value(&by_layer, &own) - rows).abs() < 1e-4);
        let unknown = by_layer.check(&own).expect_err("an unknown layer").to_string();
        assert!(unknown.contains("`weight` in a layer of type `Own`"), "{unknown}");
        assert!(by_layer.check(&layer).is_ok() && named.check(&own).is_ok());
        let beyond = off().with_axis(UnitAxis::At(2)).init().expect("valid");
        assert!(beyond.check(&layer).is_err());
        assert!((value(&beyond, &own) - rows).abs() < 1e-4);
        assert!((None::<Orthogonal>, by_layer.clone()).check(&own).is_err());
        assert!(by_layer.only(ParamGroup::from_path("other")).check(&own).is_ok());
        // A matrix is read alike from either side.
        let identity = OrthogonalConfig::new(1.0).init().expect("valid");
        let spectral = SpectralConfig::new(1.0).init(Seed(1)).expect("valid");
        assert!((identity.clone(), spectral.clone()).check(&own).is_ok());
        assert!((value(&identity, &own) - value(&identity, &layer)).abs() < 1e-4);
        assert!((value(&spectral, &own) - value(&spectral, &layer)).abs() < 1e-4);
        // A kernel is not.
        let kernel = [[[1.0f32, 0.5, 3.0]], [[2.0, -1.0, 0.0]]];
        let own = Kernel { weight: Param::from_data(kernel, &device) };
        assert!(identity.check(&own).is_err() && spectral.check(&own).is_err());
        for axis in [0, 2] {
            let axis = UnitAxis::At(axis);
            let named = SpectralConfig::new(1.0).with_axis(axis).init(Seed(1)).expect("valid");
            assert!(named.check(&own).is_ok());
            assert!((value(&named, &own) - value(&spectral, &layer)).abs() < 1e-4);
        }
    }

    #[test]
    fn a_resumed_run_goes_on_from_the_vectors_that_were_saved() {
        for device in devices() {
            let device = device.autodiff();
            let layer = linear(ROWS, &device);
            // One iteration alone is far from the end, so that every further one shows.
            let config = SpectralConfig::new(1.0).with_warmup(0);
            let spectral = |seed| config.init(Seed(seed)).expect("valid");
            let whole = spectral(1);
            let _ = value(&whole, &layer);
            let saved = whole.vectors().expect("reads");
            assert_eq!(saved.keys().collect::<Vec<_>>(), [&layer.weight.id.val()]);
            let text = serde_json::to_string(&saved).expect("writes");
            let resumed = spectral(2);
            resumed.set_vectors(serde_json::from_str(&text).expect("parses"));
            assert_eq!(resumed.vectors().expect("reads"), saved);
            let second = value(&whole, &layer);
            assert_eq!(value(&resumed, &layer), second);
            assert_ne!(value(&spectral(2), &layer), second);
            // Of another length it is left out.
            let other = spectral(1);
            other.set_vectors(BTreeMap::from([(layer.weight.id.val(), vec![1.0; 7])]));
            assert_eq!(value(&other, &layer), value(&spectral(1), &layer));
        }
    }

    /// The same parameter with other values.
    fn changed(layer: &Linear, rows: [[f32; 2]; 3]) -> Linear {
        let mut layer = layer.clone();
        let value = |old: Tensor<2>| Tensor::from_floats(rows, &old.device()).require_grad();
        layer.weight = layer.weight.map(value);
        layer
    }

    #[test]
    fn a_weight_that_was_zero_or_not_finite_is_measured_again() {
        for device in devices() {
            let layer = linear(ROWS, &device.autodiff());
            // Half the largest eigenvalue of [[10.25, 1.5], [1.5, 5]].
            let expected = (7.625 + (2.625f64.powi(2) + 2.25).sqrt()) / 2.0;
            let config = SpectralConfig::new(1.0);
            for bad in [0.0, f32::NAN, f32::INFINITY] {
                for first in [true, false] {
                    let penalty = config.init(Seed(1)).expect("valid");
                    if !first {
                        let _ = value(&penalty, &layer);
                    }
                    let _ = value(&penalty, &changed(&layer, [[bad; 2]; 3]));
                    let kept = &penalty.vectors().expect("reads")[&layer.weight.id.val()];
                    assert!(has_direction(kept), "{bad}: {kept:?}");
                    // An iteration leaves a fifth of the error: the eigenvalues are 4.6 apart, the larger is 10.6.
                    let found = (0..15).fold(f64::NAN, |_, _| value(&penalty, &layer));
                    assert!((found - expected).abs() < 1e-4, "{bad}: {found} {expected}");
                }
            }
            for given in [[0.0; 2], [f64::NAN, 1.0], [f64::INFINITY, 1.0]] {
                let penalty = config.init(Seed(1)).expect("valid");
                penalty.set_vectors(BTreeMap::from([(layer.weight.id.val(), given.to_vec())]));
                let found = value(&penalty, &layer);
                assert!((found - expected).abs() < 1e-4, "{given:?}: {found} {expected}");
            }
        }
    }

    #[test]
    fn a_weight_that_lost_the_direction_that_was_kept_is_measured_again() {
        let only = |unit: usize, size: f32| {
            let mut rows = [[0.0; 2]; 3];
            rows[0][unit] = size;
            rows
        };
        for device in devices() {
            let layer = linear(only(0, 1.0), &device.autodiff());
            let penalty = SpectralConfig::new(1.0).init(Seed(1)).expect("valid");
            assert!((value(&penalty, &layer) - 0.5).abs() < 1e-6);
            // The vector of the first unit sees nothing of the second one.
            let other = changed(&layer, only(1, 2.0));
            assert_eq!(value(&penalty, &other), 0.0);
            assert!((value(&penalty, &other) - 2.0).abs() < 1e-5);
        }
    }

    #[test]
    fn degenerate_weights_and_values_are_defined() {
        let device = Device::flex().autodiff();
        let zero = linear([[0.0; 2]; 3], &device);
        let penalty = SpectralConfig::new(1.0).init(Seed(1)).expect("valid");
        assert_eq!(value(&penalty, &zero), 0.0);
        let gradients = penalty.term(&zero).expect("a term").backward();
        let gradient = zero.weight.val().grad(&gradients).expect("has one");
        let gradient: Vec<f32> = gradient.try_to_vec_as().expect("reads");
        assert!(gradient.iter().all(|g| g.is_finite()));
        assert!(OrthogonalConfig::new(-1.0).init().is_err());
        assert!(SpectralConfig::new(1.0).with_iterations(0).init(Seed(1)).is_err());
        let none = burn::nn::LayerNormConfig::new(3).init(&device);
        assert!(penalty.term(&none).is_none());
    }
}
