//! AdaBelief: scales by how far the gradient is from what was expected, not by how large it is.
//!
//! # Update
//! ```text
//! m_t = b1 m_{t-1} + (1 - b1) g_t                                        (1)
//! s_t = b2 s_{t-1} + (1 - b2) (g_t - m_t)^2 + eps                        (2)
//! p_t = p_{t-1} - lr m_t / (1 - b1^t) / (sqrt(s_t / (1 - b2^t)) + eps)   (3)
//! ```
//! With `amsgrad` the largest s so far stands in (3). With `rectify`, and R_t and r_t as in [RAdam](super::radam):
//! ```text
//! r_t >= n_sma_threshold:  p_t = p_{t-1} - lr m_t / (1 - b1^t) R_t sqrt(1 - b2^t) / (sqrt(s_t) + eps)
//! else:                    p_t = p_{t-1} - lr m_t / (1 - b1^t)      with degenerated_to_sgd; p_t = p_{t-1} without
//! ```
//! # Reference
//! J. Zhuang et al., "AdaBelief optimizer", 2020, arXiv 2010.07468; the authors' code for the default epsilon 1e-16.
//!
//! # Differences
//! Decay is decoupled, as in the authors' code; theirs and timm's rectify by default, the paper does not.

use super::moments::{Moments, Step};
use super::radam::rectification;
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [AdaBelief](self).
#[derive(Config, Debug)]
pub struct AdaBeliefConfig {
    /// Decay rate of the first moment, in `[0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-16)]
    pub epsilon: f64,
    /// Strength of weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Whether weight decay is decoupled from the gradient.
    #[config(default = true)]
    pub decoupled: bool,
    /// Whether the largest second moment so far counts.
    #[config(default = false)]
    pub amsgrad: bool,
    /// Whether the second moment is only used once it can be trusted.
    #[config(default = false)]
    pub rectify: bool,
    /// The r_t from which it can, in `[4, inf)`.
    #[config(default = 5.0)]
    pub n_sma_threshold: f64,
    /// Whether momentum alone steps before.
    #[config(default = true)]
    pub degenerated_to_sgd: bool,
}

impl AdaBeliefConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let moments = Moments::new(self.beta_1, self.beta_2, self.epsilon)?;
        let threshold = check::range("n_sma_threshold", self.n_sma_threshold, 4.0..)?;
        let rectify = self.rectify.then_some((threshold, self.degenerated_to_sgd));
        let optimizer = if self.amsgrad {
            Elementwise::new(AdaBelief::<true> { moments, rectify })
        } else {
            Elementwise::new(AdaBelief::<false> { moments, rectify })
        };
        optimizer.with_decay(super::decay(self.weight_decay, self.decoupled))
    }
}
super::doors!(AdaBeliefConfig);

#[derive(Debug, Clone)]
struct AdaBelief<const AMS: bool> {
    moments: Moments,
    /// The threshold, and whether momentum steps before it.
    rectify: Option<(f64, bool)>,
}

#[derive(Clone, Copy)]
struct BeliefStep {
    adam: Step,
    /// Factor of the step, the rate among it.
    lr: f64,
    /// Factor of the root.
    root: f64,
    /// Whether the second moment is used.
    scaled: bool,
}

impl<const AMS: bool> AdaBelief<AMS> {
    fn step(&self, clock: &Clock) -> BeliefStep {
        let adam = self.moments.step(clock);
        let Some((threshold, degenerate)) = self.rectify else {
            return BeliefStep { adam, lr: adam.lr, root: adam.root, scaled: true };
        };
        let (r, factor) = rectification(self.moments.beta_2, clock.t);
        if r < threshold {
            let lr = if degenerate { adam.lr } else { 0.0 };
            return BeliefStep { adam, lr, root: 1.0, scaled: false };
        }
        BeliefStep { adam, lr: adam.lr * factor / adam.root, root: 1.0, scaled: true }
    }
}

impl BeliefStep {
    #[inline(always)]
    fn moments<V: Value>(&self, g: V, m: V, v: V) -> (V, V) {
        let m = self.adam.first(m, g.clone()); // (1)
        let v = self.adam.second(v, g - m.clone()).offset(self.adam.epsilon); // (2)
        (m, v)
    }

    #[inline(always)]
    fn out<V: Value>(&self, p: V, m: V, v: V) -> V {
        let d =
            if self.scaled { m / v.sqrt().scale(self.root).offset(self.adam.epsilon) } else { m };
        p - d.scale(self.lr) // (3)
    }
}

