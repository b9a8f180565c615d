//! Muon: momentum whose matrix is orthogonalized, so that all directions of a hidden weight learn alike. For networks in
//! which matrices dominate; vectors take AdamW's steps.
//!
//! # Update
//! For a weight with `out` units of `in` inputs each, as a matrix G of [out, in]:
//! ```text
//! B_t = mu B_{t-1} + (1 - mu) g_t                                    (1)
//! G   = (1 - mu) g_t + mu B_t  (Nesterov),  else B_t                 (2)
//! X   = G / max(|G|, eps);  5 times: A = X X^T, X = a X + (b A + c A^2) X    (3)
//! p_t = (1 - lr wd) p_{t-1} - lr s X                                 (4)
//! s   = sqrt(max(1, out / in)), 0.2 sqrt(max(out, in)) or sqrt(out / in)
//! ```
//! (a, b, c) = (3.4445, -4.775, 2.0315) unless `coefficients` says otherwise; X is transposed for (3) where it is higher than wide.
//!
//! # Reference
//! K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; the scale
//! 0.2 sqrt(max(out, in)), with which AdamW's rates carry over: J. Liu et al., "Muon is scalable for LLM training", 2025,
//! arXiv 2502.16982.
//!
//! # Differences
//! burn stores a linear weight as [in, out], PyTorch as [out, in]: [`FanOut`] says where the outputs lie, so that the
//! scale is right for both. The iteration runs in f32, PyTorch's in bf16. Embeddings and the output layer belong to
//! AdamW: [`MuonConfig::fused_for`] puts them there.

use super::moments::Moments;
use super::reduce::{adam, take};
use crate::FusedOptimizer;
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::Clock;
use crate::tensor_rule::TensorRule;
use crate::value::Value;
use burn::config::Config;
use burn::module::{Module, ParamGroup};
use burn::tensor::Tensor;
use firebrick_backend::{Role, parameters};
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};

/// The axis of a weight along which its outputs lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FanOut {
    /// The last axis of a matrix (burn's `Linear`), the first of anything with more axes (convolutions).
    #[default]
    Burn,
    /// The first axis always, as in PyTorch.
    First,
    /// The last axis always.
    Last,
}

/// The factor s of the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MuonScale {
    /// `sqrt(max(1, out / in))` (Jordan, PyTorch's default).
    #[default]
    Original,
    /// `0.2 sqrt(max(out, in))`: as large as AdamW's steps, so its rate carries over (Moonlight).
    MatchRmsAdamW,
    /// `sqrt(out / in)` (Bernstein).
    Spectral,
}

/// Configuration of [Muon](self).
#[derive(Config, Debug)]
pub struct MuonConfig {
    /// Share of the momentum that is kept, mu, in `[0, 1)`.
    #[config(default = 0.95)]
    pub momentum: f64,
    /// Whether to look ahead by one momentum step.
    #[config(default = true)]
    pub nesterov: bool,
    /// Iterations of (3), at least 1.
    #[config(default = 5)]
    pub steps: usize,
    /// (a, b, c) of (3), finite.
    #[config(default = "[3.4445, -4.775, 2.0315]")]
    pub coefficients: [f64; 3],
    /// Least norm of G, above 0.
    #[config(default = 1e-7)]
    pub epsilon: f64,
    /// The factor of the step.
    #[config(default = "MuonScale::Original")]
    pub scale: MuonScale,
    /// Where the outputs lie.
    #[config(default = "FanOut::Burn")]
    pub fan_out: FanOut,
    /// Strength of decoupled weight decay, in `[0, inf)`.
    #[config(default = 0.1)]
    pub weight_decay: f64,
    /// First decay rate of vectors, in `[0, 1)`.
    #[config(default = 0.9)]
    pub adam_beta_1: f64,
    /// Second decay rate of vectors, in `[0, 1)`.
    #[config(default = 0.999)]
    pub adam_beta_2: f64,
    /// Factor of the rate for vectors, in `[0, inf)`; the rates of the two differ unless the scale matches AdamW's.
    #[config(default = 1.0)]
    pub adam_lr_factor: f64,
}

impl MuonConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        for value in self.coefficients {
            check::finite("coefficients", value)?;
        }
        let rule = Muon {
            coefficients: self.coefficients,
            momentum: check::range("momentum", self.momentum, 0.0..1.0)?,
            nesterov: self.nesterov,
            steps: check::at_least("steps", self.steps, 1)?,
            epsilon: check::positive("epsilon", self.epsilon)?,
            scale: self.scale,
            fan_out: self.fan_out,
            adam: Moments::new(self.adam_beta_1, self.adam_beta_2, 1e-8)?,
            factor: check::non_negative("adam_lr_factor", self.adam_lr_factor)?,
        };
        Elementwise::of_tensor(rule).with_decay(Decay::Decoupled(self.weight_decay))
    }
}
super::doors!(MuonConfig);

