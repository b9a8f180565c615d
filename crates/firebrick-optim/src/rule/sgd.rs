//! Stochastic gradient descent with momentum: the baseline, and the best choice for many convolutional networks.
//!
//! # Update
//! ```text
//! b_t = g_t                                   at the first step
//! b_t = mu b_{t-1} + (1 - damp) g_t           (1)
//! d_t = b_t,  or  g_t + mu b_t  (Nesterov)    (2)
//! p_t = p_{t-1} - lr d_t                      (3)
//! ```
//! With [`RatePlacement::Inside`] the rate stands in the buffer: `v_t = mu v_{t-1} + lr g_t`, `p_t = p_{t-1} - v_t`.
//! The two agree while the rate is constant; when it falls, the second form keeps some steps of the old rate.
//!
//! # Reference
//! H. Robbins, S. Monro, "A stochastic approximation method", 1951; B. Polyak, 1964; Y. Nesterov, 1983, in the form
//! of I. Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
//!
//! # Differences
//! Defaults are PyTorch's. burn's own momentum has dampening 0.1.

use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};

/// Where the learning rate multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RatePlacement {
    /// `p -= lr b`: a new rate takes effect at once (PyTorch).
    #[default]
    Outside,
    /// `v = mu v + lr g; p -= v`: the classical form, as in many textbooks and Keras.
    Inside,
}

/// Configuration of [stochastic gradient descent](self).
///
/// | field | symbol | default | range |
/// | --- | --- | --- | --- |
/// | `momentum` | mu | 0 | `[0, 1)` |
/// | `dampening` | damp | 0 | `[0, 1]` |
/// | `nesterov` | | false | needs momentum > 0, dampening 0 |
/// | `weight_decay` | wd | 0, coupled | `[0, inf)` |
/// | `decoupled` | | false | true: `p *= 1 - lr wd` (SGDW, 1711.05101) |
/// | `rate` | | outside the buffer | |
#[derive(Config, Debug)]
pub struct SgdConfig {
    /// Share of the buffer that is kept.
    #[config(default = 0.0)]
    pub momentum: f64,
    /// Share of the gradient that is left out of the buffer, from the second step on.
    #[config(default = 0.0)]
    pub dampening: f64,
    /// Whether to look ahead by one momentum step.
    #[config(default = false)]
    pub nesterov: bool,
    /// Strength of weight decay.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Whether weight decay is decoupled from the gradient.
    #[config(default = false)]
    pub decoupled: bool,
    /// Where the rate multiplies.
    #[config(default = "RatePlacement::Outside")]
    pub rate: RatePlacement,
}

impl SgdConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range, or Nesterov's form is asked for without momentum or with dampening.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let momentum = check::range("momentum", self.momentum, 0.0..1.0)?;
        let dampening = check::range("dampening", self.dampening, 0.0..=1.0)?;
        if self.nesterov && (momentum == 0.0 || dampening != 0.0) {
            let value = format!("true with momentum {momentum} and dampening {dampening}");
            return Err(ConfigError::new(
                "nesterov",
                value,
                "false unless momentum > 0 and dampening = 0",
            ));
        }
        let inside = self.rate == RatePlacement::Inside;
        let optimizer = match (momentum == 0.0, self.nesterov) {
            (true, _) => Elementwise::new(Sgd),
            (_, false) => Elementwise::new(Momentum::<false> { momentum, dampening, inside }),
            (_, true) => Elementwise::new(Momentum::<true> { momentum, dampening, inside }),
        };
        optimizer.with_decay(if self.decoupled {
            Decay::Decoupled(self.weight_decay)
        } else {
            Decay::Coupled(self.weight_decay)
        })
    }
}
super::doors!(SgdConfig);

/// Plain descent.
#[derive(Debug, Clone)]
struct Sgd;

impl Rule<0> for Sgd {
    type Step = f64;
    const NAME: &'static str = "sgd";
    const SLOTS: [&'static str; 0] = [];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> f64 {
        clock.lr
    }

    #[inline(always)]
    fn update<V: Value>(lr: &f64, p: V, g: V, _: [V; 0]) -> (V, [V; 0]) {
        (p - g.scale(*lr), [])
    }
}

/// With momentum.
#[derive(Debug, Clone)]
struct Momentum<const NESTEROV: bool> {
    momentum: f64,
    dampening: f64,
    inside: bool,
}

#[derive(Clone, Copy)]
struct MomentumStep {
    momentum: f64,
    /// Factor of the gradient on its way into the buffer.
    fresh: f64,
    /// Factor of the gradient that Nesterov's form adds.
    ahead: f64,
    /// Factor of the direction.
    lr: f64,
}

