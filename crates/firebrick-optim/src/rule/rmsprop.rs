//! RMSProp: divides by the root of a moving average of squared gradients. For recurrent networks and reinforcement
//! learning.
//!
//! # Update
//! ```text
//! v_t = a v_{t-1} + (1 - a) g_t^2                                            (1)
//! v_t = a (v_{t-1} + (1 - a) (g_t - m_{t-1})^2),  m_t = a m_{t-1} + (1 - a) g_t  centered, in place of (1)
//! u_t = g_t / (sqrt(v_t) + eps)                                              (2)
//! b_t = mu b_{t-1} + u_t                                                     with momentum; else b_t = u_t
//! p_t = p_{t-1} - lr b_t                                                     (3)
//! ```
//! With [`Epsilon::Inside`](super::Epsilon) the denominator is `sqrt(v_t + eps)`. The centered v is the v of (1) less m^2.
//!
//! # Reference
//! G. Hinton, lecture 6e of "Neural networks for machine learning", 2012; centered: A. Graves, 2013, arXiv 1308.0850.
//!
//! # Differences
//! Defaults are PyTorch's; burn's have momentum 0.9 and epsilon 1e-5. PyTorch keeps the two moments about 0 of the
//! centered form and subtracts, which loses digits, and gives NaN where rounding makes the difference negative; here the
//! moment about the mean is kept. The usual rate is 1e-2.

use super::Epsilon;
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [RMSProp](self).
#[derive(Config, Debug)]
pub struct RmsPropConfig {
    /// Decay rate of the averages, a, in `[0, 1]`.
    #[config(default = 0.99)]
    pub alpha: f64,
    /// Share of the buffer that is kept, mu, in `[0, 1)`.
    #[config(default = 0.0)]
    pub momentum: f64,
    /// Whether the mean is taken out of the second moment.
    #[config(default = false)]
    pub centered: bool,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// Where epsilon stands.
    #[config(default = "Epsilon::Outside")]
    pub epsilon_at: Epsilon,
    /// Strength of coupled weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
}

impl RmsPropConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let alpha = check::range("alpha", self.alpha, 0.0..=1.0)?;
        let momentum = check::range("momentum", self.momentum, 0.0..1.0)?;
        let (outside, inside) =
            self.epsilon_at.split(check::non_negative("epsilon", self.epsilon)?);
        let rule = match (self.centered, momentum > 0.0) {
            (false, false) => {
                Elementwise::new(RmsProp::<false, false> { alpha, momentum, outside, inside })
            }
            (false, true) => {
                Elementwise::new(RmsProp::<false, true> { alpha, momentum, outside, inside })
            }
            (true, false) => {
                Elementwise::new(RmsProp::<true, false> { alpha, momentum, outside, inside })
            }
            (true, true) => {
                Elementwise::new(RmsProp::<true, true> { alpha, momentum, outside, inside })
            }
        };
        rule.with_decay(Decay::Coupled(self.weight_decay))
    }
}
super::doors!(RmsPropConfig);

#[derive(Debug, Clone)]
struct RmsProp<const CENTERED: bool, const MOMENTUM: bool> {
    alpha: f64,
    momentum: f64,
    outside: f64,
    inside: f64,
}

#[derive(Clone, Copy)]
struct Step {
    alpha: f64,
    fresh: f64,
    momentum: f64,
    lr: f64,
    outside: f64,
    inside: f64,
}

impl<const CENTERED: bool, const MOMENTUM: bool> RmsProp<CENTERED, MOMENTUM> {
    fn step(&self, clock: &Clock) -> Step {
        let Self { alpha, momentum, outside, inside } = *self;
        Step { alpha, fresh: 1.0 - alpha, momentum, lr: clock.lr, outside, inside }
    }
}

impl Step {
    #[inline(always)]
    fn second<V: Value>(&self, v: V, g: V) -> V {
        v.scale(self.alpha) + g.square().scale(self.fresh) // (1)
    }

    /// The second moment about the mean, and the mean. The difference of the two moments about 0 would lose its digits
    /// where they are nearly equal, and fall below 0.
    #[inline(always)]
    fn centered<V: Value>(&self, v: V, m: V, g: V) -> (V, V) {
        let spread = (g.clone() - m.clone()).square().scale(self.fresh);
        ((v + spread).scale(self.alpha), m.lerp(g, self.fresh))
    }

    #[inline(always)]
    fn scaled<V: Value>(&self, g: V, v: V) -> V {
        g / v.offset(self.inside).sqrt().offset(self.outside) // (2)
    }
}

impl Rule<1> for RmsProp<false, false> {
    type Step = Step;
    const NAME: &'static str = "rmsprop";
    const SLOTS: [&'static str; 1] = ["square_avg"];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> Step {
        self.step(clock)
    }

    #[inline(always)]
    fn update<V: Value>(s: &Step, p: V, g: V, [v]: [V; 1]) -> (V, [V; 1]) {
        let v = s.second(v, g.clone());
        (p - s.scaled(g, v.clone()).scale(s.lr), [v])
    }
}

