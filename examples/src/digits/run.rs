//! The main job: split, seal, choose, train, open once, say what was seen.

use crate::candidate::Candidate;
use crate::model::Net;
use crate::summary::{CandidateSummary, DataSummary, Gaps, OpeningSummary, Summary, TestSummary};
use crate::training::{Length, Plan, failure};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use firebrick::diagnose::{Context, Finding, diagnose};
use firebrick::prelude::*;
use firebrick::select::{
    self, Choice, Criterion, CrossValidation, FoldScore, Job, Rule, SelectError, clear_store,
    clopper_pearson, folds_of,
};
use firebrick::split::{
    FoldMap, Frozen, HoldOut, Ledger, Metrics, ModelDigest, Parts, RowHashes, Rows, Splitter,
    StratifiedKFold, TestReport,
};
use firebrick::train::{Fitted, Outcome};
use firebrick_examples::data::Data;
use firebrick_examples::failure::Failure;
use firebrick_examples::progress::Show;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Share of the rows that are sealed, and share that validates the winner.
const TEST: f64 = 0.2;
const VALIDATION: f64 = 0.2;
const FOLDS: usize = 5;

/// What a run is asked for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) data: Option<PathBuf>,
    pub(crate) backend: DeviceSpec,
    pub(crate) seed: u64,
    pub(crate) epochs: usize,
    pub(crate) threads: usize,
    /// Holds the finished folds, the ledger and the report.
    pub(crate) out: PathBuf,
    pub(crate) resume: bool,
    pub(crate) reopen: Option<String>,
    pub(crate) interrupt: Arc<AtomicBool>,
}

/// Runs the main job with `data` on an autodiff device.
pub(crate) fn run(request: &Request, data: Data, device: Device) -> Result<Summary, Failure> {
    let start = Instant::now();
    let seed = Seed(request.seed);
    let hashes = RowHashes::from_f32(&data.features, data.width, Some(&data.labels))?;
    let fingerprint = hashes.fingerprint();
    let (facts, parts, mut warnings) = divide(request, data, &hashes, seed)?;
    let rows = Rows::new(parts.train.len()).with_labels(&parts.train.labels);
    let folds = StratifiedKFold::new(FOLDS).with_shuffle(seed).split(&rows)?;
    warnings.extend(folds.warnings().iter().map(ToString::to_string));
    let mut ledger = Ledger::open(request.out.join("ledger.jsonl"), fingerprint)?;
    if request.reopen.is_none() {
        parts.test.check(&ledger)?;
    }

    let plan = plan(request, device);
    let candidates = Candidate::all();
    let (report, choice) = choose(request, &plan, &candidates, &parts.train, &folds, seed)?;
    let winner = &candidates[choice.index];

    // The validation part took no part in the choice, so this estimate owes nothing to luck in choosing.
    let Parts { train, validation, test } = parts;
    let validation = validation.ok_or_else(|| Failure::run("there is no validation part"))?;
    let length = Length::Epochs(choice.epochs);
    let trainings = candidates.len() * FOLDS;
    let judged = plan.fit(winner, &train, Some(&validation), length, seed.child(1))?;
    let judged = sound(judged, trainings)?;
    let diagnosis = advise(&judged, winner, &train, &validation)?;

    let development = train.with_validation(validation, Data::join);
    let scale = development.scale();
    let fitted = sound(plan.fit(winner, &development, None, length, seed.child(2))?, trainings)?;
    let gradients = fitted.history.clone();
    let train_error = fitted.train.error();
    let choice_in_words = format!("{} after {} epochs, seed {}", winner.name, choice.epochs, seed);
    let digest = digest(&fitted.model);
    let frozen = Frozen::new(fitted.model, digest, choice_in_words);

    if let Some(reason) = &request.reopen {
        ledger.reopen(reason.clone())?;
    }
    let mut confusion = vec![vec![0; facts.classes]; facts.classes];
    let opened = test.open(&mut ledger, &frozen, |model, rows| {
        judge(model, rows, scale, &plan, &mut confusion)
    })?;
    let test = summarize(&opened, confusion)?;
    let validation_error = judged.validation.map_or(f64::NAN, |score| score.error());
    Ok(Summary {
        format: 1,
        seed: request.seed,
        backend: request.backend.to_string(),
        epochs: request.epochs,
        candidates: describe(&candidates, &report, &facts),
        data: facts,
        chosen: choice.name,
        reason: choice.reason,
        chosen_epochs: choice.epochs,
        train_error,
        validation_error,
        gap: test.error - train_error,
        gaps: Gaps {
            validation_minus_train: validation_error - judged.train.error(),
            test_minus_train: test.error - train_error,
            test_minus_validation: test.error - validation_error,
        },
        test,
        diagnosis,
        warnings,
        learning: judged.history,
        gradients,
        seconds: start.elapsed().as_secs_f64(),
        opening: OpeningSummary {
            time: opened.opening.time.clone(),
            repetition: opened.repetition,
            uses: opened.uses,
        },
    })
}

