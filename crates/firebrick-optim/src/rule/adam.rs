//! Adam and AdamW: first and second moment of the gradient, corrected for their start at zero. AdamW is the default
//! choice for an unknown task.
//!
//! # Update
//! ```text
//! g_t = g_t + wd p_{t-1}                              Adam's coupled decay
//! p   = (1 - lr wd) p_{t-1}                           AdamW's decoupled decay
//! m_t = b1 m_{t-1} + (1 - b1) g_t                     (1)
//! v_t = b2 v_{t-1} + (1 - b2) g_t^2                   (2)
//! x_t = max(x_{t-1}, v_t)                             AMSGrad; x_t takes the place of v_t below
//! p_t = p - lr m_t / (1 - b1^t) / (sqrt(v_t / (1 - b2^t)) + eps)   (3)
//! ```
//! # Reference
//! D. Kingma, J. Ba, "Adam", 2014, arXiv 1412.6980; I. Loshchilov, F. Hutter, "Decoupled weight decay regularization",
//! 2017, arXiv 1711.05101; S. Reddi et al., "On the convergence of Adam and beyond", 2018, arXiv 1904.09237.
//!
//! # Differences
//! Defaults are PyTorch's; burn's own have epsilon 1e-5, and AdamW's weight decay 1e-4. [`AmsGrad::Raw`] takes the
//! maximum before the correction, as PyTorch and burn do; [`AmsGrad::Corrected`] after it, as optax does.

use super::moments::{Moments, Step};
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::ConfigError;
use serde::{Deserialize, Serialize};

/// Whether the second moment may fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AmsGrad {
    /// It may: plain Adam.
    #[default]
    Off,
    /// The maximum of the uncorrected moment, corrected by the current step (PyTorch).
    Raw,
    /// The maximum of the corrected moment (optax).
    Corrected,
}

/// Configuration of [Adam](self).
///
/// | field | symbol | default | range |
/// | --- | --- | --- | --- |
/// | `beta_1` | b1 | 0.9 | `[0, 1)` |
/// | `beta_2` | b2 | 0.999 | `[0, 1)` |
/// | `epsilon` | eps | 1e-8 | `[0, inf)` |
/// | `weight_decay` | wd | 0, coupled | `[0, inf)` |
/// | `amsgrad` | | off | |
#[derive(Config, Debug)]
pub struct AdamConfig {
    /// Decay rate of the first moment.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// Added to the root of the corrected second moment.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// Strength of the L2 term that is added to the gradient.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Whether the second moment may fall.
    #[config(default = "AmsGrad::Off")]
    pub amsgrad: AmsGrad,
}

/// Configuration of [AdamW](self): Adam with decoupled weight decay.
///
/// | field | symbol | default | range |
/// | --- | --- | --- | --- |
/// | `beta_1` | b1 | 0.9 | `[0, 1)` |
/// | `beta_2` | b2 | 0.999 | `[0, 1)` |
/// | `epsilon` | eps | 1e-8 | `[0, inf)` |
/// | `weight_decay` | wd | 0.01, times the rate | `[0, inf)` |
/// | `amsgrad` | | off | |
/// | `cautious` | | false | decay only where the step does not oppose it (2510.12402) |
/// | `independent_of` | | none | base rate: decay by `lr / base` alone, as the paper has it |
#[derive(Config, Debug)]
pub struct AdamWConfig {
    /// Decay rate of the first moment.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// Added to the root of the corrected second moment.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// Strength of weight decay.
    #[config(default = 0.01)]
    pub weight_decay: f64,
    /// Whether the second moment may fall.
    #[config(default = "AmsGrad::Off")]
    pub amsgrad: AmsGrad,
    /// Whether a parameter decays only where the step does not oppose that.
    #[config(default = false)]
    pub cautious: bool,
    /// The base rate under which decay is `lr / base_lr` times `weight_decay` instead of `lr` times.
    pub independent_of: Option<f64>,
}

impl AdamConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        rule(self.beta_1, self.beta_2, self.epsilon, self.amsgrad)?
            .with_decay(Decay::Coupled(self.weight_decay))
    }
}
super::doors!(AdamConfig);

impl AdamWConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range, or both `cautious` and `independent_of` are given.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let weight_decay = self.weight_decay;
        let decay = match (self.cautious, self.independent_of) {
            (false, None) => Decay::Decoupled(weight_decay),
            (true, None) => Decay::Cautious(weight_decay),
            (false, Some(base_lr)) => Decay::Independent { weight_decay, base_lr },
            (true, Some(_)) => {
                return Err(ConfigError::new(
                    "cautious",
                    true,
                    "false when `independent_of` is given",
                ));
            }
        };
        rule(self.beta_1, self.beta_2, self.epsilon, self.amsgrad)?.with_decay(decay)
    }
}
super::doors!(AdamWConfig);

