//! Prodigy: Adam that estimates its own rate from how far the parameter has come; the given rate is 1, under a cosine.
//!
//! # Update
//! With `d_1 = d0`, `b3 = sqrt(b2)` and a = d lr; sums in (1) and (4) run over all parameters of a group:
//! ```text
//! n_t = b3 n_{t-1} + sum (d / d0) a <g_t, p_0 - p_{t-1}>                  (1)
//! s_t = b3 s_{t-1} + (d / d0) a g_t                                       (2)
//! m_t = b1 m_{t-1} + (1 - b1) d g_t,   v_t = b2 v_{t-1} + (1 - b2) d^2 g_t^2   (3)
//! d'  = max(d, coefficient n_t / sum |s_t|_1), at most growth d           (4)
//! p_t = (1 - a wd) p_{t-1} - a m_t / (sqrt(v_t) + d' eps)                 (5)
//! ```
//! With `bias_correction`, a = d lr sqrt(1 - b2^t) / (1 - b1^t). With `safeguard_warmup`, a in (2) is d, so that a small rate
//! during a warm-up does not let the estimate run away.
//!
//! # Reference
//! K. Mishchenko, A. Defazio, "Prodigy: an expeditiously adaptive parameter-free learner", 2023, arXiv 2306.06101, and the
//! authors' code.
//!
//! # Differences
//! d is one number for a group of [`FusedOptimizer`](crate::FusedOptimizer), as in the authors' code. burn's own optimizer
//! steps one tensor at a time: there every tensor has a d of its own, a different method for a model of many.

use super::reduce::take;
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::Clock;
use crate::shared::Shared;
use crate::tensor_rule::TensorRule;
use crate::value::Value;
use burn::config::Config;
use burn::tensor::Tensor;
use firebrick_core::{ConfigError, check};

/// Configuration of [Prodigy](self).
#[derive(Config, Debug)]
pub struct ProdigyConfig {
    /// Decay rate of the first moment, in `[0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// Strength of decoupled weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Whether weight decay is decoupled from the gradient.
    #[config(default = true)]
    pub decoupled: bool,
    /// First estimate of d, above 0.
    #[config(default = 1e-6)]
    pub d0: f64,
    /// Factor of the estimate, above 0.
    #[config(default = 1.0)]
    pub d_coefficient: f64,
    /// Largest growth of d in a step, at least 1.
    #[config(default = 1e30)]
    pub growth: f64,
    /// Decay rate of the sums, b3, in `[0, 1)`; none for the root of the second moment's.
    pub beta_3: Option<f64>,
    /// Whether the moments are corrected for their start at zero.
    #[config(default = false)]
    pub bias_correction: bool,
    /// Whether the estimate is kept from a warm-up's small rates.
    #[config(default = false)]
    pub safeguard_warmup: bool,
}

impl ProdigyConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let beta_2 = check::range("beta_2", self.beta_2, 0.0..1.0)?;
        let beta_3 = self.beta_3.unwrap_or_else(|| beta_2.sqrt());
        let rule = Prodigy {
            beta_1: check::range("beta_1", self.beta_1, 0.0..1.0)?,
            beta_2,
            beta_3: check::range("beta_3", beta_3, 0.0..1.0)?,
            epsilon: check::non_negative("epsilon", self.epsilon)?,
            d0: check::positive("d0", self.d0)?,
            coefficient: check::positive("d_coefficient", self.d_coefficient)?,
            growth: check::range("growth", self.growth, 1.0..)?,
            correct: self.bias_correction,
            safeguard: self.safeguard_warmup,
            weight_decay: if self.decoupled { self.weight_decay } else { 0.0 },
        };
        let optimizer = Elementwise::of_tensor(rule);
        optimizer.with_decay(if self.decoupled {
            Decay::Inner(self.weight_decay)
        } else {
            Decay::Coupled(self.weight_decay)
        })
    }
}
super::doors!(ProdigyConfig);

#[derive(Debug)]
struct Prodigy {
    beta_1: f64,
    beta_2: f64,
    beta_3: f64,
    epsilon: f64,
    d0: f64,
    coefficient: f64,
    growth: f64,
    correct: bool,
    safeguard: bool,
    weight_decay: f64,
}

// What the memory holds: d of this step, d of the next, the largest estimate, the numerator of (4), and whether the next
// d has been settled.
const D: usize = 0;
const NEXT: usize = 1;
const LARGEST: usize = 2;
const NUMERATOR: usize = 3;
const SETTLED: usize = 4;

