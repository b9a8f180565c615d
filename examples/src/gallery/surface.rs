//! The four surfaces that the optimizers walk on.

/// A function of two variables, its gradient, and what there is to do on it.
#[derive(Debug)]
pub(crate) struct Surface {
    /// Short name, also for anchors in the page.
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    pub(crate) formula: &'static str,
    /// Why it is here.
    pub(crate) lesson: &'static str,
    pub(crate) start: [f64; 2],
    pub(crate) goal: Goal,
    /// What the page shows: left, right, bottom, top.
    pub(crate) window: [f64; 4],
    /// Steps after which a walk is given up.
    pub(crate) limit: usize,
    pub(crate) value: fn([f64; 2]) -> f64,
    pub(crate) gradient: fn([f64; 2]) -> [f64; 2],
}

/// When a walk is done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// The value comes within [`TOLERANCE`] of that at the minimum.
    Minimum([f64; 2]),
    /// The value falls below -1: the saddle is behind.
    Leave,
}

/// How near to the least value a walk has to come.
pub(crate) const TOLERANCE: f64 = 1e-3;

impl Surface {
    /// The goal in words.
    pub(crate) fn aim(&self) -> String {
        match self.goal {
            Goal::Minimum([x, y]) => {
                format!("until f comes within {TOLERANCE} of its least value, at ({x}, {y})")
            }
            Goal::Leave => "until f falls below -1".into(),
        }
    }
}

/// The surfaces in the order of the page.
pub(crate) const SURFACES: &[Surface] = &[VALLEY, ROSENBROCK, BEALE, SADDLE];

/// The survey's: 20 times as steep along the second axis as along the first.
pub(crate) const VALLEY: Surface = Surface {
    id: "valley",
    name: "A long valley",
    formula: "f(x) = 0.1 x1^2 + 2 x2^2",
    lesson: "One rate has to serve two curvatures that differ by a factor of 20: at 0.4 plain descent crawls along x1, \
             at 0.6 it diverges along x2. Momentum makes both rates work; the adaptive rules give each axis its own.",
    start: [-5.0, -2.0],
    goal: Goal::Minimum([0.0, 0.0]),
    window: [-5.6, 1.6, -3.0, 2.4],
    limit: 2000,
    value: |[x, y]| 0.1 * x * x + 2.0 * y * y,
    gradient: |[x, y]| [0.2 * x, 4.0 * y],
};

/// A curved valley with a nearly flat floor.
pub(crate) const ROSENBROCK: Surface = Surface {
    id: "rosenbrock",
    name: "Rosenbrock's banana",
    formula: "f(x) = (1 - x1)^2 + 100 (x2 - x1^2)^2",
    lesson: "The valley is easy to find and long to follow: its floor is nearly flat and it bends.",
    start: [-1.2, 1.0],
    goal: Goal::Minimum([1.0, 1.0]),
    window: [-1.9, 1.9, -0.9, 2.4],
    limit: 30_000,
    value: |[x, y]| (1.0 - x).powi(2) + 100.0 * (y - x * x).powi(2),
    gradient: |[x, y]| [-2.0 * (1.0 - x) - 400.0 * x * (y - x * x), 200.0 * (y - x * x)],
};

/// Flat plains, steep walls.
pub(crate) const BEALE: Surface = Surface {
    id: "beale",
    name: "Beale's function",
    formula: "f(x) = (1.5 - x1 + x1 x2)^2 + (2.25 - x1 + x1 x2^2)^2 + (2.625 - x1 + x1 x2^3)^2",
    lesson: "Steep walls around a flat floor: a rate that is safe at the walls is slow on the floor.",
    start: [1.0, 1.5],
    goal: Goal::Minimum([3.0, 0.5]),
    window: [-0.4, 4.4, -1.4, 2.0],
    limit: 30_000,
    value: |[x, y]| {
        (1.5 - x + x * y).powi(2)
            + (2.25 - x + x * y * y).powi(2)
            + (2.625 - x + x * y.powi(3)).powi(2)
    },
    gradient: |[x, y]| {
        let (a, b, c) = (1.5 - x + x * y, 2.25 - x + x * y * y, 2.625 - x + x * y.powi(3));
        [
            2.0 * (a * (y - 1.0) + b * (y * y - 1.0) + c * (y.powi(3) - 1.0)),
            2.0 * (a * x + b * 2.0 * x * y + c * 3.0 * x * y * y),
        ]
    },
};

/// A start nearly on the ridge, where the gradient points at the saddle.
pub(crate) const SADDLE: Surface = Surface {
    id: "saddle",
    name: "A saddle",
    formula: "f(x) = x1^2 - x2^2",
    lesson: "Where the gradient is nearly 0 plain descent lingers; momentum, RMSProp and Adam get through faster.",
    start: [-1.5, 0.001],
    goal: Goal::Leave,
    window: [-1.8, 1.2, -1.3, 1.6],
    limit: 2000,
    value: |[x, y]| x * x - y * y,
    gradient: |[x, y]| [2.0 * x, -2.0 * y],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_those_of_the_values() {
        for surface in SURFACES {
            for point in [surface.start, [0.3, -0.7], [1.1, 0.4], [-0.8, 1.3]] {
                let gradient = (surface.gradient)(point);
                for axis in 0..2 {
                    let h = 1e-6;
                    let at = |shift: f64| {
                        let mut moved = point;
                        moved[axis] += shift;
                        (surface.value)(moved)
                    };
                    let difference = (at(h) - at(-h)) / (2.0 * h);
                    let error = (gradient[axis] - difference).abs();
                    assert!(error < 1e-6 * (1.0 + difference.abs()), "{} {point:?}", surface.id);
                }
            }
        }
    }

    #[test]
    fn minima_are_minima() {
        for surface in SURFACES {
            let Goal::Minimum(minimum) = surface.goal else { continue };
            assert_eq!((surface.gradient)(minimum), [0.0, 0.0], "{}", surface.id);
            assert_eq!((surface.value)(minimum), 0.0, "{}", surface.id);
        }
    }
}
