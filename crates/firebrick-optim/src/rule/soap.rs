//! SOAP: Adam in the eigenbasis of Shampoo's matrices. The best quality a step where matrices dominate and time for it is
//! there.
//!
//! # Update
//! For a weight G of m by n; the first step only sets L, R and their eigenvectors. Then, with t counted from there:
//! ```text
//! G' = Q_L^T G Q_R                                                       (1)
//! M  = b1 M + (1 - b1) G,   M' = Q_L^T M Q_R                             (2)
//! V  = b2 V + (1 - b2) G'^2                                              (3)
//! N  = sqrt(1 - b2^t) / (1 - b1^t) Q_L (M' / (sqrt(V) + eps)) Q_R^T      (4)
//! p  = (1 - lr wd) (p - lr N)                                            (5)
//! L  = b L + (1 - b) G G^T,  R = b R + (1 - b) G^T G                     (6)
//! Q_L = qr(L Q_L), Q_R = qr(R Q_R)   every `frequency` steps, columns by falling eigenvalue, V's axes with them    (7)
//! ```
//! Convolutions have a matrix for each axis. Axes longer than `max_size` and vectors have none: a vector takes Adam's steps.
//!
//! # Reference
//! N. Vyas et al., "SOAP: improving and stabilizing Shampoo using Adam", 2024, arXiv 2409.11321, and the authors' code.
//!
//! # Differences
//! Where gradients have not yet filled the space (a matrix of rank
//! below its size) the eigenvectors of the rest are arbitrary, and two correct implementations may differ there.

use super::axes::{
    along, area, axes, device_matrix, eigen, gram, host, join, ordered, orthogonal, split,
};
use super::moments::Moments;
use super::reduce::{rms, take};
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::Clock;
use crate::tensor_rule::TensorRule;
use crate::value::Value;
use burn::config::Config;
use burn::tensor::Tensor;
use firebrick_core::{ConfigError, check};

/// Configuration of [SOAP](self).
#[derive(Config, Debug)]
pub struct SoapConfig {
    /// Decay rate of the first moment, in `[0, 1)`.
    #[config(default = 0.95)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.95)]
    pub beta_2: f64,
    /// Decay rate of L and R, b, in `[0, 1)`; none for that of the second moment.
    pub shampoo_beta: Option<f64>,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// Whether the moments are corrected for their start at zero.
    #[config(default = true)]
    pub correct_bias: bool,
    /// Steps between two updates of the eigenvectors, at least 1.
    #[config(default = 10)]
    pub frequency: usize,
    /// Longest axis that has a matrix.
    #[config(default = 10_000)]
    pub max_size: usize,
    /// Whether vectors have a matrix too.
    #[config(default = false)]
    pub precondition_vectors: bool,
    /// Whether every step of a tensor is scaled to root mean square 1.
    #[config(default = false)]
    pub normalize: bool,
    /// Strength of decoupled weight decay after the step, in `[0, inf)`.
    #[config(default = 0.01)]
    pub weight_decay: f64,
}

impl SoapConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let shampoo = self.shampoo_beta.unwrap_or(self.beta_2);
        let rule = Soap {
            moments: Moments::new(self.beta_1, self.beta_2, self.epsilon)?,
            shampoo: check::range("shampoo_beta", shampoo, 0.0..1.0)?,
            correct: self.correct_bias,
            frequency: check::at_least("frequency", self.frequency, 1)? as u64,
            largest: check::at_least("max_size", self.max_size, 1)?,
            vectors: self.precondition_vectors,
            normalize: self.normalize,
        };
        Elementwise::of_tensor(rule).with_decay(Decay::Late(self.weight_decay))
    }
}
super::doors!(SoapConfig);

#[derive(Debug)]
struct Soap {
    moments: Moments,
    shampoo: f64,
    correct: bool,
    frequency: u64,
    largest: usize,
    vectors: bool,
    normalize: bool,
}

impl Soap {
    fn axes(&self, shape: &[usize]) -> Vec<[usize; 3]> {
        axes(shape, self.largest, self.vectors)
    }