impl<const NESTEROV: bool> Rule<1> for Momentum<NESTEROV> {
    type Step = MomentumStep;
    const NAME: &'static str = "sgd_momentum";
    const SLOTS: [&'static str; 1] = ["momentum_buffer"];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> MomentumStep {
        let fresh = if clock.t == 1 { 1.0 } else { 1.0 - self.dampening };
        let (inner, outer) = if self.inside { (clock.lr, 1.0) } else { (1.0, clock.lr) };
        MomentumStep { momentum: self.momentum, fresh: fresh * inner, ahead: inner, lr: outer }
    }

    #[inline(always)]
    fn update<V: Value>(s: &MomentumStep, p: V, g: V, [b]: [V; 1]) -> (V, [V; 1]) {
        let b = b.scale(s.momentum) + g.clone().scale(s.fresh); // (1)
        let d = if NESTEROV { g.scale(s.ahead) + b.clone().scale(s.momentum) } else { b.clone() }; // (2)
        (p - d.scale(s.lr), [b]) // (3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Walk;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectories() {
        let sgd = SgdConfig::new().with_momentum(0.9).with_weight_decay(0.01);
        golden(&sgd.build().expect("valid"), 0.1, [0.949, 0.927151, 0.362949730, -0.751791027]);
        let nesterov = sgd.clone().with_nesterov(true).build().expect("valid");
        golden(&nesterov, 0.1, [0.9031, 0.907574110, 0.277470344, -0.786187850]);
        let dampened = sgd.with_dampening(0.1).build().expect("valid");
        golden(&dampened, 0.1, [0.949, 0.9247459, 0.397463356, -0.732124388]);
    }

    #[test]
    fn by_hand() {
        // p = 1, g = 0.5, then -0.25: b = 0.5, then 0.9 * 0.5 - 0.25 = 0.2.
        let sgd = SgdConfig::new().with_momentum(0.9).build().expect("valid");
        let mut walk = Walk::new(&sgd, &[1.0]);
        assert_eq!(walk.step(0.1, &[0.5])[0], 1.0 - 0.05);
        assert!((walk.step(0.1, &[-0.25])[0] - (0.95 - 0.02)).abs() < 1e-15);
    }

    #[test]
    fn the_rate_inside_keeps_old_steps_at_the_old_rate() {
        let config = SgdConfig::new().with_momentum(0.9);
        let inside = config.clone().with_rate(RatePlacement::Inside).build().expect("valid");
        let outside = config.build().expect("valid");
        let walk = |rule: &Elementwise, rates: [f64; 3]| {
            let mut walk = Walk::new(rule, &[0.0]);
            rates.map(|lr| walk.step(lr, &[1.0])[0])
        };
        let (a, b) = (walk(&inside, [0.1; 3]), walk(&outside, [0.1; 3]));
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-15));
        // v3 = 0.9 (0.9 * 0.1 + 0.1) + 0.01 = 0.181; b3 = 2.71.
        let (a, b) = (walk(&inside, [0.1, 0.1, 0.01]), walk(&outside, [0.1, 0.1, 0.01]));
        assert!((a[2] - (a[1] - 0.181)).abs() < 1e-15);
        assert!((b[2] - (b[1] - 0.0271)).abs() < 1e-15);
    }

    /// SGDW: the decay stays out of the buffer.
    #[test]
    fn decoupled_decay_does_not_gain_momentum() {
        let config = SgdConfig::new().with_momentum(0.9).with_weight_decay(0.5);
        let mut walk = Walk::new(&config.with_decoupled(true).build().expect("valid"), &[2.0]);
        // 2 * 0.95 - 0.1, then b = 0.9: 1.8 * 0.95 - 0.09.
        assert!((walk.step(0.1, &[1.0])[0] - 1.8).abs() < 1e-14);
        assert!((walk.step(0.1, &[0.0])[0] - 1.62).abs() < 1e-14);
        let hyper = serde_json::json!({"momentum": 0.9, "weight_decay": 0.5});
        let named = crate::registry::create_from_hyper("SGDW", &hyper).expect("known");
        assert_eq!(named.decay(), Decay::Decoupled(0.5));
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(SgdConfig::new().with_momentum(1.0).build(), "`momentum` must be in [0, 1), got 1");
        refused(
            SgdConfig::new().with_weight_decay(f64::NAN).build(),
            "`weight_decay` must be in [0, inf), got NaN",
        );
        refused(
            SgdConfig::new().with_dampening(1.5).build(),
            "`dampening` must be in [0, 1], got 1.5",
        );
        refused(
            SgdConfig::new().with_nesterov(true).build(),
            "`nesterov` must be false unless momentum > 0 and dampening = 0, got true with momentum 0 and dampening 0",
        );
    }
}