impl Rule<2> for AdaBelief<false> {
    type Step = BeliefStep;
    const NAME: &'static str = "adabelief";
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_avg_var"];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> BeliefStep {
        self.step(clock)
    }

    #[inline(always)]
    fn update<V: Value>(s: &BeliefStep, p: V, g: V, [m, v]: [V; 2]) -> (V, [V; 2]) {
        let (m, v) = s.moments(g, m, v);
        (s.out(p, m.clone(), v.clone()), [m, v])
    }
}

impl Rule<3> for AdaBelief<true> {
    type Step = BeliefStep;
    const NAME: &'static str = "adabelief_amsgrad";
    const SLOTS: [&'static str; 3] = ["exp_avg", "exp_avg_var", "max_exp_avg_var"];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> BeliefStep {
        self.step(clock)
    }

    #[inline(always)]
    fn update<V: Value>(s: &BeliefStep, p: V, g: V, [m, v, x]: [V; 3]) -> (V, [V; 3]) {
        let (m, v) = s.moments(g, m, v);
        let x = x.max(v.clone());
        (s.out(p, m.clone(), x.clone()), [m, v, x])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = AdaBeliefConfig::new().build().expect("valid");
        golden(&rule, 0.1, [0.888888889, 0.860518810, 0.550450039, -0.958323327]);
    }

    /// With b2 = 0.8 r_1 to r_4 are 1, 1.89, 2.70, 3.45; with b2 = 0.9 r_5 is 4.58 and r_6 5.39.
    #[test]
    fn rectified_it_waits_and_then_steps_further_or_less() {
        let config = AdaBeliefConfig::new().with_beta_1(0.0).with_epsilon(0.0).with_rectify(true);
        let path = |config: AdaBeliefConfig, steps: usize| {
            let mut walk = crate::Walk::new(&config.build().expect("valid"), &[0.0]);
            (0..steps).map(|k| walk.step(1.0, &[if k % 2 == 0 { 3.0 } else { -1.0 }])[0]).collect()
        };
        // b1 = 0: m is the gradient, which momentum alone steps along.
        let plain: Vec<f64> = path(config.clone().with_beta_2(0.8), 4);
        assert_eq!(plain, [-3.0, -2.0, -5.0, -4.0]);
        let waits: Vec<f64> = path(config.with_beta_2(0.8).with_degenerated_to_sgd(false), 4);
        assert_eq!(waits, [0.0; 4]);
        let (r, factor) = rectification(0.9, 6);
        assert!((r - 5.39).abs() < 0.005, "{r}");
        let belief = AdaBeliefConfig::new().with_beta_2(0.9).with_epsilon(1e-4).with_rectify(true);
        let mut walk = crate::Walk::new(&belief.build().expect("valid"), &[0.0]);
        let (mut m, mut s, mut p): (f64, f64, f64) = (0.0, 0.0, 0.0);
        for t in 1..=6 {
            let g = f64::from(t).sin();
            m = 0.9 * m + 0.1 * g;
            s = 0.9 * s + 0.1 * (g - m).powi(2) + 1e-4;
            let (c1, c2) = (1.0 - 0.9f64.powi(t), 1.0 - 0.9f64.powi(t));
            p -= if t < 6 { m / c1 } else { m / c1 * factor * c2.sqrt() / (s.sqrt() + 1e-4) };
            let seen = walk.step(1.0, &[g])[0];
            assert!((seen - p).abs() < 1e-12, "step {t}: {seen} for {p}");
        }
    }

    #[test]
    fn amsgrad_keeps_the_largest_moment() {
        let config = AdaBeliefConfig::new().with_beta_2(0.0).with_amsgrad(true);
        let mut walk = crate::Walk::new(&config.build().expect("valid"), &[0.0]);
        // m = 0.1, s = 0.81; then m = 0.09, s = 0.0081, of which the first counts.
        assert!((walk.step(1.0, &[1.0])[0] + 1.0 / 0.9).abs() < 1e-12);
        let second = walk.step(1.0, &[0.0])[0];
        assert!((second + 1.0 / 0.9 + 0.09 / 0.19 / 0.9).abs() < 1e-12, "{second}");
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(
            AdaBeliefConfig::new().with_beta_1(1.0).build(),
            "`beta_1` must be in [0, 1), got 1",
        );
        refused(
            AdaBeliefConfig::new().with_weight_decay(-1.0).build(),
            "`weight_decay` must be in [0, inf), got -1",
        );
        refused(
            AdaBeliefConfig::new().with_epsilon(f64::NAN).build(),
            "`epsilon` must be in [0, inf), got NaN",
        );
    }
}