impl Prodigy {
    /// a.
    fn rate(&self, clock: &Clock, d: f64) -> f64 {
        let t = clock.t as f64;
        let correct = if self.correct {
            (1.0 - self.beta_2.powf(t)).sqrt() / (1.0 - self.beta_1.powf(t))
        } else {
            1.0
        };
        d * clock.lr * correct
    }

    /// (2).
    fn sum(&self, clock: &Clock, d: f64, s: Option<Tensor<1>>, g: Tensor<1>) -> Tensor<1> {
        let rate = if self.safeguard { d } else { self.rate(clock, d) };
        let new = g.mul_scalar(d / self.d0 * rate);
        match s {
            Some(s) => s.mul_scalar(self.beta_3) + new,
            None => new,
        }
    }
}

impl Shared for Prodigy {
    fn common(&self, memories: &mut dyn Iterator<Item = &[f64]>) -> Vec<f64> {
        // d never falls, so the largest is the newest.
        let latest = memories.max_by(|a, b| a[D].total_cmp(&b[D]));
        latest.map_or_else(|| self.memory(), <[f64]>::to_vec)
    }

    fn sums(
        &self,
        clock: &Clock,
        memory: &[f64],
        p: &Tensor<1>,
        g: &Tensor<1>,
        state: Option<&[Tensor<1>]>,
    ) -> Tensor<1> {
        let d = memory[D];
        let (s, p0) = match state {
            Some([_, _, s, p0]) if clock.t > 1 => (Some(s.clone()), p0.clone()),
            _ => (None, p.clone()),
        };
        let weight = d / self.d0 * self.rate(clock, d);
        let along = (g.clone() * (p0 - p.clone())).sum().mul_scalar(weight);
        Tensor::cat(vec![along, self.sum(clock, d, s, g.clone()).abs().sum()], 0)
    }

    fn settle(&self, memory: &mut [f64], sums: &[f64]) {
        let d = memory[D];
        memory[NUMERATOR] = self.beta_3 * memory[NUMERATOR] + sums[0]; // (1)
        let guess = self.coefficient * memory[NUMERATOR] / sums[1];
        memory[SETTLED] = 1.0;
        memory[NEXT] = d;
        // Without any gradient so far there is nothing to estimate from.
        if guess.is_finite() {
            memory[LARGEST] = memory[LARGEST].max(guess);
            let d = if d == self.d0 { d.max(guess) } else { d };
            memory[NEXT] = memory[LARGEST].min(d * self.growth); // (4)
        }
    }

    fn pass(&self, memory: &mut [f64]) {
        memory[D] = memory[NEXT];
        memory[SETTLED] = 0.0;
    }
}

