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
//! As PyTorch; while `t <= t0`, a million steps by default, the average is a copy of the parameter.

use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
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
        Elementwise::new(rule).with_decay(Decay::Coupled(self.weight_decay))
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

impl Rule<1> for Asgd {
    type Step = Step;
    const NAME: &'static str = "asgd";
    const SLOTS: [&'static str; 1] = ["ax"];

    fn memory(&self) -> Vec<f64> {
        vec![0.0, 1.0]
    }

    fn evaluation(&self) -> Option<(usize, f64)> {
        Some((0, 1.0))
    }

    fn at(&self, clock: &Clock, memory: &mut [f64]) -> Step {
        let [eta, mu] = match *memory {
            [eta, mu] if clock.t > 1 => [eta, mu],
            _ => [clock.lr, 1.0],
        };
        let t = clock.t as f64;
        let next = clock.lr / (1.0 + self.lambda * clock.lr * t).powf(self.alpha); // (3)
        memory.copy_from_slice(&[next, 1.0 / (t - self.t0).max(1.0)]); // (4)
        Step { decay: self.lambda * eta, eta, mu }
    }

    #[inline(always)]
    fn update<V: Value>(s: &Step, p: V, g: V, [average]: [V; 1]) -> (V, [V; 1]) {
        let p = p.clone() - (p.scale(s.decay) + g.scale(s.eta)); // (1)
        let average = if s.mu == 1.0 { p.clone() } else { average.lerp(p.clone(), s.mu) }; // (2)
        (p, [average])
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

    #[test]
    fn bad_configurations_are_refused() {
        refused(AsgdConfig::new().with_t0(-1.0).build(), "`t0` must be in [0, inf), got -1");
    }
}
