//! ASGD: descent with a falling rate whose path is averaged; [`FusedOptimizer::evaluation`](crate::FusedOptimizer) gives
//! the model at the average.
//!
//! # Update
//! ```text
//! p_t = (1 - lambda eta_t) p_{t-1} - eta_t g_t                 (1)
//! a_t = a_{t-1} + mu_t (p_t - a_{t-1})                         (2)
//! eta_{t+1} = lr / (1 + lambda lr t)^alpha,  eta_1 = lr        (3)
//! mu_{t+1}  = 1 / max(1, t - t0),            mu_1 = 1          (4)
//! ```
//! # Reference
//! B. Polyak, A. Juditsky, "Acceleration of stochastic approximation by averaging", 1992.
//!
//! # Differences
//! As PyTorch. While `mu_t = 1`, up to step `t0 + 2` and so for a million steps by default, the average is the parameter:
//! it is kept from the first step that averages on, where PyTorch writes a copy of the parameter in every step.

use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::kernel::Pass;
use crate::recurrence::{Around, Clock, Counted, DynRule, Rule};
use crate::value::Value;
use burn::config::Config;
use burn::tensor::{Tensor, TensorData};
use firebrick_backend::host::HostTensor;
use firebrick_core::{ConfigError, check};

/// Configuration of [ASGD](self).
#[derive(Config, Debug)]
pub struct AsgdConfig {
    /// Fall of the rate and decay of the parameter, in `[0, inf)`.
    #[config(default = 1e-4)]
    pub lambda: f64,
    /// Exponent of the rate's fall, in `[0, inf)`.
    #[config(default = 0.75)]
    pub alpha: f64,
    /// Step from which the path is averaged, in `[0, inf)`.
    #[config(default = 1e6)]
    pub t0: f64,
    /// Strength of coupled weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
}

impl AsgdConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let rule = Asgd {
            lambda: check::non_negative("lambda", self.lambda)?,
            alpha: check::non_negative("alpha", self.alpha)?,
            t0: check::non_negative("t0", self.t0)?,
        };
        Elementwise::of(Late(rule)).with_decay(Decay::Coupled(self.weight_decay))
    }
}
super::doors!(AsgdConfig);

#[derive(Debug, Clone)]
struct Asgd {
    lambda: f64,
    alpha: f64,
    t0: f64,
}

#[derive(Clone, Copy)]
struct Step {
    /// lambda eta.
    decay: f64,
    eta: f64,
    mu: f64,
}

impl Asgd {
    /// The weight of the parameter in the average of step `t`.
    fn weight(clock: &Clock, memory: &[f64]) -> f64 {
        match *memory {
            [_, mu] if clock.t > 1 => mu,
            _ => 1.0,
        }
    }
}

impl Step {
    #[inline(always)]
    fn descend<V: Value>(&self, p: V, g: V) -> V {
        p.clone() - (p.scale(self.decay) + g.scale(self.eta)) // (1)
    }
}

impl Rule<1> for Asgd {
    type Step = Step;
    const NAME: &'static str = "asgd";
    const SLOTS: [&'static str; 1] = ["ax"];

    fn memory(&self) -> Vec<f64> {
        vec![0.0, 1.0]
    }

    fn at(&self, clock: &Clock, memory: &mut [f64]) -> Step {
        let mu = Self::weight(clock, memory);
        let eta = if clock.t > 1 { memory[0] } else { clock.lr };
        let t = clock.t as f64;
        let next = clock.lr / (1.0 + self.lambda * clock.lr * t).powf(self.alpha); // (3)
        memory.copy_from_slice(&[next, 1.0 / (t - self.t0).max(1.0)]); // (4)
        Step { decay: self.lambda * eta, eta, mu }
    }

    #[inline(always)]
    fn update<V: Value>(s: &Step, p: V, g: V, [average]: [V; 1]) -> (V, [V; 1]) {
        let p = s.descend(p, g);
        let average = if s.mu == 1.0 { p.clone() } else { average.lerp(p.clone(), s.mu) }; // (2)
        (p, [average])
    }
}

/// The same as long as the average is the parameter.
#[derive(Debug, Clone)]
struct Resting(Asgd);

impl Rule<0> for Resting {
    type Step = Step;
    const NAME: &'static str = Asgd::NAME;
    const SLOTS: [&'static str; 0] = [];

    fn at(&self, clock: &Clock, memory: &mut [f64]) -> Step {
        self.0.at(clock, memory)
    }

    #[inline(always)]
    fn update<V: Value>(s: &Step, p: V, g: V, _: [V; 0]) -> (V, [V; 0]) {
        (s.descend(p, g), [])
    }
}

/// ASGD with a slot that is empty until the average leaves the parameter.
#[derive(Debug, Clone)]
struct Late(Asgd);

impl Late {
    fn averaging(&self) -> Counted<Asgd, 1> {
        Counted(self.0.clone())
    }

