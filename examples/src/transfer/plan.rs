//! What is run: repetitions, shifts, sizes, and each recipe's own steps and rates.

use crate::scene::Setting;
use crate::shift::Shift;
use firebrick::transfer::advise::Tuning;
use serde::Serialize;

/// Labels of each class in the few, medium and many cells.
pub(crate) const SIZES: [usize; 3] = [5, 20, 150];

/// The size of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) repetitions: u64,
    pub(crate) shifts: Vec<Shift>,
    pub(crate) sizes: Vec<usize>,
    /// Steps of the source's training.
    pub(crate) source_steps: usize,
    /// Share of the steps of each recipe that are run.
    pub(crate) share: f64,
    /// Largest size at which the short list is measured.
    pub(crate) measure_up_to: usize,
}

impl Plan {
    pub(crate) fn new(seed: u64, quick: bool) -> Self {
        if quick {
            return Self {
                seed,
                repetitions: 2,
                shifts: vec![Shift::Identity, Shift::Rotation45, Shift::Inversion],
                sizes: vec![5, 150],
                source_steps: 450,
                share: 0.5,
                measure_up_to: 5,
            };
        }
        Self {
            seed,
            repetitions: 9,
            shifts: Shift::ALL.into(),
            sizes: SIZES.into(),
            source_steps: 900,
            share: 1.0,
            measure_up_to: 150,
        }
    }

    /// How a recipe is run with so many labels of each class.
    pub(crate) fn setting(&self, tuning: Tuning, per_class: usize) -> Setting {
        let size = place(per_class);
        let steps = (self.share * STEPS[size] as f64).round() as usize;
        let steps = if tuning == Tuning::HeadOnly { 0 } else { steps.max(1) };
        let probe = rate(Tuning::HeadOnly, size);
        Setting { tuning, rate: rate(tuning, size), steps, batch: BATCH, head: HEAD[size], probe }
    }
}

/// Steps with few, medium and many labels.
const STEPS: [usize; 3] = [150, 250, 600];

/// Images in a step.
const BATCH: usize = 32;

/// The head's rate over that of the layers below, where the head is fresh and the rest is not.
const HEAD: [f64; 3] = [10.0, 3.0, 3.0];

/// The rates that are tried by `--tune`; of the head alone these are penalties.
pub(crate) fn grid(tuning: Tuning, per_class: usize) -> Vec<f64> {
    match tuning {
        Tuning::HeadOnly => match place(per_class) {
            0 => vec![0.1, 0.3, 1.0],
            1 => vec![0.01, 0.03, 0.1],
            _ => vec![1e-4, 1e-3, 1e-2],
        },
        Tuning::Scratch => vec![1e-3, 3e-3, 1e-2, 2e-2],
        _ => vec![1.5e-3, 3e-3, 6e-3, 1e-2],
    }
}

/// Which of the sizes it is; a size of its own goes with the medium one.
fn place(per_class: usize) -> usize {
    SIZES.iter().position(|size| *size == per_class).unwrap_or(1)
}

/// Each recipe's own rate at each size: the best mean over shifts on repetitions 100 and up, which report nothing
/// else (`cargo run --bin transfer -- --tune`).
fn rate(tuning: Tuning, size: usize) -> f64 {
    match tuning {
        Tuning::HeadOnly => [0.3, 0.03, 1e-3][size],
        Tuning::FreezeFirst => [3e-3, 3e-3, 3e-3][size],
        Tuning::Full => [3e-3, 3e-3, 6e-3][size],
        Tuning::LpFt => [3e-3, 6e-3, 6e-3][size],
        Tuning::Scratch => [1e-3, 1e-2, 1e-2][size],
    }
}
