//! Initial weights from the pinned generator: the same seed gives the same network on every platform.
//!
//! # Formulas
//! With `fan_in` inputs and `fan_out` outputs of a unit:
//! ```text
//! LeCun              variance 1 / fan_in
//! Xavier             variance gain^2 * 2 / (fan_in + fan_out)
//! Kaiming            variance gain^2 / fan_in           gain sqrt(2) for ReLU
//! ```
//! A uniform form with variance `v` draws from [-sqrt(3 v), sqrt(3 v)). A truncated normal is cut at two
//! deviations and widened, so that its variance is `v` after the cut (PyTorch's `trunc_normal_` is not).
//!
//! # Reference
//! Y. LeCun et al., "Efficient BackProp", 1998; X. Glorot, Y. Bengio, AISTATS 2010; K. He et al., ICCV 2015;
//! A. Saxe et al., ICLR 2014 (orthogonal); L. Xiao et al., ICML 2018 (delta-orthogonal); J. Martens, ICML 2010
//! (sparse); Q. Le, N. Jaitly, G. Hinton, 2015 (identity).
//!
//! # Differences
//! burn draws lazily from a generator of the whole process, so its weights depend on what else was drawn and
//! in which order. burn also draws biases like weights; here they start at 0.

use crate::draw;
use crate::units::unit_axis;
use crate::{Initialize, StabilizeError};
use burn::module::Module;
use firebrick_core::{ConfigError, Philox, Seed, check};
use serde::{Deserialize, Serialize};

/// Which fan the variance is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fan {
    /// The inputs of a unit: the signal keeps its size going forward.
    In,
    /// The outputs: the gradient keeps its size going back.
    Out,
    /// The mean of both.
    Average,
}

/// The form of a distribution of given variance and mean 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Distribution {
    /// Uniform.
    Uniform,
    /// Normal.
    Normal,
    /// Normal, cut at two deviations and widened to the variance asked for.
    TruncatedNormal,
}

/// The distribution of initial weights.
///
/// The fans of a convolution with groups are those of one group. A weight shows the inputs of a unit, but not its
/// groups: `[out, in / groups, kernel..]` has the right `fan_in` and a `fan_out` that is `groups` times too large, and
/// a transposed one, `[in, out / groups, kernel..]`, a `fan_in` that is, so that it starts too small by `sqrt(groups)`.
/// [`Initialize::groups`] tells how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Scheme {
    /// Normal, variance `1 / fan_in`: for SELU and for linear units.
    LecunNormal,
    /// Uniform, variance `1 / fan_in`.
    LecunUniform,
    /// Uniform, variance `2 / (fan_in + fan_out)`: for tanh and sigmoid.
    XavierUniform,
    /// Normal, variance `2 / (fan_in + fan_out)`.
    XavierNormal,
    /// Uniform, variance `2 / fan_in`: for ReLU.
    KaimingUniform,
    /// Normal, variance `2 / fan_in`: for ReLU.
    KaimingNormal,
    /// Any other combination: variance `gain^2 / fan`.
    Scaled {
        /// What the deviation is multiplied by.
        gain: f64,
        /// Which fan.
        fan: Fan,
        /// Which form.
        distribution: Distribution,
    },
    /// The given deviation, whatever the fans.
    Fixed {
        /// The standard deviation.
        deviation: f64,
        /// Which form.
        distribution: Distribution,
    },
    /// Orthonormal rows or columns, whichever are fewer, times `gain`.
    Orthogonal {
        /// The singular values.
        gain: f64,
    },
    /// A convolution whose kernel is an orthogonal matrix at its centre and zero elsewhere; it needs at least as
    /// many outputs as inputs, and in a convolution with groups the number of them.
    DeltaOrthogonal {
        /// The singular values.
        gain: f64,
    },
    /// `nonzeros` normal weights a unit, at random inputs, all others zero.
    Sparse {
        /// Weights that are not zero, of each unit; 15 in the paper.
        nonzeros: usize,
        /// Their deviation; 1 in the paper.
        deviation: f64,
    },
    /// Ones from the i-th input to the i-th output (at the centre of a kernel), times `gain`; in a convolution with
    /// groups it needs the number of them.
    Identity {
        /// The value of the ones.
        gain: f64,
    },
    /// The same value everywhere. Units that are all alike stay alike: for biases, scales and last layers.
    Constant {
        /// The value.
        value: f64,
    },
}

