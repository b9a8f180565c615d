//! Rules on how well the model fits: never better than the prior, under-fitting, over-fitting, healthy.

use super::{Run, SHORTEST, confidence, loss::target_met, percent, show};
use crate::{Finding, FindingKind};

/// The validation loss never fell below 0.95 of the prior's, or without one the training loss never below
/// 0.9; by errors, where no loss is recorded, never below 0.95 of a guess's error.
pub(super) fn never_better_than_prior(run: &Run<'_>) -> Option<Finding> {
    let prior_loss = run.context.prior_loss();
    let prior_error = run.context.prior_error();
    let candidates = [
        (&run.validation_loss, 0.95, prior_loss, "validation loss"),
        (&run.train_loss, 0.9, prior_loss, "training loss"),
        (&run.validation_error, 0.95, prior_error, "validation error"),
        (&run.train_error, 0.95, prior_error, "training error"),
    ];
    let (curve, share, prior, name) =
        candidates.into_iter().find_map(|(curve, share, prior, name)| {
            (curve.len() >= SHORTEST).then_some((curve, share, prior?, name))
        })?;
    let (epoch, best) = curve.best()?;
    if best < share * prior {
        return None;
    }
    let mut evidence = format!(
        "the best {name} of {} epochs was {} (epoch {epoch}); always predicting the class frequencies \
         gives {}",
        curve.len(),
        show(best),
        show(prior)
    );
    let learned = run.train_loss.best().zip(prior_loss).is_some_and(|((_, l), p)| l < 0.9 * p);
    let remedy = if learned && name == "validation loss" {
        evidence.push_str("; the training loss did fall below that");
        "check that labels belong to their samples and that training and validation data are alike and \
         prepared alike; then regularize"
    } else {
        "check that labels belong to their samples, then the loss and what it is fed (logits or \
         probabilities), the scale of the inputs, the learning rate over three decades, and initial weights"
    };
    Some(Finding::new(
        FindingKind::NeverBetterThanPrior,
        confidence(0.9, best / (share * prior)),
        evidence,
        remedy,
    ))
}

/// The training error ends above the target; without a target, above 0.45 of a guess's error, or the
/// training loss above half of the prior's where no error is recorded.
pub(super) fn under_fitting(run: &Run<'_>, still_falling: bool) -> Option<Finding> {
    if target_met(run) {
        return None;
    }
    let error = run.train_error.tail().filter(|_| run.train_error.len() >= SHORTEST);
    let loss = run.train_loss.tail().filter(|_| run.train_loss.len() >= SHORTEST);
    let (evidence, r, base) = match (error, run.context.target_error, run.context.prior_error()) {
        (Some(error), Some(target), _) => {
            let r = if target > 0.0 { error / target } else { 2.0 };
            let text = format!(
                "the training error ended at {}, above the {} that is wanted",
                percent(error),
                percent(target)
            );
            (text, r, 0.7)
        }
        (Some(error), None, Some(prior)) if error > 0.45 * prior => {
            let text = format!(
                "the training error ended at {}; a guess errs in {}",
                percent(error),
                percent(prior)
            );
            (text, error / (0.45 * prior), 0.6)
        }
        (None, _, _) => {
            let (loss, prior) = (loss?, run.context.prior_loss()?);
            if loss <= 0.5 * prior {
                return None;
            }
            let text = format!(
                "the training loss ended at {}; always predicting the class frequencies gives {}",
                show(loss),
                show(prior)
            );
            (text, loss / (0.5 * prior), 0.6)
        }
        _ => return None,
    };
    let remedy = if still_falling {
        "train longer first; then raise the learning rate, enlarge the model, weaken the regularization"
    } else {
        "enlarge the model, weaken the regularization, tune the learning rate, look for features that \
         carry more"
    };
    Some(Finding::new(FindingKind::UnderFitting, confidence(base, r), evidence, remedy))
}

/// The validation error ends above the training error by 0.1 (0.07 when that is below 0.1) and by two of
/// its standard errors; or the validation loss ends above its minimum by a tenth of the prior's loss and a
/// quarter of itself while the training loss went on falling.
pub(super) fn over_fitting(run: &Run<'_>) -> Option<Finding> {
    let gap = error_gap(run).or_else(|| loss_gap(run));
    let rise = loss_rise(run);
    let r = gap.as_ref().map_or(0.0, |(_, r)| *r).max(rise.as_ref().map_or(0.0, |(_, r)| *r));
    if r == 0.0 {
        return None;
    }
    let base = if gap.is_some() && rise.is_some() { 0.8 } else { 0.65 };
    let mut evidence: Vec<String> =
        [gap, rise].into_iter().flatten().map(|(text, _)| text).collect();
    if let Some((parameters, samples)) =
        run.context.parameters.zip(run.context.samples).filter(|(p, s)| p > s)
    {
        evidence.push(format!("the model has {parameters} parameters for {samples} samples"));
    }
    let stop = run.validation_loss.best().map_or(String::new(), |(epoch, _)| {
        format!("stop early (epoch {epoch} had the best validation loss) and ")
    });
    let remedy = format!(
        "{stop}regularize: weight decay, dropout, augmentation; more training data; a smaller model"
    );
    Some(Finding::new(FindingKind::OverFitting, confidence(base, r), evidence.join("; "), remedy))
}

