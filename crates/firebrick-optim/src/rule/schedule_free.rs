//! Schedule-Free SGD and AdamW: no schedule and no known end; the path is averaged as it goes.
//!
//! # Update
//! Three points: z steps, x is the average, y between them is trained, and is what the module holds.
//! ```text
//! lr_t = lr min(1, t / W),  w_t = t^r (max lr_i)^q,  c_t = w_t / sum w_i
//! d_t  = g_t + wd y                                            SGD
//! d_t  = g_t / (sqrt(v_t / (1 - b2^t)) + eps) + wd y           AdamW
//! y    = y + c_t (z - y) + lr_t (b (1 - c_t) - 1) d_t          (1)
//! z    = z - lr_t d_t                                          (2)
//! x    = y + (1 - 1 / b) (z - y)                               (3), to evaluate
//! ```
//! AdamW with `amsgrad` keeps the largest corrected v so far in place of it. With `decoupling_c` C above 0 its c_t is
//! `min(1, C (1 - b) c_t)`, so that the average forgets as fast as is asked for, whatever b is.
//!
//! [`FusedOptimizer::evaluation`](crate::FusedOptimizer::evaluation) makes the model at x beside the one that trains,
//! so that no mode has to be switched. Running statistics of batch normalization belong to y and must be recomputed at x.
//!
//! # Reference
//! A. Defazio et al., "The road less scheduled", 2024, arXiv 2405.15682, and the authors' code; `decoupling_c`: M. Song et
//! al., "Through the river", 2025, arXiv 2507.09846. The rate is 10 to 50
//! times that of scheduled SGD, 1 to 10 times that of AdamW.

use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::{ConfigError, check};
use std::ops::Bound;

/// Configuration of [Schedule-Free SGD](self).
#[derive(Config, Debug)]
pub struct ScheduleFreeSgdConfig {
    /// Where y stands between z and x, b, in `(0, 1)`.
    #[config(default = 0.9)]
    pub momentum: f64,
    /// Steps of linear warm-up, W.
    #[config(default = 0)]
    pub warmup: usize,
    /// Exponent of the step in the weights, in `[0, inf)`.
    #[config(default = 0.0)]
    pub r: f64,
    /// Exponent of the largest rate in the weights, q, in `[0, inf)`.
    #[config(default = 2.0)]
    pub weight_lr_power: f64,
    /// Strength of weight decay at y, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
}

impl ScheduleFreeSgdConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let average = Average {
            b: share("momentum", self.momentum)?,
            warmup: self.warmup,
            r: check::non_negative("r", self.r)?,
            power: check::non_negative("weight_lr_power", self.weight_lr_power)?,
            decoupling: 0,
            weight_decay: self.weight_decay,
        };
        Elementwise::new(FreeSgd(average)).with_decay(Decay::Inner(self.weight_decay))
    }
}
super::doors!(ScheduleFreeSgdConfig);

/// Configuration of [Schedule-Free AdamW](self).
#[derive(Config, Debug)]
pub struct ScheduleFreeAdamWConfig {
    /// Where y stands between z and x, b, in `(0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// Steps of linear warm-up, W.
    #[config(default = 0)]
    pub warmup: usize,
    /// Exponent of the step in the weights, in `[0, inf)`.
    #[config(default = 0.0)]
    pub r: f64,
    /// Exponent of the largest rate in the weights, q, in `[0, inf)`.
    #[config(default = 2.0)]
    pub weight_lr_power: f64,
    /// Strength of weight decay at y, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Whether the second moment may not fall.
    #[config(default = false)]
    pub amsgrad: bool,
    /// C of the shorter average; 0 for the plain one.
    #[config(default = 0)]
    pub decoupling_c: usize,
}

impl ScheduleFreeAdamWConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let average = Average {
            b: share("beta_1", self.beta_1)?,
            warmup: self.warmup,
            r: check::non_negative("r", self.r)?,
            power: check::non_negative("weight_lr_power", self.weight_lr_power)?,
            decoupling: self.decoupling_c,
            weight_decay: self.weight_decay,
        };
        let beta_2 = check::range("beta_2", self.beta_2, 0.0..1.0)?;
        let epsilon = check::non_negative("epsilon", self.epsilon)?;
        let optimizer = if self.amsgrad {
            Elementwise::new(FreeAdamW::<true> { average, beta_2, epsilon })
        } else {
            Elementwise::new(FreeAdamW::<false> { average, beta_2, epsilon })
        };
        optimizer.with_decay(Decay::Inner(self.weight_decay))
    }
}
super::doors!(ScheduleFreeAdamWConfig);

