//! Nonlinearities as the audit and the initializers know them: gain, and how they carry size and slope.

use serde::{Deserialize, Serialize};

/// A nonlinearity between two layers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Nonlinearity {
    /// None.
    Linear,
    /// `max(x, 0)`.
    Relu,
    /// `x` above 0, `slope x` below: 0.01 or 0.02 as a rule; the start of a learned slope (PReLU) is 0.25.
    LeakyRelu {
        /// The slope below 0.
        slope: f64,
    },
    /// The hyperbolic tangent.
    Tanh,
    /// The logistic function.
    Sigmoid,
    /// The self-normalizing exponential unit.
    Selu,
    /// `x` times the normal cumulative function.
    Gelu,
    /// `x` times the logistic function.
    Silu,
}

impl Nonlinearity {
    /// What the deviation of weights is multiplied by before this nonlinearity, PyTorch's `calculate_gain` where
    /// it has one, else the inverse root of the second moment that a unit normal has after it.
    ///
    /// SELU has 3/4 there; with LeCun weights (gain 1) it is self-normalizing.
    #[must_use]
    pub fn gain(self) -> f64 {
        match self {
            Self::Linear | Self::Sigmoid => 1.0,
            Self::Relu => 2f64.sqrt(),
            Self::LeakyRelu { slope } => (2.0 / (1.0 + slope * slope)).sqrt(),
            Self::Tanh => 5.0 / 3.0,
            Self::Selu => 0.75,
            Self::Gelu | Self::Silu => self.second_moment(1.0).sqrt().recip(),
        }
    }

    /// The value at `x`.
    #[must_use]
    pub fn value(self, x: f64) -> f64 {
        const ALPHA: f64 = 1.673_263_242_354_377_2;
        const LAMBDA: f64 = 1.050_700_987_355_480_5;
        match self {
            Self::Linear => x,
            Self::Relu => x.max(0.0),
            Self::LeakyRelu { slope } => {
                if x > 0.0 {
                    x
                } else {
                    slope * x
                }
            }
            Self::Tanh => x.tanh(),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Selu => LAMBDA * if x > 0.0 { x } else { ALPHA * x.exp_m1() },
            Self::Gelu => x * normal_cumulative(x),
            Self::Silu => x / (1.0 + (-x).exp()),
        }
    }

    /// The slope at `x`.
    #[must_use]
    pub fn slope(self, x: f64) -> f64 {
        match self {
            Self::Linear => 1.0,
            Self::Relu => f64::from(x > 0.0),
            Self::LeakyRelu { slope } => {
                if x > 0.0 {
                    1.0
                } else {
                    slope
                }
            }
            _ => (self.value(x + 1e-5) - self.value(x - 1e-5)) / 2e-5,
        }
    }

    /// `E[f(z)^2]` for z normal with the given variance.
    #[must_use]
    pub fn second_moment(self, variance: f64) -> f64 {
        match self {
            // Exact at any scale, where quadrature would lose the smallest signals.
            Self::Linear => variance,
            Self::Relu => variance / 2.0,
            Self::LeakyRelu { slope } => variance * (1.0 + slope * slope) / 2.0,
            _ => expectation(variance, |z| self.value(z).powi(2)),
        }
    }

    /// `E[f'(z)^2]` for z normal with the given variance.
    #[must_use]
    pub fn squared_slope(self, variance: f64) -> f64 {
        match self {
            Self::Linear => 1.0,
            Self::Relu => 0.5,
            Self::LeakyRelu { slope } => (1.0 + slope * slope) / 2.0,
            _ => expectation(variance, |z| self.slope(z).powi(2)),
        }
    }
}

