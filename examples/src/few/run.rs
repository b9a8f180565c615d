//! All recipes with all numbers of labels, each in five folds whose test rows are disjoint.

use crate::model::Net;
use crate::recipe::{Recipe, Sample};
use crate::summary::Summary;
use crate::training::{Rows as Parts, train};
use burn::tensor::Device;
use firebrick::core::History;
use firebrick::prelude::*;
use firebrick::select::{
    Candidate, CrossValidation, Fold, FoldScore, Job, SelectError, clear_store, folds_of,
};
use firebrick::split::{
    RowHashes, Rows, SplitError, Splitter, StratifiedKFold, Target, Train, down_sample,
};
use firebrick_examples::data::Data;
use firebrick_examples::failure::Failure;
use firebrick_examples::progress::Show;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Disjoint test parts; each is one seed of labels, weights, batches and augmentation.
pub(crate) const FOLDS: usize = 5;
/// How many times the common classes of a skewed set outnumber the rare ones, as far as there are rows.
const SKEW: usize = 10;

/// What a run is asked for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) backend: DeviceSpec,
    pub(crate) seed: u64,
    /// Labels a class.
    pub(crate) labels: Vec<usize>,
    pub(crate) steps: usize,
    /// How often rows are given labels in a fold; its numbers are the means.
    pub(crate) draws: usize,
    pub(crate) threads: usize,
    pub(crate) out: PathBuf,
    pub(crate) resume: bool,
    pub(crate) interrupt: Arc<AtomicBool>,
}

/// One recipe with a number of labels a class.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Setting {
    pub(crate) recipe: Recipe,
    pub(crate) labels: usize,
}

/// The settings in the order of the report: all recipes of the smallest number first.
pub(crate) fn settings(recipes: &[Recipe], labels: &[usize]) -> Vec<Setting> {
    let of = |&labels: &usize| recipes.iter().map(move |&recipe| Setting { recipe, labels });
    labels.iter().flat_map(of).collect()
}

/// Trains everything on an autodiff device and compares.
pub(crate) fn run(
    request: &Request,
    recipes: &[Recipe],
    data: &Data,
    device: &Device,
) -> Result<Summary, Failure> {
    let start = Instant::now();
    let seed = Seed(request.seed);
    let rows = Rows::new(data.len()).with_labels(&data.labels);
    let folds = folds_of(&StratifiedKFold::new(FOLDS).with_shuffle(seed).split(&rows)?)?;
    let settings = settings(recipes, &request.labels);
    let parameters = Net::parameters(data.width, data.classes);
    let candidates = settings.iter().map(|setting| {
        let name = format!("{}, {} labels", setting.recipe.name, setting.labels);
        Candidate::new(name, parameters as f64, setting.clone())
    });
    let store = request.out.join("trainings");
    if !request.resume {
        clear_store(&store)?;
    }
    let hashes = RowHashes::from_f32(&data.features, data.width, Some(&data.labels))?;
    let show = Show::new(settings.len() * FOLDS);
    let report = CrossValidation::new(candidates.collect(), folds)
        .with_seed(seed)
        .with_threads(request.threads)
        .with_identity("backend", &request.backend)
        .with_identity("steps", request.steps)
        .with_identity("draws", request.draws)
        .with_identity("recipes", format!("{recipes:?}"))
        .with_identity("data", hashes.fingerprint())
        .with_store(store)
        .with_cancel(request.interrupt.clone())
        .with_observer(|progress| show.fold(progress))
        .run(|job| one(request, data, device, job));
    show.finish();
    let report = report.map_err(|error| match error {
        SelectError::Cancelled { finished, total, .. } => Failure::Interrupted { finished, total },
        other => other.into(),
    })?;
    let summary = Summary::of(request, recipes, &settings, &report, parameters, data.classes)?;
    Ok(summary.with_seconds(start.elapsed().as_secs_f64()))
}