/// Checks where y stands.
fn share(field: &str, b: f64) -> Result<f64, ConfigError> {
    check::range(field, b, (Bound::Excluded(0.0), Bound::Excluded(1.0)))
}

#[derive(Debug, Clone)]
struct Average {
    b: f64,
    warmup: usize,
    r: f64,
    power: f64,
    decoupling: usize,
    weight_decay: f64,
}

#[derive(Clone, Copy)]
struct AverageStep {
    lr: f64,
    c: f64,
    b: f64,
    weight_decay: f64,
    first: bool,
}

impl Average {
    /// What (3) needs: the slot of z, and the factor of `z - y`.
    fn evaluation(&self) -> (usize, f64) {
        (0, 1.0 - 1.0 / self.b)
    }

    /// `memory`: the largest rate so far, the sum of the weights.
    fn at(&self, clock: &Clock, memory: &mut [f64]) -> AverageStep {
        let t = clock.t as f64;
        let share = if self.warmup == 0 { 1.0 } else { (t / self.warmup as f64).min(1.0) };
        let lr = clock.lr * share;
        let [largest, sum] = match *memory {
            [largest, sum] => [lr.max(largest), sum],
            _ => [lr, 0.0],
        };
        let weight = t.powf(self.r) * largest.powf(self.power);
        memory.copy_from_slice(&[largest, sum + weight]);
        let c = if sum + weight == 0.0 { 0.0 } else { weight / (sum + weight) };
        let c = match self.decoupling {
            0 => c,
            decoupling => (c * (1.0 - self.b) * decoupling as f64).min(1.0),
        };
        let weight_decay = if clock.decays { self.weight_decay } else { 0.0 };
        AverageStep { lr, c, b: self.b, weight_decay, first: clock.t == 1 }
    }
}

impl AverageStep {
    /// z starts where the parameter is.
    #[inline(always)]
    fn from<V: Value>(&self, y: &V, z: V) -> V {
        if self.first { y.clone() } else { z }
    }

    #[inline(always)]
    fn step<V: Value>(&self, y: V, z: V, d: V) -> (V, V) {
        let d = d + y.clone().scale(self.weight_decay);
        let mixed =
            y.lerp(z.clone(), self.c) + d.clone().scale(self.lr * (self.b * (1.0 - self.c) - 1.0)); // (1)
        (mixed, z - d.scale(self.lr)) // (2)
    }
}

#[derive(Debug, Clone)]
struct FreeSgd(Average);