/// Gives every row its role. From here on nobody holds the test rows but the seal.
fn divide(
    request: &Request,
    data: Data,
    hashes: &RowHashes,
    seed: Seed,
) -> Result<(DataSummary, Parts<Data>, Vec<String>), Failure> {
    if data.len() < FOLDS {
        let rows = data.len();
        return Err(Failure::input(format_args!("{rows} rows are fewer than the {FOLDS} folds")));
    }
    let rows = Rows::new(data.len()).with_labels(&data.labels);
    let hold_out = HoldOut::new(TEST).with_validation(VALIDATION).with_stratified();
    let roles = hold_out.with_shuffle(seed).split(&rows)?;
    let [train, validation, test] = roles.sizes();
    let facts = DataSummary {
        name: request.data.as_ref().map_or_else(
            || "UCI optical recognition of handwritten digits".to_owned(),
            |path| path.display().to_string(),
        ),
        rows: data.len(),
        columns: data.width,
        classes: data.classes,
        train,
        validation,
        test,
        folds: FOLDS,
        fingerprint: hashes.fingerprint().content_text(),
    };
    let warnings = roles.map().warnings().iter().map(ToString::to_string).collect();
    let parts = roles.divide(hashes, |_, rows| data.select(rows))?;
    Ok((facts, parts, warnings))
}

fn plan(request: &Request, device: Device) -> Plan {
    Plan {
        device,
        epochs: request.epochs,
        patience: request.epochs.div_ceil(4).max(3),
        interrupt: request.interrupt.clone(),
    }
}

/// Cross-validates the candidates on the training part.
fn choose(
    request: &Request,
    plan: &Plan,
    candidates: &[Candidate],
    data: &Data,
    folds: &FoldMap,
    seed: Seed,
) -> Result<(select::Report, Choice), Failure> {
    let store = request.out.join("folds");
    if !request.resume {
        clear_store(&store)?;
    }
    let values = candidates.iter().map(|candidate| {
        let parameters = candidate.parameters(data.width, data.classes);
        select::Candidate::new(candidate.name, parameters as f64, candidate.clone())
    });
    let show = Show::new(candidates.len() * FOLDS);
    let report = CrossValidation::new(values.collect(), folds_of(folds)?)
        .with_seed(seed)
        .with_threads(request.threads)
        .with_identity("backend", &request.backend)
        .with_identity("epochs", request.epochs)
        .with_identity(
            "data",
            RowHashes::from_f32(&data.features, data.width, Some(&data.labels))?.fingerprint(),
        )
        .with_store(store)
        .with_cancel(request.interrupt.clone())
        .with_observer(|progress| show.fold(progress))
        .run(|job| fold(plan, data, job));
    show.finish();
    let report = report.map_err(|error| match error {
        SelectError::Cancelled { finished, total, .. } => Failure::Interrupted { finished, total },
        other => other.into(),
    })?;
    let choice = report.choose(Criterion::ValidationError, Rule::BestMean)?;
    Ok((report, choice))
}

/// One candidate in one fold.
fn fold(plan: &Plan, data: &Data, job: &Job<'_, Candidate>) -> Result<FoldScore, String> {
    let (train, validation) = (data.select(&job.fold.train), data.select(&job.fold.validation));
    let length = Length::EarlyStopped;
    let candidate = &job.candidate.value;
    let fitted = plan
        .fit(candidate, &train, Some(&validation), length, job.seed)
        .map_err(|error| error.to_string())?;
    if let Some(reason) = failure(&fitted) {
        return Err(reason);
    }
    let held_out = fitted.validation.ok_or("the fold has no validation rows")?;
    let (train, epoch) = (fitted.train, fitted.epoch);
    let score = FoldScore::new(train.loss(), train.error(), held_out.loss(), held_out.error());
    Ok(score.with_best_epoch(epoch).with_history(fitted.history))
}