impl Scheme {
    /// The mean square of a weight between `fan_in` inputs and `fan_out` outputs, which is the variance of all
    /// schemes with mean 0.
    ///
    /// Fans do not tell how large a kernel is, on which orthogonal weights depend: for convolutions see
    /// [`kernel_variance`](Self::kernel_variance).
    #[must_use]
    pub fn variance(self, fan_in: usize, fan_out: usize) -> f64 {
        let inputs = fan_in.max(1) as f64;
        let more = fan_in.max(fan_out).max(1) as f64;
        match self {
            Self::LecunNormal | Self::LecunUniform => 1.0 / inputs,
            Self::XavierUniform | Self::XavierNormal => 2.0 / (fan_in + fan_out).max(1) as f64,
            Self::KaimingUniform | Self::KaimingNormal => 2.0 / inputs,
            Self::Scaled { gain, fan, .. } => {
                gain * gain
                    / match fan {
                        Fan::In => inputs,
                        Fan::Out => fan_out.max(1) as f64,
                        Fan::Average => (fan_in + fan_out).max(1) as f64 / 2.0,
                    }
            }
            Self::Fixed { deviation, .. } => deviation * deviation,
            Self::Orthogonal { gain }
            | Self::DeltaOrthogonal { gain }
            | Self::Identity { gain } => gain * gain / more,
            Self::Sparse { nonzeros, deviation } => {
                deviation * deviation * (nonzeros as f64 / inputs).min(1.0)
            }
            Self::Constant { value } => value * value,
        }
    }

    /// [`variance`](Self::variance) of a kernel of `field` elements between `inputs` and `outputs` channels.
    ///
    /// An orthogonal kernel is one as a matrix `[outputs, inputs * field]`: `gain^2 / max(outputs, inputs * field)`.
    ///
    /// ```
    /// use firebrick_stabilize::Scheme;
    /// let orthogonal = Scheme::Orthogonal { gain: 3.0 };
    /// assert_eq!(orthogonal.kernel_variance(4, 16, 9), 9.0 / 36.0);
    /// assert_eq!(Scheme::KaimingNormal.kernel_variance(4, 16, 9), 2.0 / 36.0);
    /// ```
    #[must_use]
    pub fn kernel_variance(self, inputs: usize, outputs: usize, field: usize) -> f64 {
        match self {
            Self::Orthogonal { gain } => gain * gain / outputs.max(inputs * field).max(1) as f64,
            _ => self.variance(inputs * field, outputs * field),
        }
    }

    pub(crate) fn check(self) -> Result<(), ConfigError> {
        match self {
            Self::Scaled { gain, .. }
            | Self::Orthogonal { gain }
            | Self::DeltaOrthogonal { gain }
            | Self::Identity { gain } => check::positive("gain", gain).map(drop),
            Self::Fixed { deviation, .. } => check::non_negative("deviation", deviation).map(drop),
            Self::Sparse { nonzeros, deviation } => {
                check::at_least("nonzeros", nonzeros, 1)?;
                check::positive("deviation", deviation).map(drop)
            }
            Self::Constant { value } => check::finite("value", value).map(drop),
            _ => Ok(()),
        }
    }

    fn distribution(self) -> Distribution {
        match self {
            Self::XavierUniform | Self::KaimingUniform | Self::LecunUniform => {
                Distribution::Uniform
            }
            Self::Scaled { distribution, .. } | Self::Fixed { distribution, .. } => distribution,
            _ => Distribution::Normal,
        }
    }

