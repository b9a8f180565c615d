//! One repetition under one shift at each size: every recipe on the test images, the adviser, the measurement.

use crate::data::CLASSES;
use crate::plan::Plan;
use crate::scene::{Judge, Library, Scene, Setting, Source};
use crate::shift::Shift;
use firebrick::prelude::Seed;
use firebrick::transfer::advise::{
    Advice, AdviseError, Adviser, AdviserConfig, Chosen, Contender, Interval, MeasureConfig,
    Measured, Named, Similarity, Size, Target, Trial, Tuning, Verdict,
};
use firebrick::transfer::score::Features;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What was found in one cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) shift: Shift,
    pub(crate) repetition: u64,
    pub(crate) per_class: usize,
    /// The source model on images of its own kind.
    pub(crate) source: f64,
    /// Test accuracy of each recipe.
    pub(crate) accuracy: BTreeMap<Tuning, f64>,
    pub(crate) probe: f64,
    pub(crate) lift: Interval,
    pub(crate) size: Size,
    pub(crate) similarity: Similarity,
    pub(crate) verdict: Verdict,
    pub(crate) revised: Tuning,
    pub(crate) scores: Vec<Named>,
    pub(crate) measured: Option<Choice>,
}

/// What the measurement chose; the adviser's recipe where it was sure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Choice {
    pub(crate) tuning: Tuning,
    /// Mean score of each contender on held-out folds.
    pub(crate) scores: BTreeMap<Tuning, f64>,
    pub(crate) tie: bool,
    pub(crate) fits: usize,
}

impl Choice {
    fn of(chosen: &Chosen) -> Self {
        let (tuning, none) = (chosen.tuning, BTreeMap::new());
        match (&chosen.advice.verdict, &chosen.measurement) {
            (Verdict::Measure(list), Some(found)) => {
                let scores = list.iter().zip(&found.entries);
                let scores = scores.map(|(tuning, entry)| (*tuning, entry.mean)).collect();
                Self { tuning, scores, tie: found.tie, fits: found.fits }
            }
            _ => Self { tuning, scores: none, tie: false, fits: 0 },
        }
    }
}

/// How the short list is measured with so many labels of each class: the more there are, the fewer folds it takes.
fn folds(per_class: usize) -> MeasureConfig {
    let folds = match per_class {
        0..=10 => 5,
        11..=50 => 3,
        _ => 2,
    };
    MeasureConfig { folds, ..Default::default() }
}

/// All sizes of one repetition under one shift.
pub(crate) fn run(
    plan: &Plan,
    library: &Library,
    source: &Source,
    shift: Shift,
    repetition: u64,
) -> Result<Vec<Cell>, String> {
    let seed = repetition_seed(plan.seed, repetition);
    let scene = Scene::new(library, source, shift, seed).map_err(|error| error.to_string())?;
    let mut cells = Vec::new();
    for &per_class in &plan.sizes {
        cells.push(at_size(plan, &scene, source, (shift, repetition, per_class), seed)?);
    }
    Ok(cells)
}

/// The seed of a repetition: split, source, new head and batches.
pub(crate) fn repetition_seed(seed: u64, repetition: u64) -> Seed {
    Seed(seed).child(repetition)
}

fn at_size(
    plan: &Plan,
    scene: &Scene<'_>,
    source: &Source,
    (shift, repetition, per_class): (Shift, u64, usize),
    seed: Seed,
) -> Result<Cell, String> {
    let rows: Vec<u32> = (0..(per_class * CLASSES) as u32).collect();
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut accuracy = BTreeMap::new();
    for tuning in Tuning::ALL {
        let setting = plan.setting(tuning, per_class);
        let right = scene.run(setting, &rows, Judge::Test, seed.child(9));
        accuracy.insert(tuning, right.map_err(|error| text(&error))?);
    }

    let look = || -> Result<(Advice, Option<Choice>), AdviseError> {
        let part = |features: &Features| features.select(&rows);
        let (features, raw) = (part(&scene.pool_features)?, part(&scene.raw)?);
        let (fresh, probabilities) = (part(&scene.fresh)?, part(&scene.probabilities)?);
        let labels = scene.classes(&rows);
        let target = Target::new(&features, &labels, CLASSES)
            .raw(&raw)
            .fresh(&fresh)
            .source(&scene.source_features)
            .probabilities(&probabilities)
            .trainable(scene.trainable.clone().into_iter().collect::<Vec<_>>());
        let adviser = Adviser::new(AdviserConfig { seed, ..Default::default() })?;
        if per_class > plan.measure_up_to {
            return Ok((adviser.look(&target)?, None));
        }
        let contender = |tuning: Tuning| {
            let setting = plan.setting(tuning, per_class);
            Contender {
                name: tuning.to_string(),
                recipe: tuning,
                parameters: scene.trainable[&tuning],
                steps: setting.steps,
                rates: vec![setting.rate],
            }
        };
        let score = |trial: &Trial<'_, Tuning>| {
            let setting = plan.setting(trial.contender.recipe, per_class);
            // As many passes over the part as over the whole.
            let share = trial.train.len() as f64 / rows.len() as f64;
            let steps = (share * setting.steps as f64).round() as usize;
            let setting = Setting { steps: steps.max(1), ..setting };
            scene.run(setting, trial.train, Judge::Pool(trial.held), trial.seed)
        };
        let how = Measured::new(folds(per_class))?;
        let chosen = adviser.choose(&target, &how, contender, seed.child(10), score)?;
        let choice = Choice::of(&chosen);
        Ok((chosen.advice, Some(choice)))
    };
    let (advice, measured) = look().map_err(|error| text(&error))?;
    let lift = advice.lift.ok_or("a baseline was given, so there is a lift")?;
    Ok(Cell {
        shift,
        repetition,
        per_class,
        source: source.accuracy,
        accuracy,
        probe: advice.probe.value,
        lift,
        size: advice.size,
        similarity: advice.similarity,
        verdict: advice.verdict,
        revised: advice.revised,
        scores: advice.scores,
        measured,
    })
}