/// A final training that may be used; the `trainings` before it are kept.
fn sound(fitted: Fitted<Net>, trainings: usize) -> Result<Fitted<Net>, Failure> {
    if fitted.outcome == Outcome::Interrupted {
        return Err(Failure::Interrupted { finished: trainings, total: trainings });
    }
    match failure(&fitted) {
        Some(reason) => {
            Err(Failure::run(format!("the chosen candidate cannot be trained: {reason}")))
        }
        None => Ok(fitted),
    }
}

fn advise(
    fitted: &Fitted<Net>,
    winner: &Candidate,
    train: &Data,
    validation: &Data,
) -> Result<Vec<Finding>, Failure> {
    let context = Context::new()
        .with_classes(train.classes)
        .with_samples(train.len())
        .with_validation_samples(validation.len())
        .with_parameters(winner.parameters(train.width, train.classes));
    diagnose(&fitted.history, &context).map_err(Failure::run)
}

/// What the test part tells of the frozen model: its error, and rows of each class by predicted class.
fn judge(
    model: &Net,
    rows: &Data,
    scale: f32,
    plan: &Plan,
    confusion: &mut [Vec<usize>],
) -> Metrics {
    let test = rows.tensors(scale, &plan.device.clone().inner());
    let predicted = model.forward(test.inputs).argmax(1).squeeze_dim::<1>(1);
    // A device that cannot be read leaves no prediction, and every row counts as wrong.
    let predicted: Vec<i64> = predicted.try_to_vec_as().unwrap_or_default();
    let mut right = 0;
    for (&label, &class) in rows.labels.iter().zip(&predicted) {
        right += usize::from(i64::from(label) == class);
        let cell = confusion.get_mut(label as usize).and_then(|row| row.get_mut(class as usize));
        if let Some(cell) = cell {
            *cell += 1;
        }
    }
    let wrong = (rows.len() - right) as f64;
    Metrics::new().with("error", wrong / rows.len() as f64).with("wrong", wrong)
}

fn summarize(report: &TestReport, confusion: Vec<Vec<usize>>) -> Result<TestSummary, Failure> {
    let metric = |name: &str| {
        let value = report.metrics.get(name);
        value.ok_or_else(|| Failure::run(format!("the ledger has no {name} for the test part")))
    };
    Ok(TestSummary {
        error: metric("error")?,
        n: report.n,
        interval: clopper_pearson(metric("wrong")? as usize, report.n, 0.95)?,
        confusion,
        reopened: report.reopened.clone(),
    })
}

fn describe(
    candidates: &[Candidate],
    report: &select::Report,
    facts: &DataSummary,
) -> Vec<CandidateSummary> {
    let describe = |(candidate, result): (&Candidate, &select::CandidateReport)| {
        let scores = result.scores.clone();
        let [train_error, validation_error, train_loss, validation_loss] = match scores {
            Some(s) => {
                [s.train_error, s.validation_error, s.train_loss, s.validation_loss].map(Some)
            }
            None => [const { None }; 4],
        };
        CandidateSummary {
            name: candidate.name.to_owned(),
            parameters: candidate.parameters(facts.columns, facts.classes),
            depth: candidate.depth,
            width: candidate.width,
            dropout: candidate.dropout,
            weight_decay: candidate.weight_decay,
            label_smoothing: candidate.smoothing,
            optimizer: candidate.rule.to_string(),
            learning_rate: candidate.rate,
            train_error,
            validation_error,
            train_loss,
            validation_loss,
            disqualified: result.disqualified.clone(),
        }
    };
    candidates.iter().zip(&report.candidates).map(describe).collect()
}

/// The digest of every parameter and running statistic, in the order of the model.
fn digest(model: &Net) -> ModelDigest {
    #[derive(Default)]
    struct Values(Vec<Vec<f32>>);
    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().try_to_vec_as().unwrap_or_default());
        }
    }
    let mut values = Values::default();
    model.visit(&mut values);
    ModelDigest::of_f32(values.0.iter().map(Vec::as_slice))
}
