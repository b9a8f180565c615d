//! The search for each recipe's rate, on repetitions that report nothing else.

use crate::cell::repetition_seed;
use crate::data::CLASSES;
use crate::plan::{Plan, grid};
use crate::scene::{Judge, Library, Scene, Setting};
use crate::shift::Shift;
use firebrick::transfer::TransferError;
use firebrick::transfer::advise::Tuning;
use std::fmt::Write;

/// The first repetition of the search; those below report.
const FIRST: u64 = 100;

/// Test accuracy by size, recipe, rate and shift, the mean over `repetitions`, as a table in text.
pub(crate) fn table(
    plan: &Plan,
    library: &Library,
    repetitions: u64,
) -> Result<String, TransferError> {
    let shifts = &plan.shifts;
    let mut sums = std::collections::BTreeMap::new();
    for repetition in FIRST..FIRST + repetitions {
        let seed = repetition_seed(plan.seed, repetition);
        let own = library.source(Shift::Identity, seed, plan.source_steps)?;
        for &shift in shifts {
            let other;
            let source = if shift == Shift::OtherDigits {
                other = library.source(shift, seed, plan.source_steps)?;
                &other
            } else {
                &own
            };
            let scene = Scene::new(library, source, shift, seed)?;
            for &per_class in &plan.sizes {
                let rows: Vec<u32> = (0..(per_class * CLASSES) as u32).collect();
                for tuning in Tuning::ALL {
                    for (at, rate) in grid(tuning, per_class).into_iter().enumerate() {
                        let setting = Setting { rate, ..plan.setting(tuning, per_class) };
                        let score = scene.run(setting, &rows, Judge::Test, seed.child(9))?;
                        *sums.entry((per_class, tuning, at, shift)).or_insert(0.0) += score;
                    }
                }
            }
        }
    }
    let mut text = String::new();
    for &per_class in &plan.sizes {
        for tuning in Tuning::ALL {
            for (at, rate) in grid(tuning, per_class).into_iter().enumerate() {
                let scores: Vec<f64> = shifts
                    .iter()
                    .map(|shift| sums[&(per_class, tuning, at, *shift)] / repetitions as f64)
                    .collect();
                let all: Vec<String> = scores.iter().map(|score| format!("{score:.3}")).collect();
                let mean = crate::regret::mean(&scores);
                let _ = writeln!(
                    text,
                    "{per_class:>4} {tuning:<16} {rate:<7} {mean:.4}  {}",
                    all.join(" ")
                );
            }
        }
    }
    Ok(text)
}