    /// The weights of a layer of type `owner`, in burn's order; the reason where the shape does not allow it.
    pub(crate) fn draw(
        self,
        owner: &str,
        shape: &[usize],
        groups: Option<usize>,
        stream: &mut Philox,
    ) -> Result<Vec<f64>, String> {
        if let (Some(groups @ 2..), [rows, rest @ ..]) = (groups, shape) {
            if rows % groups != 0 {
                return Err(format!("{rows} channels cannot be {groups} groups"));
            }
            // The first axis holds group after group, in convolutions and in transposed ones.
            let group = [&[rows / groups][..], rest].concat();
            let drawn = (0..groups).map(|_| self.draw(owner, &group, Some(1), stream));
            return Ok(drawn.collect::<Result<Vec<_>, _>>()?.concat());
        }
        let count: usize = shape.iter().product();
        if let Self::Constant { value } = self {
            return Ok(vec![value; count]);
        }
        let (fan_in, fan_out) = fans(owner, shape);
        let matrix = matches!(
            self,
            Self::Orthogonal { .. }
                | Self::DeltaOrthogonal { .. }
                | Self::Sparse { .. }
                | Self::Identity { .. }
        );
        if !matrix {
            let deviation = self.variance(fan_in, fan_out).sqrt();
            let form = self.distribution();
            return Ok((0..count).map(|_| deviation * standard(form, stream)).collect());
        }
        let Some(axis) = unit_axis(owner, shape.len()) else {
            return Err("a vector has no rows and columns".into());
        };
        let units = shape[axis];
        let inputs = count.checked_div(units).unwrap_or(0);
        let channels = shape[1 - axis];
        let kernel = &shape[2..];
        let placed = matches!(self, Self::DeltaOrthogonal { .. } | Self::Identity { .. });
        // The second axis is that of one group, in convolutions and in transposed ones.
        let depthwise = !kernel.is_empty() && shape[1] == 1 && shape[0] > 1;
        if placed && depthwise && groups.is_none() {
            let groups = shape[0];
            return Err(format!(
                "its shape does not tell whether it belongs to one group or to {groups}; say it by `Initialize::groups`"
            ));
        }
        let unit_major = match self {
            Self::Orthogonal { gain } => draw::orthogonal(units, inputs, gain, stream),
            Self::Sparse { nonzeros, deviation } => {
                draw::sparse(units, inputs, nonzeros, deviation, stream)
            }
            Self::Identity { gain } => {
                draw::at_centre(&draw::identity(units, channels, gain), kernel)
            }
            _ if units < channels => {
                return Err(format!(
                    "delta-orthogonal needs outputs >= inputs, got {units} < {channels}"
                ));
            }
            Self::DeltaOrthogonal { gain } => {
                draw::at_centre(&draw::orthogonal(units, channels, gain, stream), kernel)
            }
            _ => Vec::new(),
        };
        Ok(draw::to_storage(unit_major, shape, axis))
    }
}

/// A draw with mean 0 and variance 1.
fn standard(form: Distribution, stream: &mut Philox) -> f64 {
    match form {
        Distribution::Uniform => 3f64.sqrt() * (2.0 * stream.uniform() - 1.0),
        Distribution::Normal => stream.normal(),
        Distribution::TruncatedNormal => draw::truncated_normal(stream),
    }
}

/// Draws the weights of `model` anew by `scheme`, sets its biases to 0 and its embeddings to N(0, 1).
///
/// Scales and offsets of normalization layers and other vectors keep burn's constants. Each parameter draws
/// from a stream named by its path, so adding a layer leaves the others as they were. For more than one scheme,
/// or to have the numbers inside it checked, see [`Initialize`].
///
/// A layer that the scheme cannot fill (delta-orthogonal with fewer outputs than inputs, or depthwise) is left as
/// it is; [`Initialize::apply`] says so instead. Transposed convolutions with groups are drawn as if they had none, too
/// small by `sqrt(groups)`, unless [`Initialize::groups`] tells their number.
///
/// A weight with learned lengths ([`normalize_weights`](crate::normalize_weights)) gets those of what is drawn. One that
/// is standardized or divided by its largest singular value keeps the size that this gives it.
///
/// ```
/// use burn::{nn::LinearConfig, tensor::Device};
/// use firebrick_core::Seed;
/// use firebrick_stabilize::{Scheme, initialize};
///
/// let device = Device::flex().autodiff();
/// let build = || initialize(LinearConfig::new(64, 32).init(&device), Scheme::KaimingNormal, Seed(7));
/// let (one, two) = (build(), build());
/// one.weight.val().into_data().assert_eq(&two.weight.val().into_data(), true);
/// ```
#[must_use]
pub fn initialize<M: Module>(model: M, scheme: Scheme, seed: Seed) -> M {
    Initialize::new(seed).weights(scheme).fill(model, &mut |_: StabilizeError| {})
}