impl Rule<2> for RmsProp<false, true> {
    type Step = Step;
    const NAME: &'static str = "rmsprop_momentum";
    const SLOTS: [&'static str; 2] = ["square_avg", "momentum_buffer"];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> Step {
        self.step(clock)
    }

    #[inline(always)]
    fn update<V: Value>(s: &Step, p: V, g: V, [v, b]: [V; 2]) -> (V, [V; 2]) {
        let v = s.second(v, g.clone());
        let b = b.scale(s.momentum) + s.scaled(g, v.clone());
        (p - b.clone().scale(s.lr), [v, b])
    }
}

impl Rule<2> for RmsProp<true, false> {
    type Step = Step;
    const NAME: &'static str = "rmsprop_centered";
    const SLOTS: [&'static str; 2] = ["variance", "grad_avg"];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> Step {
        self.step(clock)
    }

    #[inline(always)]
    fn update<V: Value>(s: &Step, p: V, g: V, [v, m]: [V; 2]) -> (V, [V; 2]) {
        let (v, m) = s.centered(v, m, g.clone());
        (p - s.scaled(g, v.clone()).scale(s.lr), [v, m])
    }
}

impl Rule<3> for RmsProp<true, true> {
    type Step = Step;
    const NAME: &'static str = "rmsprop_centered_momentum";
    const SLOTS: [&'static str; 3] = ["variance", "grad_avg", "momentum_buffer"];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> Step {
        self.step(clock)
    }

    #[inline(always)]
    fn update<V: Value>(s: &Step, p: V, g: V, [v, m, b]: [V; 3]) -> (V, [V; 3]) {
        let (v, m) = s.centered(v, m, g.clone());
        let b = b.scale(s.momentum) + s.scaled(g, v.clone());
        (p - b.clone().scale(s.lr), [v, m, b])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectories() {
        let plain = RmsPropConfig::new();
        golden(
            &plain.build().expect("valid"),
            0.1,
            [0.000000200, 0.449013374, -0.764750243, -2.785696396],
        );
        let centered = plain.with_centered(true).with_momentum(0.9).build().expect("valid");
        golden(&centered, 0.1, [-0.005037613, -0.460122949, -7.205628528, -11.670603083]);
    }

    #[test]
    fn epsilon_inside_the_root() {
        // v = 0.01 * 0.25: p = 1 - 0.1 * 0.5 / sqrt(0.0025 + 0.0011) = 1 - 0.05 / 0.06.
        let config = RmsPropConfig::new().with_epsilon(0.0011).with_epsilon_at(Epsilon::Inside);
        let mut walk = crate::Walk::new(&config.build().expect("valid"), &[1.0]);
        assert!((walk.step(0.1, &[0.5])[0] - (1.0 - 0.05 / 0.06)).abs() < 1e-12);
    }

    #[test]
    fn the_centered_moment_keeps_its_digits() {
        // Gradients 1000 +- 1: in f32 the moments about 0 differ by less than their last digit.
        use burn::optim::Optimizer;
        use burn::tensor::{Device, Tensor};
        let config = RmsPropConfig::new().with_centered(true).with_alpha(0.5).with_momentum(0.5);
        let rule = config.build().expect("valid");
        let (mut p, mut state) = (Tensor::<1>::zeros([1], &Device::flex()), None);
        let mut walk = crate::Walk::new(&rule, &[0.0]);
        for k in 0..30 {
            let g = 1000.0 + f64::from(k % 3 - 1);
            let exact = walk.step(1e-5, &[g])[0];
            let g = Tensor::<1>::from_floats([g as f32], &Device::flex());
            let (new, next) = rule.step(1e-5, p, g, state.take());
            (p, state) = (new, next);
            let seen = p.clone().into_scalar::<f64>();
            assert!((seen - exact).abs() <= 1e-3 * exact.abs(), "step {k}: {seen} for {exact}");
        }
    }

    #[test]
    fn a_constant_gradient_never_gives_nan_when_centered() {
        // In f32 the second moment less the square of the mean falls below 0 by rounding.
        use burn::optim::Optimizer;
        use burn::tensor::{Device, Tensor};
        let rule = RmsPropConfig::new().with_centered(true).with_alpha(0.5).build().expect("valid");
        let (mut p, mut state) = (Tensor::<1>::zeros([4], &Device::flex()), None);
        for _ in 0..60 {
            let g = Tensor::<1>::from_floats([0.1, 0.3, 0.7, 1.1], &Device::flex());
            let (new, next) = rule.step(1e-3, p, g, state.take());
            (p, state) = (new, next);
        }
        assert!(!p.clone().is_nan().any().into_scalar::<bool>(), "{p}");
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(RmsPropConfig::new().with_alpha(1.5).build(), "`alpha` must be in [0, 1], got 1.5");
        refused(
            RmsPropConfig::new().with_momentum(-0.5).build(),
            "`momentum` must be in [0, 1), got -0.5",
        );
    }
}