fn rule(
    beta_1: f64,
    beta_2: f64,
    epsilon: f64,
    amsgrad: AmsGrad,
) -> Result<Elementwise, ConfigError> {
    let moments = Moments::new(beta_1, beta_2, epsilon)?;
    Ok(match amsgrad {
        AmsGrad::Off => Elementwise::new(Adam(moments)),
        AmsGrad::Raw => Elementwise::new(AmsAdam::<false>(moments)),
        AmsGrad::Corrected => Elementwise::new(AmsAdam::<true>(moments)),
    })
}

/// Adam's recurrence.
#[derive(Debug, Clone)]
struct Adam(Moments);

impl Rule<2> for Adam {
    type Step = Step;
    const NAME: &'static str = "adam";
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_avg_sq"];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> Step {
        self.0.step(clock)
    }

    #[inline(always)]
    fn update<V: Value>(s: &Step, p: V, g: V, [m, v]: [V; 2]) -> (V, [V; 2]) {
        let m = s.first(m, g.clone()); // (1)
        let v = s.second(v, g); // (2)
        let d = m.clone() / s.denominator(v.clone());
        (p - d.scale(s.lr), [m, v]) // (3)
    }
}

/// With the maximum of the second moment.
#[derive(Debug, Clone)]
struct AmsAdam<const CORRECTED: bool>(Moments);

impl<const CORRECTED: bool> Rule<3> for AmsAdam<CORRECTED> {
    type Step = Step;
    const NAME: &'static str = if CORRECTED { "adam_amsgrad_corrected" } else { "adam_amsgrad" };
    const SLOTS: [&'static str; 3] = ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> Step {
        self.0.step(clock)
    }

    #[inline(always)]
    fn update<V: Value>(s: &Step, p: V, g: V, [m, v, x]: [V; 3]) -> (V, [V; 3]) {
        let m = s.first(m, g.clone());
        let v = s.second(v, g);
        let (x, d) = if CORRECTED {
            let x = x.max(v.clone().scale(s.correct));
            (x.clone(), x.sqrt().offset(s.epsilon))
        } else {
            let x = x.max(v.clone());
            (x.clone(), s.denominator(x))
        };
        let d = m.clone() / d;
        (p - d.scale(s.lr), [m, v, x])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Walk;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectories() {
        let adam = AdamConfig::new();
        golden(
            &adam.build().expect("valid"),
            0.1,
            [0.900000002, 0.873366299, 0.595822295, -0.911238019],
        );
        let l2 = adam.clone().with_weight_decay(0.1).build().expect("valid");
        golden(&l2, 0.1, [0.900000002, 0.854441367, 0.512437167, -0.740166964]);
        let adamw = AdamWConfig::new().with_weight_decay(0.1).build().expect("valid");
        golden(&adamw, 0.1, [0.890000002, 0.854466299, 0.535085210, -0.855045657]);
        let ams = adam.with_beta_2(0.5);
        let raw = ams.clone().with_amsgrad(AmsGrad::Raw).build().expect("valid");
        golden(&raw, 0.1, [0.900000002, 0.874215900, 0.653398271, -0.857613181]);
        let corrected = ams.with_amsgrad(AmsGrad::Corrected).build().expect("valid");
        golden(&corrected, 0.1, [0.900000002, 0.878947371, 0.666347699, -0.852436488]);
    }

    #[test]
    fn the_forms_of_decay_differ_as_they_should() {
        let walk = |config: AdamWConfig, p: f64, g: f64| {
            Walk::new(&config.build().expect("valid"), &[p]).step(0.1, &[g])[0]
        };
        let decay = AdamWConfig::new().with_weight_decay(0.5);
        // Without a gradient only the decay acts: 1 - 0.1 * 0.5, and 1 - 0.1 / 0.2 * 0.5.
        assert_eq!(walk(decay.clone(), 2.0, 0.0), 2.0 * 0.95);
        assert_eq!(walk(decay.clone().with_independent_of(Some(0.2)), 2.0, 0.0), 2.0 * 0.75);
        // A step of 0.1 towards zero decays, one away from zero does not.
        let cautious = decay.with_cautious(true);
        assert!((walk(cautious.clone(), 2.0, 1.0) - (2.0 - 0.1 - 0.1)).abs() < 1e-8);
        assert!((walk(cautious, 2.0, -1.0) - 2.1).abs() < 1e-8);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(AdamConfig::new().with_beta_1(1.0).build(), "`beta_1` must be in [0, 1), got 1");
        refused(
            AdamConfig::new().with_beta_2(-0.1).build(),
            "`beta_2` must be in [0, 1), got -0.1",
        );
        refused(
            AdamWConfig::new().with_epsilon(-1.0).build(),
            "`epsilon` must be in [0, inf), got -1",
        );
        refused(
            AdamWConfig::new().with_independent_of(Some(0.0)).build(),
            "`base_lr` must be in (0, inf), got 0",
        );
    }
}