/// Inputs and outputs of a unit of a layer of type `owner` whose weight has `shape`.
///
/// burn stores `Linear` as [in, out], convolutions as [out, in / groups, kernel..] and transposed
/// convolutions as [in, out / groups, kernel..].
pub(crate) fn fans(owner: &str, shape: &[usize]) -> (usize, usize) {
    let [first, second, kernel @ ..] = shape else { return (1, 1) };
    let field: usize = kernel.iter().product();
    // As `unit_axis` has it, also for layers that are not burn's.
    let outputs_first = match owner {
        _ if owner.contains("ConvTranspose") => false,
        _ => owner.contains("Conv") || shape.len() > 2,
    };
    if outputs_first { (second * field, first * field) } else { (first * field, second * field) }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::gain::normal_cumulative;
    use crate::kolmogorov::check_distribution;
    use crate::{Nonlinearity, Select};
    use burn::nn::conv::{Conv2dConfig, ConvTranspose2dConfig};
    use burn::nn::{BatchNormConfig, LinearConfig};
    use burn::tensor::Tensor;
    use firebrick_backend::{Role, testing::devices};

    fn scaled(gain: f64, fan: Fan, distribution: Distribution) -> Scheme {
        Scheme::Scaled { gain, fan, distribution }
    }

    #[test]
    fn matrix_schemes_fill_every_layout() {
        let device = burn::tensor::Device::flex();
        let conv = Conv2dConfig::new([2, 3], [3, 3]).init(&device);
        let conv = initialize(conv, Scheme::DeltaOrthogonal { gain: 1.0 }, Seed(1));
        let weight: Vec<f64> = conv.weight.val().try_to_vec_as().expect("reads");
        let centres: Vec<f64> = weight.chunks(9).map(|kernel| kernel[4]).collect();
        assert!(weight.chunks(9).all(|k| k.iter().filter(|v| **v != 0.0).count() == 1));
        // The columns of the [out, in] matrix at the centre are orthonormal.
        for (a, b, expected) in [(0, 0, 1.0), (1, 1, 1.0), (0, 1, 0.0)] {
            let product: f64 = (0..3).map(|out| centres[out * 2 + a] * centres[out * 2 + b]).sum();
            assert!((product - expected).abs() < 1e-6);
        }
        let linear = LinearConfig::new(3, 5).init(&device);
        let linear = initialize(linear, Scheme::Sparse { nonzeros: 2, deviation: 1.0 }, Seed(1));
        let weight: Vec<f64> = linear.weight.val().try_to_vec_as().expect("reads");
        for unit in 0..5 {
            let used = (0..3).filter(|input| weight[input * 5 + unit] != 0.0).count();
            assert_eq!(used, 2);
        }
        let square = LinearConfig::new(3, 3).init(&device);
        let square = initialize(square, Scheme::Identity { gain: 2.0 }, Seed(1));
        let input = Tensor::<2>::from_floats([[1.0, 2.0, 3.0]], &device);
        let output: Vec<f64> = square.forward(input).try_to_vec_as().expect("reads");
        assert_eq!(output, [2.0, 4.0, 6.0]);
    }

    #[test]
    fn a_column_layout_has_the_fans_of_its_twin() {
        let device = burn::tensor::Device::flex();
        let config = LinearConfig::new(400, 100).with_layout(burn::nn::LinearLayout::Col);
        let layer = initialize(config.init(&device), Scheme::LecunNormal, Seed(3));
        assert_eq!(layer.weight.val().dims(), [400, 100]);
        let weights: Vec<f64> = layer.weight.val().try_to_vec_as().expect("reads");
        let square = weights.iter().map(|w| w * w).sum::<f64>() / 40_000.0;
        assert!((square * 400.0 - 1.0).abs() < 5.0 * (2.0f64 / 40_000.0).sqrt(), "{square}");
    }

    /// Checks weights against the distribution of `scheme` with this variance, by the test of Kolmogorov and Smirnov.
    #[track_caller]
    fn follows(weights: &[f64], scheme: Scheme, variance: f64) {
        let deviation = variance.sqrt();
        match scheme.distribution() {
            Distribution::Uniform => {
                let bound = deviation * 3f64.sqrt();
                check_distribution(weights, |x| (x + bound) / (2.0 * bound));
            }
            Distribution::Normal => {
                check_distribution(weights, |x| normal_cumulative(x / deviation));
            }
            Distribution::TruncatedNormal => {
                let (low, high) = (normal_cumulative(-2.0), normal_cumulative(2.0));
                // The deviation of a normal cut at +-2 is 0.87962566.
                let wide = deviation / 0.879_625_66;
                check_distribution(weights, |x| (normal_cumulative(x / wide) - low) / (high - low));
            }
        }
    }

    #[test]
    fn weights_follow_the_exact_distribution() {
        let leaky = |slope: f64| Nonlinearity::LeakyRelu { slope }.gain();
        for device in devices() {
            let device = device.autodiff();
            for (scheme, variance) in [
                (Scheme::LecunNormal, 1.0 / 200.0),
                (Scheme::LecunUniform, 1.0 / 200.0),
                (scaled(3.0, Fan::Out, Distribution::Uniform), 9.0 / 100.0),
                (scaled(0.5, Fan::Average, Distribution::Normal), 0.25 / 150.0),
                (scaled(2.0, Fan::In, Distribution::TruncatedNormal), 4.0 / 200.0),
                (
                    Scheme::Fixed { deviation: 0.02, distribution: Distribution::TruncatedNormal },
                    0.0004,
                ),
                (Scheme::Fixed { deviation: 0.05, distribution: Distribution::Uniform }, 0.0025),
                (Scheme::Fixed { deviation: 0.3, distribution: Distribution::Normal }, 0.09),
                (Scheme::XavierUniform, 2.0 / 300.0),
                (Scheme::XavierNormal, 2.0 / 300.0),
                (Scheme::KaimingUniform, 2.0 / 200.0),
                (Scheme::KaimingNormal, 2.0 / 200.0),
                (scaled(leaky(0.01), Fan::In, Distribution::Normal), 2.0 / 1.0001 / 200.0),
                (scaled(leaky(0.02), Fan::In, Distribution::Uniform), 2.0 / 1.0004 / 200.0),
                (scaled(leaky(0.25), Fan::In, Distribution::Normal), 2.0 / 1.0625 / 200.0),
            ] {
                let layer = initialize(LinearConfig::new(200, 100).init(&device), scheme, Seed(1));
                let weights: Vec<f64> = layer.weight.val().try_to_vec_as().expect("reads");
                follows(&weights, scheme, variance);
                let bias: Vec<f32> =
                    layer.bias.expect("has one").val().try_to_vec_as().expect("reads");
                assert_eq!(bias, [0.0; 100]);
            }
        }
    }

    #[test]
    fn kernels_follow_the_exact_distribution_of_their_fans() {
        // 16 inputs and 32 outputs of 25 elements each, in either layout: fans 400 and 800.
        for device in devices() {
            for (scheme, variance) in [
                (Scheme::LecunUniform, 1.0 / 400.0),
                (Scheme::XavierUniform, 2.0 / 1200.0),
                (Scheme::KaimingNormal, 2.0 / 400.0),
                (scaled(1.5, Fan::Out, Distribution::Normal), 2.25 / 800.0),
                (scaled(1.0, Fan::In, Distribution::TruncatedNormal), 1.0 / 400.0),
            ] {
                let conv = Conv2dConfig::new([16, 32], [5, 5]).init(&device);
                let back = ConvTranspose2dConfig::new([16, 32], [5, 5]).init(&device);
                let (conv, back) = initialize((conv, back), scheme, Seed(2));
                for weight in [conv.weight.val(), back.weight.val()] {
                    let weights: Vec<f64> = weight.try_to_vec_as().expect("reads");
                    assert_eq!(weights.len(), 12_800);
                    follows(&weights, scheme, variance);
                }
            }
        }
    }

    #[test]
    fn sparse_weights_are_normal_at_uniform_places() {
        let device = burn::tensor::Device::flex();
        let scheme = Scheme::Sparse { nonzeros: 5, deviation: 0.3 };
        let layer = initialize(LinearConfig::new(20, 2000).init(&device), scheme, Seed(3));
        let weights: Vec<f64> = layer.weight.val().try_to_vec_as().expect("reads");
        let drawn: Vec<f64> = weights.iter().copied().filter(|&weight| weight != 0.0).collect();
        assert_eq!(drawn.len(), 10_000);
        follows(&drawn, scheme, 0.09);
        // Each input is used by a quarter of the units, binomially; 5.5 deviations in 20 inputs: below 1e-6.
        for input in weights.chunks(2000) {
            let used = input.iter().filter(|&&weight| weight != 0.0).count() as f64;
            assert!((used - 500.0).abs() < 5.5 * (2000.0 * 0.25 * 0.75f64).sqrt(), "{used}");
        }
    }

    #[test]
    fn an_entry_of_an_orthogonal_matrix_follows_its_law() {
        // One entry of a uniform unit vector of length 3 is uniform in [-1, 1] (Archimedes).
        let mut stream = Seed(4).stream("orthogonal");
        let entries: Vec<f64> =
            (0..5000).map(|_| draw::orthogonal(3, 3, 1.0, &mut stream)[4]).collect();
        check_distribution(&entries, |x| (x + 1.0) / 2.0);
        // So is one of a layer's weights, and of the middle of a delta-orthogonal kernel; one of each draw, for those of
        // one matrix depend on one another.
        let device = burn::tensor::Device::flex();
        for scheme in [Scheme::DeltaOrthogonal { gain: 2.0 }, Scheme::Orthogonal { gain: 2.0 }] {
            let mut entries = Vec::new();
            for seed in 0..600 {
                let weight = if matches!(scheme, Scheme::DeltaOrthogonal { .. }) {
                    let conv = Conv2dConfig::new([3, 3], [3, 3]).init(&device);
                    let weight = initialize(conv, scheme, Seed(seed)).weight.val();
                    weight.narrow(2, 1, 1).narrow(3, 1, 1).reshape([3, 3])
                } else {
                    initialize(LinearConfig::new(3, 3).init(&device), scheme, Seed(seed))
                        .weight
                        .val()
                };
                let weight: Vec<f64> = weight.try_to_vec_as().expect("reads");
                entries.push(weight[(seed % 9) as usize]);
            }
            check_distribution(&entries, |x| (x + 2.0) / 4.0);
        }
    }

    #[test]
    fn embeddings_are_standard_normal() {
        let device = burn::tensor::Device::flex();
        let embedding = burn::nn::EmbeddingConfig::new(100, 50).init(&device);
        let embedding = initialize(embedding, Scheme::XavierUniform, Seed(6));
        let weights: Vec<f64> = embedding.weight.val().try_to_vec_as().expect("reads");
        check_distribution(&weights, normal_cumulative);
    }

    #[test]
    fn the_variance_of_a_kernel_is_that_of_its_weights() {
        let device = burn::tensor::Device::flex();
        for scheme in [
            Scheme::Orthogonal { gain: 2.0 },
            Scheme::DeltaOrthogonal { gain: 2.0 },
            Scheme::Identity { gain: 2.0 },
        ] {
            // More outputs than inputs times the field, and fewer.
            for outputs in [40, 8] {
                let conv = Conv2dConfig::new([4, outputs], [3, 3]).init(&device);
                let conv = initialize(conv, scheme, Seed(5));
                let weights: Vec<f64> = conv.weight.val().try_to_vec_as().expect("reads");
                let square = weights.iter().map(|w| w * w).sum::<f64>() / weights.len() as f64;
                let expected = scheme.kernel_variance(4, outputs, 9);
                assert!((square / expected - 1.0).abs() < 1e-5, "{scheme:?} {square} {expected}");
            }
        }
        assert_eq!(Scheme::Orthogonal { gain: 1.0 }.kernel_variance(3, 5, 1), 1.0 / 5.0);
    }

    #[test]
    fn kernels_whose_groups_are_unknown_are_refused() {
        let device = burn::tensor::Device::flex();
        for scheme in [Scheme::DeltaOrthogonal { gain: 1.0 }, Scheme::Identity { gain: 1.0 }] {
            let rules = Initialize::new(Seed(1)).weights(scheme);
            let refused = |error: StabilizeError| {
                assert!(matches!(error, StabilizeError::Shape { .. }), "{error}");
                assert!(error.to_string().contains("one group or to 8"), "{error}");
            };
            let depthwise = Conv2dConfig::new([8, 8], [3, 3]).with_groups(8).init(&device);
            refused(rules.apply(depthwise.clone()).expect_err("refused"));
            let back = ConvTranspose2dConfig::new([8, 8], [3, 3]).with_groups(8).init(&device);
            refused(rules.apply(back).expect_err("refused"));
            // Left as it is by the function that reports nothing.
            let before = depthwise.weight.val().into_data();
            let after = initialize(depthwise, scheme, Seed(1));
            after.weight.val().into_data().assert_eq(&before, true);
            // One channel each way has one group; a Linear has none.
            let single = Conv2dConfig::new([1, 1], [3, 3]).init(&device);
            assert!(rules.apply(single).is_ok());
            assert!(rules.apply(LinearConfig::new(1, 1).init(&device)).is_ok());
        }
    }

    #[test]
    fn weights_of_a_group_have_the_fans_of_the_group() {
        let mean_square = |weight: Tensor<4>| {
            let weights: Vec<f64> = weight.try_to_vec_as().expect("reads");
            weights.iter().map(|w| w * w).sum::<f64>() / weights.len() as f64
        };
        // Each unit has 16 inputs of 16 elements, or one.
        for device in devices() {
            for (groups, fan) in [(4, 256.0), (64, 16.0)] {
                let conv = Conv2dConfig::new([64, 64], [4, 4]).with_groups(groups).init(&device);
                let back = ConvTranspose2dConfig::new([64, 64], [4, 4]).with_groups(groups);
                let model = (conv, back.init(&device), LinearConfig::new(64, 64).init(&device));
                for scheme in [
                    Scheme::KaimingNormal,
                    Scheme::XavierNormal,
                    scaled(1.0, Fan::Out, Distribution::Normal),
                ] {
                    let rules = Initialize::new(Seed(1)).weights(scheme);
                    let told = Select::Role(Role::Weight);
                    let told = rules.groups(told, groups).apply(model.clone()).expect("fits");
                    let expected = scheme.variance(fan as usize, fan as usize);
                    // Normal: the mean square strays by sqrt(2 / n).
                    let bound = 5.0 * (2.0f64 / (64.0 * fan)).sqrt();
                    for weight in [told.0.weight.val(), told.1.weight.val()] {
                        let found = mean_square(weight) / expected;
                        assert!((found - 1.0).abs() < bound, "{scheme:?} {groups}: {found}");
                    }
                    // What has no kernel has no groups.
                    let alone = initialize(model.clone(), scheme, Seed(1)).2.weight.val();
                    told.2.weight.val().into_data().assert_eq(&alone.into_data(), true);
                }
            }
        }
    }

    #[test]
    fn placed_kernels_follow_the_groups_they_are_told() {
        let device = burn::tensor::Device::flex();
        let values: Vec<f64> = (0..72).map(|i| f64::from(i % 7) - 2.5).collect();
        let x =
            Tensor::<4>::from_data(burn::tensor::TensorData::new(values, [1, 8, 3, 3]), &device);
        for groups in [1, 4, 8] {
            let conv = Conv2dConfig::new([8, 8], [3, 3])
                .with_groups(groups)
                .with_padding(burn::nn::PaddingConfig2d::Same);
            let told = |scheme, groups| {
                let rules = Initialize::new(Seed(1)).weights(scheme);
                rules.groups(Select::path("weight"), groups).apply(conv.init(&device))
            };
            let same = told(Scheme::Identity { gain: 1.0 }, groups).expect("fits");
            same.forward(x.clone()).into_data().assert_eq(&x.clone().into_data(), true);
            // The norm stays, for each group turns its channels.
            let turned = told(Scheme::DeltaOrthogonal { gain: 1.0 }, groups).expect("fits");
            let (before, after) =
                (x.clone().square().sum(), turned.forward(x.clone()).square().sum());
            let change = (after / before).into_scalar::<f32>();
            assert!((change - 1.0).abs() < 1e-5, "{groups}: {change}");
            let error = told(Scheme::KaimingNormal, 3).expect_err("refused").to_string();
            assert!(error.ends_with("8 channels cannot be 3 groups"), "{error}");
            let error = told(Scheme::KaimingNormal, 0).expect_err("refused").to_string();
            assert_eq!(error, "`groups` must be at least 1, got 0");
        }
    }

    #[test]
    fn fans_follow_burns_layouts() {
        assert_eq!(fans("Linear", &[3, 5]), (3, 5));
        assert_eq!(fans("Conv2d", &[8, 3, 5, 5]), (75, 200));
        assert_eq!(fans("ConvTranspose2d", &[3, 8, 5, 5]), (75, 200));
        assert_eq!(fans("Odd", &[4]), (1, 1));
        // A kernel of a user's own layer: its units are where `unit_axis` says.
        assert_eq!(fans("Odd", &[8, 3, 5, 5]), (75, 200));
        assert_eq!(fans("Odd", &[3, 5]), (3, 5));
    }

    #[test]
    fn parameters_stay_trainable_and_norms_stay_as_they_are() {
        let device = burn::tensor::Device::flex().autodiff();
        let model = (
            Conv2dConfig::new([3, 4], [3, 3]).init(&device),
            BatchNormConfig::new(4).init(&device),
            LinearConfig::new(4, 2).init(&device).no_grad(),
        );
        let model = initialize(model, Scheme::KaimingNormal, Seed(2));
        assert!(model.0.weight.is_require_grad() && !model.2.weight.is_require_grad());
        let gamma: Vec<f32> = model.1.gamma.val().try_to_vec_as().expect("reads");
        assert_eq!(gamma, [1.0; 4]);
        let loss = model.0.forward(Tensor::<4>::ones([1, 3, 5, 5], &device)).sum();
        assert!(model.0.weight.val().grad(&loss.backward()).is_some());
    }

    #[test]
    fn another_layer_leaves_the_first_as_it_was() {
        let device = burn::tensor::Device::flex();
        let short = vec![LinearConfig::new(3, 3).init(&device)];
        let long =
            vec![LinearConfig::new(3, 3).init(&device), LinearConfig::new(3, 3).init(&device)];
        let short = initialize(short, Scheme::XavierUniform, Seed(5));
        let long = initialize(long, Scheme::XavierUniform, Seed(5));
        short[0].weight.val().into_data().assert_eq(&long[0].weight.val().into_data(), true);
        let (first, second) = (long[0].weight.val(), long[1].weight.val());
        assert_ne!(
            first.try_to_vec_as::<f32>().expect("reads"),
            second.try_to_vec_as::<f32>().expect("reads")
        );
    }
}
