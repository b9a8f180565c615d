//! The course of the learning rate within a phase.

use firebrick_core::{ConfigError, check};
use firebrick_optim::schedule::{ConstantConfig, CosineConfig, Schedule};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// The course of the learning rate within a phase: what the phase's rate is multiplied by.
///
/// ```
/// use firebrick_transfer::Shape;
///
/// let triangle = Shape::Triangle { cut: 0.1, ratio: 32.0 }.schedule(0.01, 100)?;
/// assert_eq!(triangle.rate(10), 0.01);
/// assert_eq!(triangle.rate(0), 0.01 / 32.0);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Shape {
    /// The same rate throughout.
    Constant,
    /// Half a cosine down to 0.
    Cosine,
    /// fastai's one cycle over `N` steps: with `p = k / N`, half a cosine from `rate / div` to `rate` while
    /// `p < start`, then one to `rate / div_final`; momentum .95, .85, .95 likewise.
    OneCycle {
        /// Share of the steps in which the rate rises.
        start: f64,
        /// The first rate is the peak divided by this.
        div: f64,
        /// The last rate is the peak divided by this.
        div_final: f64,
    },
    /// ULMFiT's slanted triangle over `T` steps: with `c = floor(cut T)`, `p = t / c` while `t < c`, then
    /// `1 - (t - c) / (c (1 / cut - 1))`; the rate is `rate (1 + p (ratio - 1)) / ratio`.
    ///
    /// J. Howard, S. Ruder, "Universal language model fine-tuning", ACL 2018.
    Triangle {
        /// Share of the steps in which the rate rises; 0.1 in the paper.
        cut: f64,
        /// How much smaller the lowest rate is than the largest; 32 in the paper.
        ratio: f64,
    },
}

impl Shape {
    /// Checks the numbers.
    ///
    /// # Errors
    /// With the first that is out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        match *self {
            Self::Constant | Self::Cosine => {}
            Self::OneCycle { start, div, div_final } => {
                check::range("start", start, 0.0..=1.0)?;
                check::positive("div", div)?;
                check::positive("div_final", div_final)?;
            }
            Self::Triangle { cut, ratio } => {
                check::range("cut", cut, 0.0..1.0)?;
                check::range("ratio", ratio, 1.0..)?;
            }
        }
        Ok(())
    }

    /// The schedule of a phase of `steps` steps whose peak is `rate`.
    ///
    /// # Errors
    /// When the rate is negative, NaN or infinite, there is no step, or a number of the shape is out of range.
    pub fn schedule(&self, rate: f64, steps: u64) -> Result<Box<dyn Schedule>, ConfigError> {
        self.check()?;
        check::non_negative("rate", rate)?;
        check::at_least("steps", steps as usize, 1)?;
        Ok(match *self {
            Self::Constant => Box::new(ConstantConfig::new(rate).build()?),
            Self::Cosine => Box::new(CosineConfig::new(rate, steps as usize).build()?),
            shape => Box::new(Course { shape, rate, steps }),
        })
    }
}

/// The shapes that firebrick-optim does not have.
#[derive(Debug, Clone, PartialEq)]
struct Course {
    shape: Shape,
    rate: f64,
    steps: u64,
}

/// Half a cosine from `from` to `to`, as fastai computes it.
fn half_cosine(from: f64, to: f64, position: f64) -> f64 {
    from + (1.0 + (PI * (1.0 - position)).cos()) * (to - from) / 2.0
}

/// fastai's two half cosines, at `position` of the whole.
fn two_cosines(start: f64, values: [f64; 3], position: f64) -> f64 {
    if position < start {
        half_cosine(values[0], values[1], position / start)
    } else if start >= 1.0 {
        values[1]
    } else {
        half_cosine(values[1], values[2], (position - start) / (1.0 - start))
    }
}