type Sign = Option<(String, f64)>;

fn error_gap(run: &Run<'_>) -> Sign {
    if run.train_error.len().min(run.validation_error.len()) < SHORTEST {
        return None;
    }
    let (train, validation) = (run.train_error.tail()?, run.validation_error.tail()?);
    let tolerance: f64 = if train < 0.1 { 0.07 } else { 0.1 };
    let noise = run.context.validation_samples.map_or(0.0, |n| {
        let variance = validation * (1.0 - validation) / n as f64;
        2.0 * variance.max(0.0).sqrt()
    });
    let r = (validation - train) / tolerance.max(noise);
    (r >= 1.0).then(|| {
        let text = format!(
            "the training error ended at {}, the validation error at {}, a gap of {}",
            percent(train),
            percent(validation),
            percent(validation - train)
        );
        (text, r)
    })
}

/// Only where no errors are recorded: twice the training loss, and 0.15 of the scale apart.
fn loss_gap(run: &Run<'_>) -> Sign {
    let no_errors = run.train_error.len().min(run.validation_error.len()) < SHORTEST;
    if !no_errors || run.train_loss.len().min(run.validation_loss.len()) < SHORTEST {
        return None;
    }
    let (train, validation) = (run.train_loss.tail()?, run.validation_loss.tail()?);
    let r = (validation - train) / (0.15 * run.scale(&run.validation_loss)?);
    (validation >= 2.0 * train && r >= 1.0).then(|| {
        let text = format!(
            "the training loss ended at {}, the validation loss at {}",
            show(train),
            show(validation)
        );
        (text, r)
    })
}

fn loss_rise(run: &Run<'_>) -> Sign {
    let curve = &run.validation_loss;
    if curve.len() < 5 {
        return None;
    }
    let (tail, (epoch, best)) = (curve.tail()?, curve.best()?);
    let fell = run.train_loss.tail()? < run.train_loss.at(epoch)?;
    let r = (tail - best) / (0.1 * run.scale(curve)?);
    (fell && best > 0.0 && tail >= 1.25 * best && r >= 1.0).then(|| {
        let text = format!(
            "the validation loss rose from {} in epoch {epoch} to {} while the training loss fell",
            show(best),
            show(tail)
        );
        (text, r)
    })
}

