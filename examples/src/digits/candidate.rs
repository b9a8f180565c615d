//! The candidates among which cross-validation chooses.

use serde::Serialize;

/// The rule by which a candidate's weights move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rule {
    /// Stochastic gradient descent with momentum 0.9.
    Momentum,
    /// Adam.
    Adam,
    /// Adam with decoupled weight decay.
    AdamW,
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Momentum => "SGD, momentum 0.9",
            Self::Adam => "Adam",
            Self::AdamW => "AdamW",
        })
    }
}

/// One model with the way to train it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Candidate {
    pub(crate) name: &'static str,
    /// Number of hidden layers.
    pub(crate) depth: usize,
    /// Units in each.
    pub(crate) width: usize,
    /// Probability of dropping a hidden unit.
    pub(crate) dropout: f64,
    /// Decoupled weight decay, on weights only.
    pub(crate) weight_decay: f64,
    /// Share of the target that is spread evenly over all classes.
    pub(crate) smoothing: f64,
    pub(crate) rule: Rule,
    /// Peak learning rate.
    pub(crate) rate: f64,
}

impl Candidate {
    /// From a linear model to networks with more parameters than the data have numbers.
    pub(crate) fn all() -> Vec<Self> {
        let candidate = |name, depth, width, dropout, weight_decay, smoothing, rule, rate| Self {
            name,
            depth,
            width,
            dropout,
            weight_decay,
            smoothing,
            rule,
            rate,
        };
        vec![
            candidate("linear", 0, 0, 0.0, 0.0, 0.0, Rule::Momentum, 0.1),
            candidate("narrow", 1, 16, 0.0, 0.0, 0.0, Rule::Momentum, 0.1),
            candidate("medium", 1, 128, 0.0, 0.0, 0.0, Rule::Adam, 3e-3),
            candidate("wide-dropout", 1, 512, 0.4, 0.1, 0.1, Rule::AdamW, 3e-3),
            candidate("deep-plain", 3, 128, 0.0, 0.0, 0.0, Rule::Adam, 3e-3),
            candidate("deep-dropout", 2, 256, 0.4, 0.1, 0.1, Rule::AdamW, 3e-3),
        ]
    }

    /// Number of weights and biases between `inputs` and `classes`, counted by element.
    pub(crate) fn parameters(&self, inputs: usize, classes: usize) -> usize {
        let (mut width, mut count) = (inputs, 0);
        for _ in 0..self.depth {
            count += (width + 1) * self.width;
            width = self.width;
        }
        count + (width + 1) * classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_differ_in_all_that_they_must() {
        let all = Candidate::all();
        assert!(all.len() >= 4);
        let distinct = |key: &dyn Fn(&Candidate) -> String| {
            all.iter().map(key).collect::<std::collections::BTreeSet<_>>().len()
        };
        assert_eq!(distinct(&|c| c.name.into()), all.len());
        for key in [
            (&|c: &Candidate| c.width.to_string()) as &dyn Fn(&Candidate) -> String,
            &|c| c.depth.to_string(),
            &|c| c.dropout.to_string(),
            &|c| c.weight_decay.to_string(),
            &|c| format!("{:?}", c.rule),
        ] {
            assert!(distinct(key) >= 2);
        }
    }

    #[test]
    fn parameters_are_counted_by_element() {
        let count = |index: usize| Candidate::all()[index].parameters(64, 10);
        assert_eq!(count(0), 650);
        assert_eq!(count(1), 65 * 16 + 17 * 10);
        assert_eq!(count(4), 65 * 128 + 2 * 129 * 128 + 129 * 10);
    }
}