    /// (4) without the way back, from the rotated first moment.
    fn direction(&self, t: u64, m: Tensor<1>, v: Tensor<1>) -> Tensor<1> {
        let Moments { beta_1, beta_2, epsilon } = self.moments;
        let correct = if self.correct {
            (1.0 - beta_2.powf(t as f64)).sqrt() / (1.0 - beta_1.powf(t as f64))
        } else {
            1.0
        };
        m.mul_scalar(correct) / v.sqrt().add_scalar(epsilon)
    }
}

/// The eigenvectors of `gram` by falling eigenvalue, as columns; the unit matrix where there are none.
fn eigenbasis(gram: &Tensor<2>) -> Tensor<2> {
    let [size, _] = gram.dims();
    let values = match eigen(&host(gram.clone()), size) {
        Some((_, u)) => (0..size * size).map(|at| u[(at / size, size - 1 - at % size)]).collect(),
        None => (0..size * size).map(|at| f64::from(u8::from(at / size == at % size))).collect(),
    };
    device_matrix(values, size, (&gram.device(), gram.dtype()))
}

/// (7): one step of the power iteration, and in which order it takes the old columns.
fn refreshed(gram: &Tensor<2>, basis: &Tensor<2>) -> Option<(Tensor<2>, Vec<usize>)> {
    let [size, _] = gram.dims();
    let power = gram.clone().matmul(basis.clone());
    let values = host((power.clone() * basis.clone()).sum_dim(0));
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let q = orthogonal(&host(power), size, &order)?;
    Some((device_matrix(q, size, (&gram.device(), gram.dtype())), order))
}

