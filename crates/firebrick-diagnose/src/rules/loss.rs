//! Rules on the course of the loss: divergence, plateau, still falling at the end.

use super::{Run, SHORTEST, confidence, show};
use crate::{Finding, FindingKind};

/// A divergence, and whether the run ended in it.
pub(super) struct Divergence {
    pub(super) finding: Finding,
    pub(super) lasting: bool,
}

const STEADY: &str = "lower the learning rate or warm it up, clip the global gradient norm, check the \
                      scale of inputs and initial weights";

/// NaN or infinity in a loss or an error; or a training loss that ends above its start by a tenth, or at
/// twice its minimum with half of all progress lost.
pub(super) fn divergence(run: &Run<'_>) -> Option<Divergence> {
    if let Some((name, epoch, value, recovered)) = run.broken {
        let (trust, end) = if recovered {
            (0.6, "; it was finite again later")
        } else {
            (0.99, " and was not finite at the end")
        };
        let evidence = format!("{name} was {value} in epoch {epoch}{end}");
        let finding = Finding::new(FindingKind::Divergence, trust, evidence, STEADY);
        return Some(Divergence { finding, lasting: !recovered });
    }
    let loss = &run.train_loss;
    if loss.len() < SHORTEST {
        return None;
    }
    let (first, tail, (epoch, best)) = (loss.first()?, loss.tail()?, loss.best()?);
    let above_start = (tail - first) / (0.1 * first.abs());
    let lost = (tail - best) / (0.5 * (first - best));
    let risen = if tail > first && above_start >= 1.0 {
        Some(above_start)
    } else if best > 0.0 && first > best && tail >= 2.0 * best && lost >= 1.0 {
        Some(lost)
    } else {
        None
    }?;
    let evidence = format!(
        "the training loss started at {}, reached {} in epoch {epoch} and ended at {}",
        show(first),
        show(best),
        show(tail)
    );
    let finding = Finding::new(FindingKind::Divergence, confidence(0.8, risen), evidence, STEADY);
    Some(Divergence { finding, lasting: true })
}

/// Between the third and the last quarter the loss still fell by a tenth of all that it fell, at least.
pub(super) fn not_converged(run: &Run<'_>) -> Option<Finding> {
    let (loss, name) = run.progress();
    let (first, (_, best), fall) = (loss.first()?, loss.best()?, loss.late_fall()?);
    let total = first - best;
    // A change of less than a twentieth counts when it is steady: that is a rate far too low, not noise.
    let noise = total < 0.05 * first.abs() && loss.falls() < 0.75;
    if target_met(run) || noise || total <= 1e-6 * first.abs() || fall < 0.1 * total {
        return None;
    }
    let evidence = format!(
        "the {name} still fell by {} from the third to the last quarter of {} epochs, {:.0} % of all \
         that it fell",
        show(fall),
        loss.len(),
        100.0 * fall / total
    );
    let remedy = "train longer; if the fall is slow from the start, raise the learning rate";
    Some(Finding::new(
        FindingKind::NotConverged,
        confidence(0.6, fall / (0.1 * total)),
        evidence,
        remedy,
    ))
}

/// The loss stood still over the second half at a level that is not good: more than half of the prior's
/// loss, or, with no prior known, within a hundredth of where it started.
pub(super) fn plateau(run: &Run<'_>) -> Option<Finding> {
    let loss = &run.train_loss;
    let (first, tail, fall) = (loss.first()?, loss.tail()?, loss.late_fall()?);
    let scale = run.scale(loss)?;
    if loss.len() < 5 || scale <= 0.0 || target_met(run) || fall.abs() >= 0.01 * scale {
        return None;
    }
    let (poor, r) = match run.context.prior_loss() {
        Some(prior) => (tail >= 0.5 * prior, tail / (0.5 * prior)),
        None => ((first - tail).abs() <= 0.01 * first.abs(), 1.0),
    };
    if !poor {
        return None;
    }
    let evidence = if (first - tail).abs() <= 1e-9 * first.abs() {
        format!("the training loss stayed at {} for {} epochs", show(tail), loss.len())
    } else {
        format!(
            "the training loss stands at {} and changed by {} only from the third to the last quarter of \
             {} epochs",
            show(tail),
            show(fall.abs()),
            loss.len()
        )
    };
    let remedy = "change the learning rate by a factor of 3 up and down, use momentum or Adam to leave \
                  the plateau, check initial weights and activations, then enlarge the model";
    Some(Finding::new(FindingKind::Plateau, confidence(0.5, r), evidence, remedy))
}