impl Schedule for Course {
    fn rate(&self, k: u64) -> f64 {
        let (k, steps) = (k.min(self.steps) as f64, self.steps as f64);
        match self.shape {
            Shape::OneCycle { start, div, div_final } => {
                let values = [self.rate / div, self.rate, self.rate / div_final];
                two_cosines(start, values, k / steps)
            }
            Shape::Triangle { cut, ratio } => {
                let top = (steps * cut).floor();
                let position = if k < top {
                    k / top
                } else if top == 0.0 {
                    1.0 - k / steps
                } else {
                    1.0 - (k - top) / (top * (1.0 / cut - 1.0))
                };
                self.rate * (1.0 + position.max(0.0) * (ratio - 1.0)) / ratio
            }
            Shape::Constant | Shape::Cosine => self.rate,
        }
    }

    fn momentum(&self, k: u64) -> Option<f64> {
        match self.shape {
            Shape::OneCycle { start, .. } => {
                let position = k.min(self.steps) as f64 / self.steps as f64;
                Some(two_cosines(start, [0.95, 0.85, 0.95], position))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_triangle_is_the_papers_at_every_step() {
        let (cut, ratio, steps) = (0.1, 32.0, 230u64);
        let schedule = Shape::Triangle { cut, ratio }.schedule(0.01, steps).expect("valid");
        for t in 0..steps {
            let t_ = t as f64;
            let p = if t < 23 { t_ / 23.0 } else { 1.0 - (t_ - 23.0) / (23.0 * 9.0) };
            let expected = 0.01 * (1.0 + p * 31.0) / 32.0;
            assert!((schedule.rate(t) - expected).abs() < 1e-15, "{t}");
        }
        // Fewer steps than 1 / cut: no rise.
        let short = Shape::Triangle { cut, ratio }.schedule(0.01, 4).expect("valid");
        assert_eq!(short.rate(0), 0.01);
        assert!((0..10).all(|k| short.rate(k).is_finite() && short.rate(k) > 0.0));
    }

    #[test]
    fn the_cycle_rises_to_its_peak_and_ends_far_below() {
        let shape = Shape::OneCycle { start: 0.25, div: 25.0, div_final: 1e5 };
        let schedule = shape.schedule(1.0, 100).expect("valid");
        assert!((schedule.rate(0) - 0.04).abs() < 1e-15 && (schedule.rate(25) - 1.0).abs() < 1e-15);
        assert!((schedule.rate(100) - 1e-5).abs() < 1e-12);
        let momenta = [0, 25, 100].map(|k| schedule.momentum(k).expect("moves"));
        for (found, expected) in momenta.iter().zip([0.95, 0.85, 0.95]) {
            assert!((found - expected).abs() < 1e-15);
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn recorded_courses_are_met_at_every_step() {
        use crate::testing::recorded::cases;
        for case in cases("one_cycle") {
            let (start, div) = (case.number("start"), case.number("div"));
            let (rate, steps) = (case.number("rate"), case.number("steps") as u64);
            let shape = Shape::OneCycle { start, div, div_final: 1e5 };
            let schedule = shape.schedule(rate, steps).expect("valid");
            let rates = (0..steps).map(|k| schedule.rate(k));
            let momenta = (0..steps).filter_map(|k| schedule.momentum(k));
            let found: Vec<f64> = rates.chain(momenta).collect();
            for (found, expected) in found.iter().zip(&case.output) {
                // The file keeps twelve digits.
                assert!((found / expected - 1.0).abs() < 1e-11, "{found} {expected}");
            }
            assert_eq!(found.len(), case.output.len());
        }
        for case in cases("triangle") {
            let shape = Shape::Triangle { cut: 0.1, ratio: 32.0 };
            let steps = case.number("steps") as u64;
            let schedule = shape.schedule(case.number("rate"), steps).expect("valid");
            for (k, expected) in case.output.iter().enumerate() {
                assert!((schedule.rate(k as u64) / expected - 1.0).abs() < 1e-11, "{k}");
            }
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert!(Shape::Cosine.schedule(f64::NAN, 10).is_err());
        assert!(Shape::Constant.schedule(0.1, 0).is_err());
        assert!(Shape::Triangle { cut: 1.0, ratio: 32.0 }.check().is_err());
        assert!(Shape::Triangle { cut: 0.1, ratio: 0.5 }.check().is_err());
        assert!(Shape::OneCycle { start: 1.5, div: 1.0, div_final: 1.0 }.check().is_err());
    }
}