impl TensorRule for Soap {
    fn name(&self) -> &'static str {
        "soap"
    }

    fn slots(&self) -> &'static [&'static str] {
        &["exp_avg", "exp_avg_sq", "gram", "basis"]
    }

    fn lengths(&self, shape: &[usize]) -> Vec<usize> {
        let n = shape.iter().product();
        let area = area(&self.axes(shape));
        vec![n, n, area, area]
    }

    fn moves(&self, t: u64) -> bool {
        t > 1
    }

    fn step(
        &self,
        clock: &Clock,
        shape: &[usize],
        _: &mut [f64],
        p: Tensor<1>,
        g: Tensor<1>,
        state: Vec<Tensor<1>>,
    ) -> (Tensor<1>, Vec<Tensor<1>>) {
        let [m, mut v, grams, bases] = take(state, &p);
        let axes = self.axes(shape);
        let fresh = 1.0 - self.shampoo;
        let mixed: Vec<Tensor<2>> = axes
            .iter()
            .zip(split(&grams, &axes))
            .map(|(&axis, old)| old.lerp(gram(&g, axis), fresh))
            .collect();
        if clock.t == 1 {
            let first = mixed.iter().map(eigenbasis).collect();
            return (p, vec![m, v, join(mixed, grams), join(first, bases)]);
        }
        let t = clock.t - 1;
        let mut turns = split(&bases, &axes);
        let rotated = |x: Tensor<1>| {
            let turn = |x, (&axis, q): (&[usize; 3], &Tensor<2>)| along(x, axis, q.clone());
            axes.iter().zip(&turns).fold(x, turn)
        };
        let turned = rotated(g.clone()); // (1)
        let m = m.lerp(g, 1.0 - self.moments.beta_1); // (2)
        v = v.mul_scalar(self.moments.beta_2)
            + turned.square().mul_scalar(1.0 - self.moments.beta_2); // (3)
        let direction = self.direction(t, rotated(m.clone()), v.clone());
        let back = |x, (&axis, q): (&[usize; 3], &Tensor<2>)| along(x, axis, q.clone().transpose());
        let direction = axes.iter().zip(&turns).fold(direction, back); // (4)
        let direction = if self.normalize {
            direction.clone() / rms(direction).add_scalar(self.moments.epsilon)
        } else {
            direction
        };
        let new = p - direction.mul_scalar(clock.lr); // (5); the decay follows
        if t.is_multiple_of(self.frequency) {
            for ((&axis, gram), turn) in axes.iter().zip(&mixed).zip(&mut turns) {
                if let Some((basis, order)) = refreshed(gram, turn) {
                    *turn = basis;
                    v = ordered(v, axis, &order); // (7)
                }
            }
        }
        (new, vec![m, v, join(mixed, grams), join(turns, bases)])
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::refused;
    use burn::optim::Optimizer;
    use burn::tensor::{DType, Device, TensorData};

    fn tensor<const D: usize>(values: &[f64], shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), (&Device::flex(), DType::F64))
    }

    fn draws(n: usize, seed: u64) -> Vec<f64> {
        let mut stream = firebrick_core::Seed(seed).stream("soap");
        (0..n).map(|_| stream.normal()).collect()
    }

    /// Gradients whose L and R are diagonal from the first on: the basis is that of the axes and SOAP is Adam, one step late.
    #[test]
    fn on_diagonal_matrices_it_is_adam() {
        let soap = SoapConfig::new().with_weight_decay(0.0).with_frequency(2).build();
        let soap = soap.expect("valid");
        let adam = crate::AdamConfig::new().with_beta_1(0.95).with_beta_2(0.95).build();
        let adam = adam.expect("valid");
        let (mut a, mut b) =
            (tensor(&[1.0, 2.0, 3.0, 4.0], [2, 2]), tensor(&[1.0, 2.0, 3.0, 4.0], [2, 2]));
        let (mut left, mut right) = (None, None);
        for k in 0..7 {
            let g = tensor(&[3.0 + 0.5 * f64::from(k), 0.0, 0.0, 1.0 - 0.3 * f64::from(k)], [2, 2]);
            (a, left) = soap.step(0.1, a, g.clone(), left);
            if k > 0 {
                (b, right) = adam.step(0.1, b, g, right);
            }
        }
        // Adam's epsilon stands beside the corrected root.
        assert!((a - b).abs().max().into_scalar::<f64>() < 1e-7);
    }

    /// Turning a problem turns SOAP's path with it, which is not so for Adam.
    #[test]
    fn the_path_turns_with_the_problem() {
        let soap = SoapConfig::new().with_weight_decay(0.0).with_frequency(1).build();
        let soap = soap.expect("valid");
        let (c, s) = (0.6, 0.8);
        let turn = tensor(&[c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0], [3, 3]);
        let start = tensor(&draws(9, 1), [3, 3]);
        let (mut a, mut b) = (start.clone(), turn.clone().matmul(start));
        let (mut left, mut right) = (None, None);
        for k in 0..6 {
            let g = tensor(&draws(9, 10 + k), [3, 3]);
            (a, left) = soap.step(0.1, a, g.clone(), left);
            (b, right) = soap.step(0.1, b, turn.clone().matmul(g), right);
        }
        let off = (turn.matmul(a) - b).abs().max().into_scalar::<f64>();
        assert!(off < 1e-9, "{off}");
    }

    #[test]
    fn the_first_step_and_long_axes_and_vectors() {
        let device = Device::flex();
        let soap = SoapConfig::new().with_max_size(3).build().expect("valid");
        let p = Tensor::<2>::ones([4, 3], &device);
        let (q, state) = soap.step(0.1, p.clone(), p.clone() * 0.5, None);
        q.into_data().assert_eq(&p.into_data(), true);
        let sizes: Vec<usize> =
            state.expect("state").slots().iter().map(|slot| slot.dims()[0]).collect();
        assert_eq!(sizes, [12, 12, 9, 9]);
        let line = Tensor::<1>::ones([4], &device);
        let (_, state) = soap.step(0.1, line.clone(), line, None);
        assert_eq!(state.expect("state").slots()[2].dims(), [0]);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(
            SoapConfig::new().with_frequency(0).build(),
            "`frequency` must be at least 1, got 0",
        );
        refused(
            SoapConfig::new().with_shampoo_beta(Some(1.0)).build(),
            "`shampoo_beta` must be in [0, 1), got 1",
        );
        refused(
            SoapConfig::new().with_beta_1(-0.1).build(),
            "`beta_1` must be in [0, 1), got -0.1",
        );
    }
}