/// The mean of `f` over a normal with the given variance: the trapezoidal rule over +-10 deviations, whose error
/// for smooth functions is far below 1e-10.
fn expectation(variance: f64, f: impl Fn(f64) -> f64) -> f64 {
    let deviation = variance.max(0.0).sqrt();
    let step = 0.02;
    let density = |z: f64| (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
    (-500..=500).map(|i| f64::from(i) * step).map(|z| density(z) * f(deviation * z) * step).sum()
}

/// Abramowitz and Stegun 26.2.17, absolute error below 7.5e-8.
pub(crate) fn normal_cumulative(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let series = t
        * (0.319_381_530
            + t * (-0.356_563_782
                + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt() * series;
    if x >= 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gains_are_pytorchs() {
        assert_eq!(Nonlinearity::Tanh.gain(), 5.0 / 3.0);
        assert_eq!(Nonlinearity::Relu.gain(), 2f64.sqrt());
        assert!((Nonlinearity::LeakyRelu { slope: 0.01 }.gain() - 1.414_142_8).abs() < 1e-6);
        assert_eq!(Nonlinearity::Selu.gain(), 0.75);
    }

    #[test]
    fn moments_match_closed_forms() {
        // SELU keeps mean 0 and variance 1 of a unit normal (Klambauer et al. 2017).
        assert!((Nonlinearity::Selu.second_moment(1.0) - 1.0).abs() < 1e-4);
        // At variance 0 the logistic is 1/2 with slope 1/4.
        assert!((Nonlinearity::Sigmoid.second_moment(0.0) - 0.25).abs() < 1e-12);
        assert!((Nonlinearity::Sigmoid.squared_slope(0.0) - 1.0 / 16.0).abs() < 1e-9);
        assert!((Nonlinearity::Tanh.squared_slope(0.0) - 1.0).abs() < 1e-9);
        // tanh(z) = z - z^3 / 3 + ...: E[tanh^2] = v - 2 v^2 + O(v^3).
        let v = 1e-3;
        assert!((Nonlinearity::Tanh.second_moment(v) - (v - 2.0 * v * v)).abs() < 1e-8);
        // By quadrature with the error function itself: 0.425221483.
        assert!((Nonlinearity::Gelu.second_moment(1.0) - 0.425_221_483).abs() < 1e-6);
    }
}

#[cfg(all(test, feature = "flex"))]
mod layer_tests {
    use super::*;
    use burn::nn::{LeakyReluConfig, PReluConfig};
    use burn::optim::{GradientsParams, SgdConfig};
    use burn::tensor::{Tensor, TensorData};
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    #[test]
    fn burns_leaky_layers_keep_the_size_by_the_gain() {
        let n = 200_000usize;
        let mut stream = Seed(1).stream("leaky");
        let draws: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
        for device in devices() {
            let x = Tensor::<2>::from_data(TensorData::new(draws.clone(), [n, 1]), &device);
            let wider = LeakyReluConfig::new().with_negative_slope(0.02).init();
            for (slope, output) in [
                (0.01, LeakyReluConfig::new().init().forward(x.clone())),
                (0.02, wider.forward(x.clone())),
                (0.25, PReluConfig::new().init(&device).forward(x.clone())),
            ] {
                let kind = Nonlinearity::LeakyRelu { slope };
                let output: Vec<f64> = output.try_to_vec_as().expect("reads");
                for (y, x) in output.iter().zip(&draws) {
                    assert!((y - kind.value(*x)).abs() < 1e-5, "{kind:?}: {y} of {x}");
                }
                let square = output.iter().map(|y| y * y).sum::<f64>() / n as f64;
                let size = kind.gain().powi(2) * square;
                // The square of an output has a relative variance below 5; five deviations.
                assert!((size - 1.0).abs() < 5.0 * (5.0 / n as f64).sqrt(), "{kind:?}: {size}");
            }
        }
    }

    #[test]
    fn a_learned_slope_moves_by_its_gradient_and_the_gain_with_it() {
        for device in devices() {
            let device = device.autodiff();
            let layer = PReluConfig::new().init(&device);
            let x = Tensor::<2>::from_floats([[-2.0, 3.0]], &device);
            let gradients = layer.forward(x.clone()).sum().backward();
            let gradients = GradientsParams::from_grads(gradients, &layer);
            // The slope's gradient is the sum of what lies below 0: from 0.25 it goes to 0.45.
            let layer = SgdConfig::new().init().step(0.1, layer, gradients);
            let output: Vec<f64> = layer.forward(x).try_to_vec_as().expect("reads");
            assert!((output[0] + 0.9).abs() < 1e-5 && output[1] == 3.0, "{output:?}");
            let gain = Nonlinearity::LeakyRelu { slope: output[0] / -2.0 }.gain();
            assert!((gain - (2.0f64 / 1.2025).sqrt()).abs() < 1e-5, "{gain}");
        }
    }
}
