//! One cycle: up to a large rate, then far below the first one, with the momentum mirrored.
//!
//! # Reference
//! Smith, Topin: Super-Convergence, 2018, arXiv 1708.07120. Two phases are PyTorch's and fastai's form, three the paper's.
//!
//! # Differences
//! The rates are those of PyTorch's `OneCycleLR`: the peak at `p N - 1`, the last at `N - 1` (optax's come one update
//! later). Where a phase has no length PyTorch divides by zero (`p N = 1`, `p = 1`) or starts below the peak
//! (`p = 0`) or uses the lowest rate only (`N = 1`); here an empty rise means that the cycle starts at its peak.
//! Past the end PyTorch raises; here the last rate is held.

use super::Schedule;
use super::cosine::half_cosine;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// The shape of each phase of a [`OneCycle`].
#[derive(Config, Debug, PartialEq, Eq, Copy)]
pub enum Anneal {
    /// Half a cosine.
    Cosine,
    /// A straight line.
    Linear,
}

impl Anneal {
    fn between(self, from: f64, to: f64, position: f64) -> f64 {
        match self {
            Self::Cosine => half_cosine(from, to, position),
            Self::Linear => from + (to - from) * position,
        }
    }
}

/// Configuration of [`OneCycle`].
///
/// | field | symbol | default | range |
/// | --- | --- | --- | --- |
/// | `max_lr` | L | required | `[0, inf)` |
/// | `num_steps` | N | required | at least 1 |
/// | `pct_start` | p | 0.3 | `[0, 1]`, with three phases `[0, 0.5]` |
/// | `anneal` | | `Cosine` | |
/// | `div_factor` | d | 25 | `(0, inf)` |
/// | `final_div_factor` | f | 1e4 | `(0, inf)` |
/// | `three_phase` | | false | |
/// | `max_momentum` | | 0.95 | `[0, 1)` |
/// | `base_momentum` | | 0.85 | `[0, max_momentum]` |
#[derive(Config, Debug)]
pub struct OneCycleConfig {
    /// The peak.
    pub max_lr: f64,
    /// Updates of the cycle.
    pub num_steps: usize,
    /// Share of the updates in which the rate rises.
    #[config(default = 0.3)]
    pub pct_start: f64,
    /// Shape of the phases.
    #[config(default = "Anneal::Cosine")]
    pub anneal: Anneal,
    /// The first rate is `max_lr / div_factor`.
    #[config(default = 25.0)]
    pub div_factor: f64,
    /// The last rate is the first one divided by this.
    #[config(default = 1e4)]
    pub final_div_factor: f64,
    /// Whether the rate falls to the first one as fast as it rose, before it falls to the last.
    #[config(default = false)]
    pub three_phase: bool,
    /// Momentum at the first rate.
    #[config(default = 0.95)]
    pub max_momentum: f64,
    /// Momentum at the peak.
    #[config(default = 0.85)]
    pub base_momentum: f64,
}

impl OneCycleConfig {
    /// Checks the configuration and makes the schedule.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn build(&self) -> Result<OneCycle, ConfigError> {
        check::non_negative("max_lr", self.max_lr)?;
        check::at_least("num_steps", self.num_steps, 1)?;
        let longest = if self.three_phase { 0.5 } else { 1.0 };
        check::range("pct_start", self.pct_start, 0.0..=longest)?;
        check::positive("div_factor", self.div_factor)?;
        check::positive("final_div_factor", self.final_div_factor)?;
        check::range("max_momentum", self.max_momentum, 0.0..1.0)?;
        check::range("base_momentum", self.base_momentum, 0.0..=self.max_momentum)?;
        let peak_at = (self.pct_start * self.num_steps as f64 - 1.0).max(0.0);
        Ok(self.with_peak_at(peak_at, self.num_steps as u64 - 1))
    }

    /// The schedule with its peak at a place that need not be an update's, nor even in the cycle; from `last_step` on
    /// the rate is held.
    pub(super) fn with_peak_at(&self, peak_at: f64, last_step: u64) -> OneCycle {
        let first = self.max_lr / self.div_factor;
        let last = first / self.final_div_factor;
        let (low, high) = (self.base_momentum, self.max_momentum);
        let end = self.num_steps as f64 - 1.0;
        let mut phases = vec![
            Phase { end: peak_at, rates: (first, self.max_lr), momenta: (high, low) },
            Phase { end, rates: (self.max_lr, last), momenta: (low, high) },
        ];
        if self.three_phase {
            let back =
                Phase { end: 2.0 * peak_at, rates: (self.max_lr, first), momenta: (low, high) };
            phases[1] = Phase { end, rates: (first, last), momenta: (high, high) };
            phases.insert(1, back);
        }
        OneCycle { phases, anneal: self.anneal, last_step }
    }
}

init!(OneCycleConfig);

#[derive(Debug, Clone, PartialEq)]
struct Phase {
    end: f64,
    rates: (f64, f64),
    momenta: (f64, f64),
}

/// `L/d` to `L` over `k` in `[0, pN - 1]`, then `L` to `L/(d f)` until `N - 1`; momentum the other way round.
///
/// With three phases `L` falls back to `L/d` until `2 (pN - 1)`, then to `L/(d f)`, momentum at its maximum.
///
/// | k | 0 | 1 | 2 | 3 | 9 and later |
/// | --- | --- | --- | --- | --- | --- |
/// | rate, L = 1, N = 10 | 0.04 | 0.52 | 1 | 0.950485 | 0.000004 |
/// | momentum | 0.95 | 0.9 | 0.85 | 0.854952 | 0.95 |
/// | rate, three phases | 0.04 | 0.52 | 1 | 0.52 | 0.000004 |
///
/// ```
/// use firebrick_optim::schedule::{OneCycleConfig, Schedule};
/// let schedule = OneCycleConfig::new(1.0, 10).build()?;
/// assert_eq!((schedule.rate(2), schedule.momentum(2)), (1.0, Some(0.85)));
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct OneCycle {
    phases: Vec<Phase>,
    anneal: Anneal,
    last_step: u64,
}