/// Healthy, as far as the recorded numbers can say, or too short to say.
pub(super) fn nothing_wrong(run: &Run<'_>) -> Finding {
    let train = run.train_loss.len().max(run.train_error.len());
    let validation = run.validation_loss.len().max(run.validation_error.len());
    let longest = train.max(validation);
    if longest < SHORTEST {
        let evidence = match longest {
            0 => "the history holds no loss and no error".to_string(),
            n => format!("the history holds {n} epoch{}", if n == 1 { "" } else { "s" }),
        };
        let remedy = "record losses and errors of training and validation for at least 3 epochs";
        return Finding::new(FindingKind::TooShort, 1.0, evidence, remedy);
    }
    let mut evidence: Vec<String> = Vec::new();
    let parts = [
        ("training loss", run.train_loss.tail().map(show)),
        ("validation loss", run.validation_loss.tail().map(show)),
        ("training error", run.train_error.tail().map(percent)),
        ("validation error", run.validation_error.tail().map(percent)),
    ];
    evidence
        .extend(parts.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?))));
    let whole = train >= 5 && validation >= 5 && run.context.prior_loss().is_some();
    let trust = if whole { 0.9 } else { 0.6 };
    let missing = if validation < SHORTEST {
        "; without validation numbers over-fitting cannot be seen"
    } else {
        ""
    };
    let text = format!("after {longest} epochs: {}{missing}", evidence.join(", "));
    Finding::new(FindingKind::Healthy, trust, text, "nothing to do")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{history, kinds};
    use super::*;
    use crate::{Context, diagnose};
    use firebrick_core::names::{TRAIN_ERROR, TRAIN_LOSS, VALIDATION_ERROR, VALIDATION_LOSS};

    fn falling(length: usize, start: f64, end: f64) -> Vec<f64> {
        (0..length).map(|t| end + (start - end) * (-(t as f64) / 2.0).exp()).collect()
    }

    #[test]
    fn a_good_run_is_healthy() {
        let run = history(&[
            (TRAIN_LOSS, &falling(20, 1.5, 0.01)),
            (VALIDATION_LOSS, &falling(20, 1.2, 0.08)),
            (TRAIN_ERROR, &falling(20, 0.4, 0.0)),
            (VALIDATION_ERROR, &falling(20, 0.3, 0.02)),
        ]);
        let found = diagnose(&run, &Context::new().with_classes(10)).expect("valid");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].finding, found[0].confidence), (FindingKind::Healthy, 0.9));
    }

    #[test]
    fn chance_level_is_never_better_than_the_prior() {
        let context = Context::new().with_classes(10);
        let stuck = history(&[(TRAIN_LOSS, &[2.31; 12]), (VALIDATION_LOSS, &[2.32; 12])]);
        let found = kinds(&stuck, &context);
        assert_eq!(found, [FindingKind::NeverBetterThanPrior, FindingKind::Plateau]);
        // Shuffled labels: training learns by heart, validation never does.
        let shuffled = history(&[
            (TRAIN_LOSS, &falling(20, 2.3, 0.3)),
            (VALIDATION_LOSS, &[2.4, 2.4, 2.5, 2.6, 2.9, 3.0, 3.2, 3.4, 3.5, 3.6, 3.7, 3.8]),
        ]);
        let found = diagnose(&shuffled, &context).expect("valid");
        assert_eq!(found[0].finding, FindingKind::NeverBetterThanPrior);
        assert!(found[0].evidence.ends_with("the training loss did fall below that"));
        assert_eq!(found[1].finding, FindingKind::OverFitting);
        // By errors alone; and with an entropy below ln 10 the same loss is no longer news.
        let errors = history(&[(VALIDATION_ERROR, &[0.9, 0.89, 0.88, 0.9])]);
        assert_eq!(kinds(&errors, &context), [FindingKind::NeverBetterThanPrior]);
        let rare = history(&[(VALIDATION_LOSS, &[0.33, 0.32, 0.325, 0.32])]);
        let known = Context::new().with_classes(2).with_prior_loss(0.325);
        assert_eq!(kinds(&rare, &known), [FindingKind::NeverBetterThanPrior]);
    }

    #[test]
    fn over_fitting_needs_a_gap_beyond_the_noise_or_a_rise_beyond_a_tenth() {
        let gap = history(&[
            (TRAIN_ERROR, &falling(10, 0.5, 0.0)),
            (VALIDATION_ERROR, &falling(10, 0.5, 0.2)),
        ]);
        let context = Context::new().with_classes(10).with_samples(100).with_parameters(5000);
        let found = diagnose(&gap, &context).expect("valid");
        assert_eq!(found[0].finding, FindingKind::OverFitting);
        assert!(found[0].evidence.ends_with("the model has 5000 parameters for 100 samples"));
        // Twelve validation samples cannot show a gap of 0.2: two standard errors are 0.23.
        let few = context.with_validation_samples(12);
        assert_eq!(kinds(&gap, &few), [FindingKind::Healthy]);
        let mut rising = falling(8, 1.0, 0.4);
        rising.extend([0.6, 0.7, 0.8, 0.9, 1.0, 1.0]);
        let rise = history(&[(TRAIN_LOSS, &falling(14, 1.0, 0.01)), (VALIDATION_LOSS, &rising)]);
        let found = diagnose(&rise, &Context::new().with_classes(10)).expect("valid");
        assert_eq!(found[0].finding, FindingKind::OverFitting);
        assert!(found[0].remedy.starts_with("stop early (epoch 8 "), "{}", found[0].remedy);
        // Near zero a ratio of 2 means nothing.
        let mut small = falling(8, 1.0, 0.05);
        small.extend([0.08, 0.09, 0.1, 0.1, 0.1]);
        let run = history(&[(TRAIN_LOSS, &falling(13, 1.0, 0.01)), (VALIDATION_LOSS, &small)]);
        assert_eq!(kinds(&run, &Context::new().with_classes(10)), [FindingKind::Healthy]);
    }

    #[test]
    fn under_fitting_goes_by_the_target_or_by_a_guess() {
        let run =
            history(&[(TRAIN_LOSS, &falling(20, 2.2, 0.5)), (TRAIN_ERROR, &falling(20, 0.6, 0.2))]);
        let context = Context::new().with_classes(10);
        assert_eq!(kinds(&run, &context), [FindingKind::Healthy]);
        let found = diagnose(&run, &context.clone().with_target_error(0.05)).expect("valid");
        assert_eq!(found[0].finding, FindingKind::UnderFitting);
        assert!(found[0].evidence.contains("above the 5.00 % that is wanted"));
        let poor =
            history(&[(TRAIN_LOSS, &falling(20, 2.2, 1.5)), (TRAIN_ERROR, &falling(20, 0.8, 0.6))]);
        let found = kinds(&poor, &context);
        assert_eq!(found, [FindingKind::Plateau, FindingKind::UnderFitting]);
        // A target that is met silences plateau and under-fitting.
        let generous = context.with_target_error(0.7);
        assert_eq!(kinds(&poor, &generous), [FindingKind::Healthy]);
    }
}