    fn resting(&self) -> Counted<Resting, 0> {
        Counted(Resting(self.0.clone()))
    }
}

impl DynRule for Late {
    fn name(&self) -> &'static str {
        Asgd::NAME
    }
    fn slots(&self) -> &'static [&'static str] {
        const { &Asgd::SLOTS }
    }
    fn memory(&self) -> Vec<f64> {
        self.0.memory()
    }
    fn evaluation(&self) -> Option<(usize, f64)> {
        Some((0, 1.0))
    }
    fn is_elementwise(&self) -> bool {
        true
    }
    fn has_pass(&self) -> bool {
        true
    }
    fn lengths(&self, _: &[usize]) -> Vec<usize> {
        vec![0]
    }
    fn fits(&self, shape: &[usize], lengths: &[usize]) -> bool {
        lengths == [0] || lengths == [shape.iter().product::<usize>()]
    }
    fn run(&self, clock: &Clock, memory: &mut [f64], around: &Around, pass: Pass<'_>) {
        if let [average] = &mut *pass.state
            && average.is_empty()
        {
            if Asgd::weight(clock, memory) == 1.0 {
                let pass = Pass { state: &mut [], ..pass };
                return self.resting().run(clock, memory, around, pass);
            }
            // The average so far.
            let device = average.clone().give::<1>().device();
            let param = TensorData::from(pass.target.old());
            if let Ok(param) = HostTensor::take(Tensor::<1>::from_data(param, &device)) {
                *average = param;
            }
        }
        self.averaging().run(clock, memory, around, pass);
    }
    fn run_tensors(
        &self,
        clock: &Clock,
        memory: &mut [f64],
        around: &Around,
        shape: &[usize],
        param: Tensor<1>,
        grad: Tensor<1>,
        mut state: Vec<Tensor<1>>,
    ) -> (Tensor<1>, Vec<Tensor<1>>) {
        if state.iter().all(|average| average.dims() == [0]) {
            if Asgd::weight(clock, memory) == 1.0 {
                let resting = self.resting();
                let (new, _) =
                    resting.run_tensors(clock, memory, around, shape, param, grad, Vec::new());
                return (new, state);
            }
            state = vec![param.clone()];
        }
        self.averaging().run_tensors(clock, memory, around, shape, param, grad, state)
    }
    fn run_f64(
        &self,
        clock: &Clock,
        memory: &mut [f64],
        around: &Around,
        param: f64,
        grad: f64,
        state: &mut [f64],
    ) -> f64 {
        self.averaging().run_f64(clock, memory, around, param, grad, state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = AsgdConfig::new().build().expect("valid");
        golden(&rule, 0.1, [0.949990000, 0.974980313, 0.854929267, -0.564955890]);
    }

    /// With lambda 0 it is plain descent; mu is 1, 1, 1/2, 1/3, so the average is of all points but the first.
    #[test]
    fn the_average_is_that_of_the_path() {
        let rule = AsgdConfig::new().with_lambda(0.0).with_t0(0.0).build().expect("valid");
        let mut walk = crate::Walk::new(&rule, &[1.0]);
        let path: Vec<f64> =
            [0.5, -0.25, 0.8, 0.1, 0.4].iter().map(|&g| walk.step(0.1, &[g])[0]).collect();
        let mean = path[1..].iter().sum::<f64>() / 4.0;
        assert!((walk.evaluation()[0] - mean).abs() < 1e-12);
    }

    /// The average begins inside a run, is that of the f64 model from then on, and is saved before and after.
    #[test]
    fn the_state_appears_where_the_average_leaves_the_parameter() {
        use crate::testing;
        use burn::tensor::Device;
        let rule = AsgdConfig::new().with_lambda(0.1).with_t0(2.0).build().expect("valid");
        for rule in [rule.clone(), rule.with_fused_pass(false)] {
            let mut model = testing::net(&Device::flex().autodiff());
            let mut walk = crate::Walk::new(
                &rule,
                &testing::values(&model).into_iter().map(f64::from).collect::<Vec<_>>(),
            );
            let mut optimizer = rule.fused();
            let mut sizes = Vec::new();
            for k in 0..7 {
                let grads = testing::grads(&model, k);
                let values = testing::grad_values(&model, k);
                let values: Vec<f64> =
                    values.into_iter().flat_map(|(_, values)| values).map(f64::from).collect();
                model = optimizer.step(0.1, model, grads);
                walk.step(0.1, &values);
                let average = testing::values(&optimizer.evaluation(&model));
                for (seen, exact) in average.iter().zip(walk.evaluation()) {
                    assert!((f64::from(*seen) - exact).abs() < 2e-6, "step {k}: {seen} {exact}");
                }
                let bytes = optimizer.into_bytes().expect("bytes");
                sizes.push(bytes.len());
                // Every step is taken by an optimizer that was loaded.
                optimizer = rule.fused().from_bytes(bytes, &model).expect("loads");
            }
            // mu is 1 up to step 4, 1/2 in step 5.
            assert!(sizes[3] == sizes[0] && sizes[4] > sizes[3], "{sizes:?}");
        }
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(AsgdConfig::new().with_t0(-1.0).build(), "`t0` must be in [0, inf), got -1");
    }
}
