//! A rule on a few numbers in f64: for references, and to draw trajectories.

use crate::elementwise::Elementwise;
use crate::recurrence::Clock;
use crate::state::RuleState;
use burn::tensor::{DType, Device, Tensor, TensorData};

/// A point that a rule moves, one f64 per coordinate; weight decay applies to all of them.
///
/// Rules that look at a whole tensor see the point as one vector, on burn's default device.
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
    /// The state of a rule that looks at all coordinates at once.
    whole: Option<RuleState<1>>,
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
            whole: None,
        }
    }

    /// Moves by one step along `grad`; coordinates without a gradient stay.
    pub fn step(&mut self, lr: f64, grad: &[f64]) -> &[f64] {
        if !self.optimizer.is_elementwise() {
            return self.step_whole(lr, grad);
        }
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

    fn step_whole(&mut self, lr: f64, grad: &[f64]) -> &[f64] {
        let device = Device::default();
        let line = |values: &[f64]| {
            Tensor::<1>::from_data(TensorData::from(values), (&device, DType::F64))
        };
        let point = line(&self.point);
        let optimizer = &self.optimizer;
        let mut state = self.whole.take().unwrap_or_else(|| RuleState::new(optimizer, lr, &point));
        state.time += 1;
        let clock = Clock::new(lr, state.time);
        let new = optimizer.step_tensor(&clock, 1.0, point, line(grad), &mut state);
        self.whole = Some(state);
        if let Ok(point) = new.into_data().try_into_vec::<f64>() {
            self.point = point;
        }
        &self.point
    }

    /// The point to evaluate: where it stands, but for rules that train another one.
    #[must_use]
    pub fn evaluation(&self) -> Vec<f64> {
        let Some((slot, weight)) = self.optimizer.rule().evaluation() else {
            return self.point.clone();
        };
        let blend = |(&p, state): (&f64, &Vec<f64>)| {
            p + weight * (state.get(slot).copied().unwrap_or(p) - p)
        };
        if self.state.is_empty() {
            self.point.clone()
        } else {
            self.point.iter().zip(&self.state).map(blend).collect()
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn point(&self) -> &[f64] {
        &self.point
    }
}