impl Rule<1> for FreeSgd {
    type Step = AverageStep;
    const NAME: &'static str = "schedule_free_sgd";
    const SLOTS: [&'static str; 1] = ["z"];

    fn memory(&self) -> Vec<f64> {
        vec![0.0, 0.0]
    }

    fn evaluation(&self) -> Option<(usize, f64)> {
        Some(self.0.evaluation())
    }

    fn at(&self, clock: &Clock, memory: &mut [f64]) -> AverageStep {
        self.0.at(clock, memory)
    }

    #[inline(always)]
    fn update<V: Value>(s: &AverageStep, y: V, g: V, [z]: [V; 1]) -> (V, [V; 1]) {
        let z = s.from(&y, z);
        let (y, z) = s.step(y, z, g);
        (y, [z])
    }
}

#[derive(Debug, Clone)]
struct FreeAdamW<const AMS: bool> {
    average: Average,
    beta_2: f64,
    epsilon: f64,
}

#[derive(Clone, Copy)]
struct AdamWStep {
    average: AverageStep,
    beta_2: f64,
    fresh: f64,
    root: f64,
    /// Its square.
    correct: f64,
    epsilon: f64,
}

impl<const AMS: bool> FreeAdamW<AMS> {
    fn step(&self, clock: &Clock, memory: &mut [f64]) -> AdamWStep {
        let correct = 1.0 / (1.0 - self.beta_2.powf(clock.t as f64));
        AdamWStep {
            average: self.average.at(clock, memory),
            beta_2: self.beta_2,
            fresh: 1.0 - self.beta_2,
            root: correct.sqrt(),
            correct,
            epsilon: self.epsilon,
        }
    }
}

impl AdamWStep {
    #[inline(always)]
    fn second<V: Value>(&self, v: V, g: V) -> V {
        v.scale(self.beta_2) + g.square().scale(self.fresh)
    }
}

impl Rule<2> for FreeAdamW<false> {
    type Step = AdamWStep;
    const NAME: &'static str = "schedule_free_adamw";
    const SLOTS: [&'static str; 2] = ["z", "exp_avg_sq"];

    fn memory(&self) -> Vec<f64> {
        vec![0.0, 0.0]
    }

    fn evaluation(&self) -> Option<(usize, f64)> {
        Some(self.average.evaluation())
    }

    fn at(&self, clock: &Clock, memory: &mut [f64]) -> AdamWStep {
        self.step(clock, memory)
    }

    #[inline(always)]
    fn update<V: Value>(s: &AdamWStep, y: V, g: V, [z, v]: [V; 2]) -> (V, [V; 2]) {
        let z = s.average.from(&y, z);
        let v = s.second(v, g.clone());
        let d = g / v.clone().sqrt().scale(s.root).offset(s.epsilon);
        let (y, z) = s.average.step(y, z, d);
        (y, [z, v])
    }
}

impl Rule<3> for FreeAdamW<true> {
    type Step = AdamWStep;
    const NAME: &'static str = "schedule_free_adamw_amsgrad";
    const SLOTS: [&'static str; 3] = ["z", "exp_avg_sq", "max_exp_avg_sq"];

    fn memory(&self) -> Vec<f64> {
        vec![0.0, 0.0]
    }

    fn evaluation(&self) -> Option<(usize, f64)> {
        Some(self.average.evaluation())
    }

    fn at(&self, clock: &Clock, memory: &mut [f64]) -> AdamWStep {
        self.step(clock, memory)
    }

    #[inline(always)]
    fn update<V: Value>(s: &AdamWStep, y: V, g: V, [z, v, x]: [V; 3]) -> (V, [V; 3]) {
        let z = s.average.from(&y, z);
        let v = s.second(v, g.clone());
        let x = x.max(v.clone().scale(s.correct));
        let d = g / x.clone().sqrt().offset(s.epsilon);
        let (y, z) = s.average.step(y, z, d);
        (y, [z, v, x])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = ScheduleFreeAdamWConfig::new().with_warmup(2).build().expect("valid");
        golden(&rule, 0.1, [0.950000001, 1.001869138, 0.853412437, -0.714033150]);
    }

    #[test]
    fn the_average_of_sgd_is_the_mean_of_the_steps() {
        // With a constant rate and r = 0, x is the plain mean of z_1 .. z_t.
        let rule = ScheduleFreeSgdConfig::new().build().expect("valid");
        let grads = [1.0, -2.0, 0.5, 3.0];
        let (mut z, mut sum) = (5.0, 0.0);
        let mut walk = crate::Walk::new(&rule, &[5.0]);
        for (k, g) in grads.into_iter().enumerate() {
            walk.step(0.1, &[g]);
            z -= 0.1 * g;
            sum += z;
            let x = walk.evaluation()[0];
            assert!((x - sum / (k + 1) as f64).abs() < 1e-12, "step {k}: {x}");
        }
    }

    /// The first step of every form is the rate along the sign; then g = 0, whose v falls.
    #[test]
    fn the_largest_moment_and_the_shorter_average_by_hand() {
        let config = ScheduleFreeAdamWConfig::new().with_beta_2(0.5).with_epsilon(0.0);
        let second = |config: ScheduleFreeAdamWConfig| {
            let mut walk = crate::Walk::new(&config.build().expect("valid"), &[0.0]);
            let first = walk.step(0.1, &[2.0])[0];
            (first, walk.step(0.1, &[1.0])[0])
        };
        // c_1 = 1: y = z_0 - 0.1, z = -0.1. Then v = (4 / 4 + 1 / 2) / (3 / 4) = 2, c_2 = 1 / 2, b = 0.9.
        let by = |c: f64, d: f64| -0.1 + 0.1 * (0.9 * (1.0 - c) - 1.0) * d;
        let (first, plain) = second(config.clone());
        assert!((first + 0.1).abs() < 1e-14 && (plain - by(0.5, 0.5f64.sqrt())).abs() < 1e-14);
        // The first corrected v is 4.
        let (_, ams) = second(config.clone().with_amsgrad(true));
        assert!((ams - by(0.5, 0.5)).abs() < 1e-14, "{ams}");
        // C = 4: c_1 = 0.4, so y = 0.1 (0.9 * 0.6 - 1), z = -0.1; c_2 = 0.2.
        let (first, short) = second(config.with_decoupling_c(4));
        assert!((first + 0.046).abs() < 1e-14, "{first}");
        let expected = first + 0.2 * (-0.1 - first) + 0.1 * (0.9 * 0.8 - 1.0) * 0.5f64.sqrt();
        assert!((short - expected).abs() < 1e-14, "{short}");
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(
            ScheduleFreeSgdConfig::new().with_momentum(0.0).build(),
            "`momentum` must be in (0, 1), got 0",
        );
        refused(
            ScheduleFreeAdamWConfig::new().with_beta_1(1.0).build(),
            "`beta_1` must be in (0, 1), got 1",
        );
    }
}