impl OneCycle {
    fn at(&self, k: u64, ends: impl Fn(&Phase) -> (f64, f64)) -> f64 {
        let k = k.min(self.last_step) as f64;
        let index = self.phases.iter().position(|phase| k <= phase.end);
        let index = index.unwrap_or(self.phases.len() - 1);
        let phase = &self.phases[index];
        let start = if index == 0 { 0.0 } else { self.phases[index - 1].end };
        let (from, to) = ends(phase);
        let length = phase.end - start;
        // A phase without length is over when it starts.
        let position = if length > 0.0 { (k - start) / length } else { 1.0 };
        self.anneal.between(from, to, position)
    }
}

impl Schedule for OneCycle {
    fn rate(&self, k: u64) -> f64 {
        self.at(k, |phase| phase.rates)
    }

    fn momentum(&self, k: u64) -> Option<f64> {
        Some(self.at(k, |phase| phase.momenta))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::{assert_table, refused};

    fn ten() -> OneCycleConfig {
        OneCycleConfig::new(1.0, 10)
    }

    #[test]
    fn table() {
        let schedule = ten().build().expect("valid");
        let after = 4e-6 + (1.0 - 4e-6) * (1.0 + (PI / 7.0).cos()) / 2.0;
        assert_table(
            &schedule,
            &[(0, 0.04), (1, 0.52), (2, 1.0), (3, after), (9, 4e-6), (99, 4e-6)],
        );
        assert!((after - 0.950_485).abs() < 1e-6);
        let momenta = [(0, 0.95), (1, 0.9), (2, 0.85), (3, 0.854_951_556_604_879), (9, 0.95)];
        for (k, expected) in momenta {
            let momentum = schedule.momentum(k).expect("one cycle moves the momentum");
            assert!((momentum - expected).abs() < 1e-12, "momentum({k}) is {momentum}");
        }
        let three = ten().with_three_phase(true).build().expect("valid");
        assert_table(&three, &[(0, 0.04), (1, 0.52), (2, 1.0), (3, 0.52), (9, 4e-6), (99, 4e-6)]);
    }

    /// The values that the survey of PyTorch's schedules recorded, to its five decimals.
    #[test]
    fn agrees_with_recorded_values() {
        let two = [0.04, 0.52, 1.0, 0.95048, 0.81175, 0.61126, 0.38874, 0.18826, 0.04952, 0.0];
        let three = [0.04, 0.52, 1.0, 0.52, 0.04, 0.03618, 0.02618, 0.01382, 0.00382, 0.0];
        for (config, recorded) in [(ten(), two), (ten().with_three_phase(true), three)] {
            let schedule = config.build().expect("valid");
            for (k, expected) in recorded.into_iter().enumerate() {
                assert!((schedule.rate(k as u64) - expected).abs() < 6e-6, "update {k}");
            }
        }
    }

    #[test]
    fn momentum_stays_at_its_maximum_in_the_third_phase() {
        let schedule = ten().with_three_phase(true).build().expect("valid");
        let momenta: Vec<f64> = (4..12).filter_map(|k| schedule.momentum(k)).collect();
        assert_eq!(momenta, [0.95; 8]);
    }

    /// torch divides by zero at `p N = 1` and at `p = 1`, and never reaches the peak at 0.
    #[test]
    fn phases_without_length_are_defined() {
        for (steps, pct) in
            [(100, 0.01), (100, 0.0), (100, 1.0), (1, 0.3), (1, 0.0), (1, 1.0), (2, 0.5f64)]
        {
            for three in [false, true] {
                let config = OneCycleConfig::new(1.0, steps).with_three_phase(three);
                let schedule = config.with_pct_start(f64::min(pct, if three { 0.5 } else { 1.0 }));
                let schedule = schedule.build().expect("valid");
                let rates: Vec<f64> = (0..steps as u64 + 5).map(|k| schedule.rate(k)).collect();
                assert!(rates.iter().all(|rate| rate.is_finite() && *rate > 0.0), "{rates:?}");
                assert!(
                    (0..9)
                        .all(|k| schedule.momentum(k).is_some_and(|m| (0.85..=0.95).contains(&m)))
                );
                if pct * steps as f64 <= 1.0 {
                    assert_eq!(rates[0], 1.0, "an empty rise starts at the peak");
                }
            }
        }
    }

    #[test]
    fn refuses() {
        assert!(
            refused(OneCycleConfig::new(1.0, 0).build()).contains("`num_steps` must be at least 1")
        );
        assert!(
            refused(ten().with_pct_start(1.1).build()).contains("`pct_start` must be in [0, 1]")
        );
        let three = ten().with_three_phase(true).with_pct_start(0.6).build();
        assert_eq!(refused(three), "`pct_start` must be in [0, 0.5], got 0.6");
        assert!(refused(ten().with_div_factor(0.0).build()).contains("`div_factor`"));
        assert!(
            refused(ten().with_final_div_factor(f64::NAN).build()).contains("`final_div_factor`")
        );
        assert!(
            refused(ten().with_max_momentum(1.0).build())
                .contains("`max_momentum` must be in [0, 1)")
        );
        assert!(
            refused(ten().with_base_momentum(0.99).build())
                .contains("`base_momentum` must be in [0, 0.95]")
        );
    }

    use std::f64::consts::PI;
}
