//! Cautious AdamW and Lion: elements whose step opposes the gradient wait; the others step further to make up for it.
//!
//! # Update
//! With the step u of AdamW (its `m`) or Lion, and n elements:
//! ```text
//! k = 1 where u g > 0, else 0
//! p_t = (1 - lr wd) p_{t-1} - lr u k / max(mean(k), 1e-3)     AdamW
//! p_t = (1 - lr wd) p_{t-1} - lr u k n / (sum(k) + 1)         Lion
//! ```
//! # Reference
//! K. Liang et al., "Cautious optimizers: improving training with one line of code", 2024, arXiv 2411.16085, in the
//! two normalizations of the authors' code.

use super::moments::{self, Moments};
use super::reduce::{adam, positive};
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::Clock;
use crate::reducing::ReducingRule;
use crate::value::Value;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [Cautious AdamW](self).
#[derive(Config, Debug)]
pub struct CautiousAdamWConfig {
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
    #[config(default = 0.01)]
    pub weight_decay: f64,
}

impl CautiousAdamWConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let moments = Moments::new(self.beta_1, self.beta_2, self.epsilon)?;
        Elementwise::reducing(CautiousAdamW(moments))
            .with_decay(Decay::Decoupled(self.weight_decay))
    }
}
super::doors!(CautiousAdamWConfig);

/// Configuration of [Cautious Lion](self).
#[derive(Config, Debug)]
pub struct CautiousLionConfig {
    /// Share of the momentum in the direction, in `[0, 1)`.
    #[config(default = 0.95)]
    pub beta_1: f64,
    /// Decay rate of the momentum, in `[0, 1)`.
    #[config(default = 0.98)]
    pub beta_2: f64,
    /// Strength of decoupled weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
}

impl CautiousLionConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let rule = CautiousLion {
            beta_1: check::range("beta_1", self.beta_1, 0.0..1.0)?,
            beta_2: check::range("beta_2", self.beta_2, 0.0..1.0)?,
        };
        Elementwise::reducing(rule).with_decay(Decay::Decoupled(self.weight_decay))
    }
}
super::doors!(CautiousLionConfig);

#[derive(Debug)]
struct CautiousAdamW(Moments);

#[derive(Clone, Copy)]
struct AdamStep {
    moments: moments::Step,
    /// One over the number of elements.
    share: f64,
}

impl ReducingRule<2, 1> for CautiousAdamW {
    type Step = AdamStep;
    const NAME: &'static str = "cautious_adamw";
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_avg_sq"];

    fn at(&self, clock: &Clock, shape: &[usize]) -> AdamStep {
        let share = 1.0 / shape.iter().product::<usize>() as f64;
        AdamStep { moments: self.0.step(clock), share }
    }

    #[inline(always)]
    fn begin<V: Value>(s: &AdamStep, _: &V, g: &V, [m, v]: [V; 2]) -> ([V; 2], [V; 1]) {
        let (m, v) = adam(&s.moments, g.clone(), m, v);
        let agrees = positive(m.clone() * g.clone());
        ([m, v], [agrees])
    }

    fn factor<V: Value>(s: &AdamStep, [agree]: [V; 1]) -> V {
        agree.scale(s.share).clamp(1e-3, f64::INFINITY)
    }

    #[inline(always)]
    fn finish<V: Value>(s: &AdamStep, mean: V, p: V, g: V, [m, v]: [V; 2]) -> (V, [V; 2]) {
        let mask = positive(m.clone() * g) / mean;
        let step = m.clone().scale(s.moments.lr) / s.moments.denominator(v.clone()) * mask;
        (p - step, [m, v])
    }
}

#[derive(Debug)]
struct CautiousLion {
    beta_1: f64,
    beta_2: f64,
}

#[derive(Clone, Copy)]
struct LionStep {
    lr: f64,
    beta_1: f64,
    fresh_1: f64,
    fresh_2: f64,
    n: f64,
}

impl LionStep {
    #[inline(always)]
    fn direction<V: Value>(&self, m: V, g: V) -> V {
        Value::sign(m.scale(self.beta_1) + g.scale(self.fresh_1))
    }
}

impl ReducingRule<1, 1> for CautiousLion {
    type Step = LionStep;
    const NAME: &'static str = "cautious_lion";
    const SLOTS: [&'static str; 1] = ["exp_avg"];

    fn at(&self, clock: &Clock, shape: &[usize]) -> LionStep {
        LionStep {
            lr: clock.lr,
            beta_1: self.beta_1,
            fresh_1: 1.0 - self.beta_1,
            fresh_2: 1.0 - self.beta_2,
            n: shape.iter().product::<usize>() as f64,
        }
    }

    #[inline(always)]
    fn begin<V: Value>(s: &LionStep, _: &V, g: &V, [m]: [V; 1]) -> ([V; 1], [V; 1]) {
        let agrees = positive(s.direction(m.clone(), g.clone()) * g.clone());
        ([m], [agrees])
    }

    fn factor<V: Value>(s: &LionStep, [agree]: [V; 1]) -> V {
        agree.constant(s.n) / agree.offset(1.0)
    }

    #[inline(always)]
    fn finish<V: Value>(s: &LionStep, factor: V, p: V, g: V, [m]: [V; 1]) -> (V, [V; 1]) {
        let u = s.direction(m.clone(), g.clone());
        let mask = positive(u.clone() * g.clone()) * factor;
        (p - (u * mask).scale(s.lr), [m.lerp(g, s.fresh_2)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectories() {
        let adamw = CautiousAdamWConfig::new().with_weight_decay(0.0).build().expect("valid");
        golden(&adamw, 0.1, [0.900000002, 0.900000002, 0.553367373, -1.014376058]);
        let lion = CautiousLionConfig::new().with_weight_decay(0.1).build().expect("valid");
        golden(&lion, 0.01, [0.992333333, 0.998007667, 0.965441118, -0.522574212]);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(
            CautiousAdamWConfig::new().with_beta_1(1.0).build(),
            "`beta_1` must be in [0, 1), got 1",
        );
        refused(
            CautiousAdamWConfig::new().with_weight_decay(-1.0).build(),
            "`weight_decay` must be in [0, inf), got -1",
        );
        refused(
            CautiousAdamWConfig::new().with_epsilon(f64::NAN).build(),
            "`epsilon` must be in [0, inf), got NaN",
        );
    }
}
