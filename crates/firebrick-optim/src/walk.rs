//! A rule on a few numbers in f64: for references, and to draw trajectories.

use crate::elementwise::{Clock, Elementwise};

/// A point that an element-wise rule moves, one f64 per coordinate; weight decay applies to all of them.
///
/// ```
/// use firebrick_optim::{SgdConfig, Walk};
///
/// // f(x) = 0.1 x1^2 + 2 x2^2 from (-5, -2): at rate 0.6 plain descent overshoots along x2.
/// let mut walk = Walk::new(&SgdConfig::new().build()?, &[-5.0, -2.0]);
/// for _ in 0..20 {
///     let [x1, x2] = [walk.point()[0], walk.point()[1]];
///     walk.step(0.6, &[0.2 * x1, 4.0 * x2]);
/// }
/// assert!(walk.point()[1].abs() > 100.0);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Walk {
    optimizer: Elementwise,
    time: u64,
    point: Vec<f64>,
    memory: Vec<f64>,
    state: Vec<Vec<f64>>,
}

impl Walk {
    /// Starts at `point`.
    #[must_use]
    pub fn new(optimizer: &Elementwise, point: &[f64]) -> Self {
        Self {
            memory: optimizer.rule().memory(),
            optimizer: optimizer.clone(),
            time: 0,
            point: point.to_vec(),
            state: Vec::new(),
        }
    }

    /// Moves by one step along `grad`; coordinates without a gradient stay.
    pub fn step(&mut self, lr: f64, grad: &[f64]) -> &[f64] {
        self.time += 1;
        let clock = Clock::new(lr, self.time);
        let around = self.optimizer.around(&clock, 1.0);
        let rule = self.optimizer.rule();
        if self.state.is_empty() {
            self.state = vec![rule.start(lr); self.point.len()];
        }
        let before = self.memory.clone();
        for ((point, &grad), state) in self.point.iter_mut().zip(grad).zip(&mut self.state) {
            // Every coordinate takes the same step: each starts from the same memory.
            self.memory.copy_from_slice(&before);
            *point = rule.run_f64(&clock, &mut self.memory, &around, *point, grad, state);
        }
        &self.point
    }

    /// Where it stands.
    #[must_use]
    pub fn point(&self) -> &[f64] {
        &self.point
    }
}