impl MuonConfig {
    /// The optimizer for `model`: Muon for hidden matrices, AdamW (with `adam_lr_factor`) for embeddings, vectors, and
    /// the output layers whose paths start with one of `heads`.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn fused_for<M: Module>(
        &self,
        model: &M,
        heads: &[&str],
    ) -> Result<FusedOptimizer, ConfigError> {
        let head = |path: &str| {
            let under = |head: &&str| {
                path.strip_prefix(*head)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            heads.iter().any(under)
        };
        let others: Vec<_> = parameters(model)
            .into_iter()
            .filter(|parameter| parameter.role != Role::Weight || head(&parameter.path))
            .map(|parameter| parameter.id)
            .collect();
        let muon = self.fused()?;
        if others.is_empty() {
            return Ok(muon);
        }
        let adamw = super::AdamWConfig::new()
            .with_beta_1(self.adam_beta_1)
            .with_beta_2(self.adam_beta_2)
            .with_weight_decay(self.weight_decay)
            .build()?;
        let members = ParamGroup::from_ids(others);
        let factor = check::non_negative("adam_lr_factor", self.adam_lr_factor)?;
        Ok(match muon.with_scaled_group("adamw", members, adamw, factor) {
            Ok(whole) | Err((whole, _)) => whole,
        })
    }
}

#[derive(Debug)]
struct Muon {
    coefficients: [f64; 3],
    momentum: f64,
    nesterov: bool,
    steps: usize,
    epsilon: f64,
    scale: MuonScale,
    fan_out: FanOut,
    adam: Moments,
    factor: f64,
}

impl Muon {
    /// Rows and columns of the weight, and whether the outputs lie along its columns.
    fn layout(&self, shape: &[usize]) -> ([usize; 2], bool) {
        let n: usize = shape.iter().product();
        let last = match self.fan_out {
            FanOut::Burn => shape.len() == 2,
            FanOut::First => false,
            FanOut::Last => true,
        };
        let out = if last { shape.last() } else { shape.first() }.copied().unwrap_or(1);
        let rest = n / out.max(1);
        (if last { [rest, out] } else { [out, rest] }, last)
    }

    fn orthogonal(&self, g: Tensor<2>) -> Tensor<2> {
        let [rows, columns] = g.dims();
        let norm = g.clone().square().sum().sqrt().clamp_min(self.epsilon);
        let mut x = g / norm.reshape([1, 1]);
        if rows > columns {
            x = x.transpose();
        }
        let [a, b, c] = self.coefficients;
        for _ in 0..self.steps {
            let gram = x.clone().matmul(x.clone().transpose());
            let poly = gram.clone().mul_scalar(b) + gram.clone().matmul(gram).mul_scalar(c);
            x = x.clone().mul_scalar(a) + poly.matmul(x);
        }
        if rows > columns { x.transpose() } else { x }
    }
}