/// Whether the training error that was asked for has been reached.
pub(super) fn target_met(run: &Run<'_>) -> bool {
    let target = run.context.target_error;
    target.zip(run.train_error.tail()).is_some_and(|(target, error)| error <= target)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{history, kinds};
    use super::*;
    use crate::{Context, diagnose};
    use firebrick_core::names::{TRAIN_LOSS, VALIDATION_LOSS};

    fn curve(length: usize, value: impl Fn(f64) -> f64) -> Vec<f64> {
        (0..length).map(|t| value(t as f64)).collect()
    }

    #[test]
    fn nan_infinity_and_recovery_are_told_apart() {
        let context = Context::new().with_classes(10);
        let lost = history(&[(TRAIN_LOSS, &[2.0, 1.0, f64::NAN, f64::NAN])]);
        let found = diagnose(&lost, &context).expect("valid");
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].evidence,
            "train_loss was NaN in epoch 3 and was not finite at the end"
        );
        assert!(found[0].confidence > 0.9);
        let last = history(&[(VALIDATION_LOSS, &[2.0, f64::INFINITY])]);
        let found = diagnose(&last, &context).expect("valid");
        assert_eq!(
            found[0].evidence,
            "validation_loss was inf in epoch 2 and was not finite at the end"
        );
        let back = history(&[(TRAIN_LOSS, &[2.0, f64::NAN, 0.5, 0.2, 0.1, 0.1, 0.1, 0.1])]);
        let found = diagnose(&back, &context).expect("valid");
        assert_eq!(found[0].evidence, "train_loss was NaN in epoch 2; it was finite again later");
        assert!(found[0].confidence < 0.7);
    }

    #[test]
    fn a_rising_loss_diverges_and_a_noisy_small_one_does_not() {
        let context = Context::new();
        let above = history(&[(TRAIN_LOSS, &[2.3, 2.4, 3.0, 4.0])]);
        assert_eq!(kinds(&above, &context), [FindingKind::Divergence]);
        let back = history(&[(TRAIN_LOSS, &[2.3, 0.5, 0.3, 1.5, 1.6, 1.5])]);
        assert_eq!(kinds(&back, &context), [FindingKind::Divergence]);
        let small =
            curve(20, |t| if t < 5.0 { 1.0 / (1.0 + t) } else { 0.001 + 0.004 * (t % 2.0) });
        assert_eq!(kinds(&history(&[(TRAIN_LOSS, &small)]), &context), [FindingKind::Healthy]);
        // A negative loss (a log density) that falls is healthy.
        let negative = curve(30, |t| -5.0 * (1.0 - (-t / 3.0).exp()));
        assert_eq!(kinds(&history(&[(TRAIN_LOSS, &negative)]), &context), [FindingKind::Healthy]);
    }

    #[test]
    fn a_straight_fall_is_not_converged_and_an_exponential_one_is() {
        let context = Context::new().with_classes(10);
        let straight = curve(20, |t| 2.0 - 0.05 * t);
        let found = diagnose(&history(&[(TRAIN_LOSS, &straight)]), &context).expect("valid");
        assert_eq!(found[0].finding, FindingKind::NotConverged);
        assert!(found[0].evidence.contains("0.2500"), "{}", found[0].evidence);
        let done = curve(20, |t| 2.0 * (-t / 3.0).exp());
        assert_eq!(kinds(&history(&[(TRAIN_LOSS, &done)]), &context), [FindingKind::Healthy]);
    }

    #[test]
    fn a_tiny_fall_counts_when_it_is_steady() {
        let context = Context::new().with_classes(10);
        let slow = curve(20, |t| 2.30 - 0.0005 * t);
        let found = kinds(&history(&[(TRAIN_LOSS, &slow)]), &context);
        assert_eq!(found, [FindingKind::NeverBetterThanPrior, FindingKind::NotConverged]);
        let noise = [2.301, 2.303, 2.304, 2.300, 2.305, 2.302, 2.300, 2.299, 2.298, 2.300];
        let found = kinds(&history(&[(TRAIN_LOSS, &noise)]), &context);
        assert_eq!(found, [FindingKind::NeverBetterThanPrior, FindingKind::Plateau]);
    }

    #[test]
    fn constant_losses_are_plateaus_unless_they_are_zero() {
        let constant = history(&[(TRAIN_LOSS, &[2.3; 10])]);
        let found = diagnose(&constant, &Context::new()).expect("valid");
        assert_eq!(found[0].finding, FindingKind::Plateau);
        assert_eq!(found[0].evidence, "the training loss stayed at 2.300 for 10 epochs");
        let zero = history(&[(TRAIN_LOSS, &[0.0; 10])]);
        assert_eq!(kinds(&zero, &Context::new()), [FindingKind::Healthy]);
        // With the prior known, a low constant is a finished model.
        let low = history(&[(TRAIN_LOSS, &[0.05; 10])]);
        assert_eq!(kinds(&low, &Context::new().with_classes(10)), [FindingKind::Healthy]);
    }
}
