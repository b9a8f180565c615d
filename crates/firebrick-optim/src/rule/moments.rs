//! The two moments of Adam and the constants of their step, shared by the rules built on them.

use crate::recurrence::Clock;
use crate::value::Value;
use firebrick_core::{ConfigError, check};

/// The validated numbers of Adam.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    pub(super) beta_1: f64,
    pub(super) beta_2: f64,
    pub(super) epsilon: f64,
}

/// The constants of one step.
#[derive(Clone, Copy)]
pub(super) struct Step {
    /// 1 - b1.
    pub(super) fresh_1: f64,
    pub(super) beta_1: f64,
    pub(super) beta_2: f64,
    /// 1 - b2.
    pub(super) fresh_2: f64,
    /// lr / (1 - b1^t).
    pub(super) lr: f64,
    /// 1 / (1 - b1^t).
    pub(super) correct_1: f64,
    /// 1 / (1 - b2^t).
    pub(super) correct: f64,
    /// 1 / sqrt(1 - b2^t).
    pub(super) root: f64,
    pub(super) epsilon: f64,
}

impl Moments {
    pub(super) fn new(beta_1: f64, beta_2: f64, epsilon: f64) -> Result<Self, ConfigError> {
        Ok(Self {
            beta_1: check::range("beta_1", beta_1, 0.0..1.0)?,
            beta_2: check::range("beta_2", beta_2, 0.0..1.0)?,
            epsilon: check::non_negative("epsilon", epsilon)?,
        })
    }

    pub(super) fn step(&self, clock: &Clock) -> Step {
        let t = clock.t as f64;
        let (c1, c2) = (1.0 - self.beta_1.powf(t), 1.0 - self.beta_2.powf(t));
        Step {
            fresh_1: 1.0 - self.beta_1,
            beta_1: self.beta_1,
            beta_2: self.beta_2,
            fresh_2: 1.0 - self.beta_2,
            lr: clock.lr / c1,
            correct_1: 1.0 / c1,
            correct: 1.0 / c2,
            root: 1.0 / c2.sqrt(),
            epsilon: self.epsilon,
        }
    }
}

impl Step {
    /// `m = b1 m + (1 - b1) g`.
    #[inline(always)]
    pub(super) fn first<V: Value>(&self, m: V, g: V) -> V {
        m.lerp(g, self.fresh_1)
    }

    /// `v = b2 v + (1 - b2) g^2`.
    #[inline(always)]
    pub(super) fn second<V: Value>(&self, v: V, g: V) -> V {
        v.scale(self.beta_2) + g.square().scale(self.fresh_2)
    }

    /// `sqrt(v / (1 - b2^t)) + eps`.
    #[inline(always)]
    pub(super) fn denominator<V: Value>(&self, v: V) -> V {
        v.sqrt().scale(self.root).offset(self.epsilon)
    }
}