impl TensorRule for Prodigy {
    fn name(&self) -> &'static str {
        "prodigy"
    }

    fn slots(&self) -> &'static [&'static str] {
        &["exp_avg", "exp_avg_sq", "s", "p0"]
    }

    fn memory(&self) -> Vec<f64> {
        vec![self.d0, self.d0, self.d0, 0.0, 0.0]
    }

    fn shared(&self) -> Option<&dyn Shared> {
        Some(self)
    }

    fn step(
        &self,
        clock: &Clock,
        _: &[usize],
        memory: &mut [f64],
        p: Tensor<1>,
        g: Tensor<1>,
        state: Vec<Tensor<1>>,
    ) -> (Tensor<1>, Vec<Tensor<1>>) {
        let [m, v, s, p0] = take(state, &p);
        let p0 = if clock.t == 1 { p.clone() } else { p0 };
        if memory[SETTLED] == 0.0 {
            let state = [m.clone(), v.clone(), s.clone(), p0.clone()];
            let sums = self.sums(clock, memory, &p, &g, Some(&state)).into_data();
            self.settle(memory, &sums.convert::<f64>().try_into_vec().unwrap_or(vec![0.0; 2]));
        }
        let (d, rate) = (memory[D], self.rate(clock, memory[D]));
        let s = self.sum(clock, d, Some(s), g.clone()); // (2)
        let m = m.mul_scalar(self.beta_1) + g.clone().mul_scalar(d * (1.0 - self.beta_1)); // (3)
        let v = v.mul_scalar(self.beta_2) + g.mul_scalar(d).square().mul_scalar(1.0 - self.beta_2);
        let decays = clock.decays && self.weight_decay > 0.0;
        let p = if decays { p.mul_scalar(1.0 - rate * self.weight_decay) } else { p };
        let root = v.clone().sqrt().add_scalar(memory[NEXT] * self.epsilon);
        // Where the root is 0 the gradient has always been 0.
        let one = root.ones_like();
        let step = m.clone() / root.clone().where_positive(root, one);
        self.pass(memory);
        (p - step.mul_scalar(rate), vec![m, v, s, p0]) // (5)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = ProdigyConfig::new().build().expect("valid");
        golden(&rule, 1.0, [0.999996838, 0.999995706, 0.999997314, -0.500072167]);
    }

    #[test]
    fn the_estimate_grows_until_it_fits_a_parabola() {
        let rule = ProdigyConfig::new().build().expect("valid");
        let mut walk = crate::Walk::new(&rule, &[3.0, -2.0]);
        for _ in 0..300 {
            let grad: Vec<f64> = walk.point().to_vec();
            walk.step(1.0, &grad);
        }
        assert!(walk.point().iter().all(|x| x.abs() < 0.5), "{:?}", walk.point());
    }

    /// One estimate for all tensors of a module: it is as if they were one tensor.
    #[test]
    fn the_parameters_of_a_module_share_the_estimate() {
        use crate::testing;
        use burn::optim::Optimizer;
        use burn::tensor::{Device, TensorData};
        let device = Device::flex().autodiff();
        let config = ProdigyConfig::new().with_d0(1e-2).with_growth(1.5).with_weight_decay(0.1);
        let rule = config.with_bias_correction(true).build().expect("valid");
        let rule = rule.with_decay_on(crate::DecayOn::All);
        let mut model = testing::net(&device);
        let mut fused = rule.fused();
        let line = |values: Vec<f32>| {
            let n = values.len();
            Tensor::<1>::from_data(TensorData::new(values, [n]), &Device::flex())
        };
        let (mut whole, mut state) = (line(testing::values(&model)), None);
        for k in 0..12 {
            let g = testing::grad_values(&model, k).into_iter().flat_map(|(_, values)| values);
            let grads = testing::grads(&model, k);
            (whole, state) = rule.step(0.5, whole, line(g.collect()), state);
            model = fused.step(0.5, model, grads);
            let seen: Vec<f32> = whole.clone().into_data().try_into_vec().expect("f32");
            for (a, b) in testing::values(&model).iter().zip(seen) {
                assert!((a - b).abs() <= 2e-6 * b.abs().max(1.0), "step {k}: {a} {b}");
            }
            if k == 6 {
                let bytes = fused.into_bytes().expect("bytes");
                fused = rule.fused().from_bytes(bytes, &model).expect("loads");
            }
        }
    }

    #[test]
    fn a_parameter_without_a_gradient_learns_the_estimate_all_the_same() {
        use crate::testing;
        use burn::module::{ModuleVisitor, Param};
        use burn::optim::GradientsParams;
        struct Skip<'a>(&'a mut GradientsParams);
        impl ModuleVisitor for Skip<'_> {
            fn visit_float<const N: usize>(&mut self, param: &Param<Tensor<N>>) {
                if N == 1 {
                    self.0.remove::<N>(param.id);
                }
            }
        }
        let rule = ProdigyConfig::new().with_d0(1e-2).build().expect("valid");
        let mut model = testing::net(&burn::tensor::Device::flex().autodiff());
        let mut fused = rule.fused();
        for k in 0..4 {
            let mut grads = testing::grads(&model, k);
            if k > 0 {
                burn::module::Module::visit(&model, &mut Skip(&mut grads));
            }
            model = fused.step(1.0, model, grads);
            let memories: Vec<_> = fused.entries.iter().map(|entry| &entry.state.memory).collect();
            assert!(memories.windows(2).all(|pair| pair[0] == pair[1]), "{memories:?}");
        }
        assert_eq!(
            (fused.steps_of("linear.weight"), fused.steps_of("linear.bias")),
            (Some(4), Some(1))
        );
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(ProdigyConfig::new().with_beta_1(1.0).build(), "`beta_1` must be in [0, 1), got 1");
        refused(
            ProdigyConfig::new().with_weight_decay(-1.0).build(),
            "`weight_decay` must be in [0, inf), got -1",
        );
        refused(
            ProdigyConfig::new().with_epsilon(f64::NAN).build(),
            "`epsilon` must be in [0, inf), got NaN",
        );
    }
}