/// One setting in one fold. Recipes share their rows, first weights and order of batches: they are paired.
fn one(
    request: &Request,
    data: &Data,
    device: &Device,
    job: &Job<'_, Setting>,
) -> Result<FoldScore, String> {
    let setting = &job.candidate.value;
    let fold = Seed(request.seed).child(job.fold_index as u64);
    let (mut numbers, mut history) = ([0.0; 4], History::default());
    for draw in 0..request.draws {
        let seed = fold.child(draw as u64);
        let parts =
            parts(data, job.fold, setting, seed).map_err(|error: SplitError| error.to_string())?;
        let trained =
            train(&setting.recipe, &parts, request.steps, seed, device, || job.cancelled())
                .map_err(|error| error.to_string())?;
        let (train, test) = (trained.train, trained.test);
        let all = [train.loss(), train.error(), test.loss(), test.error()];
        for (sum, number) in numbers.iter_mut().zip(all) {
            *sum += number / request.draws as f64;
        }
        history.push(trained.record);
    }
    let [train_loss, train_error, test_loss, test_error] = numbers;
    let score = FoldScore::new(train_loss, train_error, test_loss, test_error);
    Ok(score.with_history(history))
}

/// Draws the rows with labels; fewer labels are the first of more.
fn parts(data: &Data, fold: &Fold, setting: &Setting, seed: Seed) -> Result<Parts, SplitError> {
    let mut pool = fold.train.clone();
    seed.stream("labels").shuffle(&mut pool);
    let n = setting.labels;
    let wanted = |class: u32| match setting.recipe.sample() {
        Sample::Even => n,
        _ if class < 5 => SKEW * n,
        _ => n,
    };
    let mut taken = vec![0; data.classes];
    let (mut labelled, mut rest) = (Vec::new(), Vec::new());
    for row in pool {
        let class = data.labels[row as usize];
        let count = &mut taken[class as usize];
        if *count < wanted(class) {
            *count += 1;
            labelled.push(row);
        } else {
            rest.push(row);
        }
    }
    if setting.recipe.sample() == Sample::DownSampled {
        labelled.sort_unstable();
        let labels: Vec<u32> = labelled.iter().map(|&row| data.labels[row as usize]).collect();
        let part = Train::new((), labelled);
        labelled = down_sample(&part, &labels, &Target::Uniform, seed)?.rows;
    }
    Ok(Parts {
        labelled: data.select(&labelled),
        unlabelled: data.select(&rest),
        test: data.select(&fold.validation),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(data: &Data) -> Vec<usize> {
        let mut counts = vec![0; data.classes];
        data.labels.iter().for_each(|&label| counts[label as usize] += 1);
        counts
    }

    #[test]
    fn rows_are_disjoint_nested_and_as_skewed_as_asked_for() {
        let data = Data::load(None).expect("embedded");
        let rows = Rows::new(data.len()).with_labels(&data.labels);
        let folds = StratifiedKFold::new(FOLDS).with_shuffle(Seed(1)).split(&rows).expect("valid");
        let fold = &folds_of(&folds).expect("listed")[0];
        let recipes = Recipe::all();
        let recipe =
            |sample| *recipes.iter().find(|recipe| recipe.sample() == sample).expect("there");
        let draw = |sample, labels| {
            let setting = Setting { recipe: recipe(sample), labels };
            parts(&data, fold, &setting, Seed(3)).expect("draws")
        };
        let few = draw(Sample::Even, 5);
        assert_eq!(counts(&few.labelled), [5; 10]);
        assert_eq!(few.labelled.len() + few.unlabelled.len(), fold.train.len());
        assert_eq!(few.test.len(), fold.validation.len());
        let more = draw(Sample::Even, 50);
        assert_eq!(counts(&more.labelled), [50; 10]);
        let row =
            |data: &Data, at: usize| data.features[at * data.width..(at + 1) * data.width].to_vec();
        let within = |at: usize| {
            (0..more.labelled.len())
                .any(|other| row(&more.labelled, other) == row(&few.labelled, at))
        };
        assert!((0..few.labelled.len()).all(within), "fewer labels are among more");
        let skewed = draw(Sample::Skewed, 5);
        assert_eq!(counts(&skewed.labelled), [50, 50, 50, 50, 50, 5, 5, 5, 5, 5]);
        assert_eq!(counts(&draw(Sample::DownSampled, 5).labelled), [5; 10]);
    }
}
