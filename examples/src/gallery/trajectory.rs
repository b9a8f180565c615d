//! One walk of one optimizer on one surface.

use crate::surface::{Goal, Surface, TOLERANCE};
use firebrick::optim::{Elementwise, Walk};
use std::fmt;

/// How a walk went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// At this step it first came to the minimum; whether it is there during the last tenth of the walk.
    Reached { steps: usize, stays: bool },
    /// At this step the saddle was behind.
    Left(usize),
    /// The limit came first.
    NotWithin(usize),
    /// At this step it had gone out of all bounds.
    Diverged(usize),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reached { steps, stays: true } => write!(f, "{steps} steps"),
            Self::Reached { steps, stays: false } => write!(f, "{steps} steps, does not stay"),
            Self::Left(steps) => write!(f, "left after {steps} steps"),
            Self::NotWithin(limit) => write!(f, "not within {limit} steps"),
            Self::Diverged(step) => write!(f, "diverges (step {step})"),
        }
    }
}

/// The points of a walk, its start first, and the function's values there.
#[derive(Debug, Clone)]
pub(crate) struct Trajectory {
    pub(crate) points: Vec<[f64; 2]>,
    pub(crate) values: Vec<f64>,
    pub(crate) outcome: Outcome,
}

impl Trajectory {
    /// Where it ends: at the step that counts, or where it was given up.
    pub(crate) fn last(&self) -> [f64; 2] {
        let end = match self.outcome {
            Outcome::Reached { steps, .. } => steps,
            _ => self.points.len() - 1,
        };
        self.points[end]
    }

    /// The last point to four decimals.
    pub(crate) fn ends_at(&self) -> String {
        // Adding 0 turns the -0 of a tiny negative number into 0.
        let [x, y] = self.last().map(|x| (x * 1e4).round() / 1e4 + 0.0);
        format!("({x:.4}, {y:.4})")
    }
}

/// Farther away than this from the origin nothing comes back.
const BOUND: f64 = 1e6;

/// Walks until the limit, or until the saddle is behind or all is lost.
pub(crate) fn follow(surface: &Surface, rule: &Elementwise, lr: f64) -> Trajectory {
    let mut walk = Walk::new(rule, &surface.start);
    let mut points = vec![surface.start];
    let mut values = vec![(surface.value)(surface.start)];
    let mut outcome = Outcome::NotWithin(surface.limit);
    for step in 1..=surface.limit {
        let here = points[step - 1];
        let moved = walk.step(lr, &(surface.gradient)(here));
        let point = [moved[0], moved[1]];
        let value = (surface.value)(point);
        points.push(point);
        values.push(value);
        if point.iter().any(|x| !x.is_finite() || x.abs() > BOUND) {
            outcome = Outcome::Diverged(step);
            break;
        }
        if matches!(surface.goal, Goal::Leave) && value < -1.0 {
            outcome = Outcome::Left(step);
            break;
        }
    }
    if let (Goal::Minimum(minimum), Outcome::NotWithin(limit)) = (surface.goal, outcome) {
        let least = (surface.value)(minimum);
        let near = |value: &f64| value - least <= TOLERANCE;
        if let Some(steps) = values.iter().position(near) {
            let stays = values[limit - limit / 10..].iter().all(near);
            outcome = Outcome::Reached { steps, stays };
        }
    }
    Trajectory { points, values, outcome }
}