impl TensorRule for Muon {
    fn name(&self) -> &'static str {
        "muon"
    }

    fn slots(&self) -> &'static [&'static str] {
        &["momentum_buffer", "exp_avg_sq"]
    }

    fn lengths(&self, shape: &[usize]) -> Vec<usize> {
        let n = shape.iter().product();
        vec![n, if shape.len() < 2 { n } else { 0 }]
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
        let [b, v] = take(state, &p);
        if shape.len() < 2 {
            let s = self.adam.step(clock);
            let (m, v) = adam(&s, g, b, v);
            let step = m.clone().mul_scalar(s.lr * self.factor) / s.denominator(v.clone());
            return (p - step, vec![m, v]);
        }
        let b = b.lerp(g.clone(), 1.0 - self.momentum); // (1)
        let d = if self.nesterov { g.lerp(b.clone(), self.momentum) } else { b.clone() }; // (2)
        let (sizes, last) = self.layout(shape);
        let x = self.orthogonal(d.reshape(sizes)); // (3)
        let (out, fan_in) = if last { (sizes[1], sizes[0]) } else { (sizes[0], sizes[1]) };
        let (out, fan_in) = (out as f64, fan_in as f64);
        let scale = match self.scale {
            MuonScale::Original => (out / fan_in).max(1.0).sqrt(),
            MuonScale::MatchRmsAdamW => 0.2 * out.max(fan_in).sqrt(),
            MuonScale::Spectral => (out / fan_in).sqrt(),
        };
        let length = p.dims();
        (p - x.reshape(length).mul_scalar(clock.lr * scale), vec![b, v]) // (4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    fn rule(config: MuonConfig) -> Muon {
        Muon {
            coefficients: config.coefficients,
            momentum: config.momentum,
            nesterov: config.nesterov,
            steps: config.steps,
            epsilon: config.epsilon,
            scale: config.scale,
            fan_out: config.fan_out,
            adam: Moments::new(0.9, 0.999, 1e-8).expect("valid"),
            factor: 1.0,
        }
    }

    #[test]
    fn vectors_take_adamws_steps() {
        let muon = MuonConfig::new().with_weight_decay(0.0).build().expect("valid");
        golden(&muon, 0.1, [0.900000002, 0.873366299, 0.595822295, -0.911238019]);
    }

    #[test]
    fn five_iterations_map_singular_values_as_published() {
        // The polynomial acts on each singular value alone; f64 values of the composed map.
        let device = burn::tensor::Device::default();
        let table: [(f64, f64); 4] =
            [(1.0, 0.696436), (0.7, 1.120323), (0.3, 1.079592), (0.1, 0.712120)];
        for (value, expected) in table {
            // diag(value, rest) with norm 1, so that the division changes nothing.
            let rest = (1.0 - value * value).max(0.0).sqrt();
            let g = Tensor::<2>::from_data(
                [[value, 0.0], [0.0, rest]],
                (&device, burn::tensor::DType::F64),
            );
            let x: Vec<f64> =
                rule(MuonConfig::new()).orthogonal(g).into_data().try_into_vec().expect("f64");
            assert!((x[0] - expected).abs() < 1e-6, "{value}: {}", x[0]);
        }
    }

    /// Both layouts, the three scales, matrices higher and wider than square: `tests/references/optim_muon.py`.
    #[test]
    fn trajectories_of_an_f64_model() {
        #[derive(Deserialize)]
        struct File {
            optimizers: Vec<crate::OptimizerCase>,
        }
        let text = include_str!("../../../../tests/references/optim_muon.json");
        let file: File = serde_json::from_str(text).expect("the file of cases");
        assert_eq!(file.optimizers.len(), 12);
        for case in &file.optimizers {
            assert_eq!(case.params.len(), 8);
            for device in firebrick_backend::testing::devices() {
                let off = crate::replay(case, &device).expect("runs");
                assert!(off < 1e-5, "{} {:?} on {device:?}: {off:e}", case.hyper, case.shape);
            }
        }
    }

    #[test]
    fn a_layer_and_its_transposed_twin_take_the_same_step() {
        use burn::optim::Optimizer;
        let device = burn::tensor::Device::default();
        let g = Tensor::<2>::from_data([[1.0f32, -2.0, 0.5, 3.0], [0.3, 0.7, -1.0, 0.2]], &device);
        for scale in [MuonScale::Original, MuonScale::MatchRmsAdamW, MuonScale::Spectral] {
            let config = MuonConfig::new().with_scale(scale);
            let (burn, _) =
                config.build().expect("valid").step(1.0, g.zeros_like(), g.clone(), None);
            let torch = config.with_fan_out(FanOut::First).build().expect("valid");
            let turned = g.clone().transpose();
            let (torch, _) = torch.step(1.0, turned.zeros_like(), turned, None);
            let off = (burn - torch.transpose()).abs().max().into_scalar::<f32>();
            assert!(off < 1e-5, "{scale:?}: {off}");
        }
    }

    /// A convolution's kernel is a matrix of [out, all the rest] before its scale is taken.
    #[test]
    fn convolutions_step_as_matrices_of_their_units() {
        use burn::optim::Optimizer;
        use burn::tensor::TensorData;
        let device = burn::tensor::Device::default();
        let draw = |k: usize| {
            let value = |i: usize| ((i * 7 + k * 31) as f32 * 0.37).sin();
            let values: Vec<f32> = (0..24).map(value).collect();
            Tensor::<4>::from_data(TensorData::new(values, [2, 3, 2, 2]), &device)
        };
        for scale in [MuonScale::Original, MuonScale::MatchRmsAdamW, MuonScale::Spectral] {
            let config = MuonConfig::new().with_scale(scale);
            let conv = config.build().expect("valid");
            let flat = config.with_fan_out(FanOut::First).build().expect("valid");
            let (mut a, mut b) = (draw(0), draw(0).reshape([2, 12]));
            let (mut left, mut right) = (None, None);
            for k in 1..4 {
                (a, left) = conv.step(0.1, a, draw(k), left);
                (b, right) = flat.step(0.1, b, draw(k).reshape([2, 12]), right);
            }
            let off = (a.reshape([2, 12]) - b).abs().max().into_scalar::<f32>();
            assert!(off < 1e-6, "{scale:?}: {off}");
        }
    }

    #[test]
    fn everything_but_hidden_matrices_goes_to_adamw() {
        let model = crate::testing::net(&burn::tensor::Device::default().autodiff());
        let rules = |heads: &[&str]| {
            let table = MuonConfig::new().fused_for(&model, heads).expect("valid").table(&model);
            table
                .rows
                .into_iter()
                .filter(|row| row.rule == "muon")
                .map(|row| row.path)
                .collect::<Vec<_>>()
        };
        assert_eq!(rules(&[]), ["linear.weight"]);
        assert_eq!(rules(&["linear"]), [] as [&str; 0]);
        assert_eq!(rules(&["lin"]), ["linear.weight"]);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(MuonConfig::new().with_steps(0).build(), "`steps` must be at least 1, got 0");
        refused(
            MuonConfig::new().with_momentum(1.0).build(),
            "`momentum` must be in [0, 1), got 1",
        );
    }
}
