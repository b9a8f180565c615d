//! The rules: each looks at one symptom and says a finding or nothing.

mod fit;
mod gradient;
mod loss;

use crate::{Context, DiagnoseError, Finding, curve::Curve};
use firebrick_core::{History, names};

/// Fewer points than this say nothing about a trend.
const SHORTEST: usize = 3;

/// Says what the history of a run shows, most urgent first; never empty.
///
/// The numbers are looked up by the names in [`firebrick_core::names`]; gradient norms by layer as
/// `grad_norm/LAYER`. Several records of an epoch are averaged. Thresholds and their sources stand in the
/// crate's documentation.
///
/// # Errors
/// When a value of the context is outside its range. No history is an error: an empty one gives
/// [`FindingKind::TooShort`](crate::FindingKind::TooShort).
///
/// ```
/// use firebrick_core::{History, Record, names};
/// use firebrick_diagnose::{Context, FindingKind, diagnose};
///
/// let mut history = History::default();
/// for (epoch, loss) in [(1, 2.3), (2, 5.1), (3, f64::NAN)] {
///     history.push(Record::new(epoch, 0).with(names::TRAIN_LOSS, loss));
/// }
/// let findings = diagnose(&history, &Context::new())?;
/// assert_eq!(findings[0].finding, FindingKind::Divergence);
/// # Ok::<(), firebrick_diagnose::DiagnoseError>(())
/// ```
pub fn diagnose(history: &History, context: &Context) -> Result<Vec<Finding>, DiagnoseError> {
    context.check()?;
    let run = Run::of(history, context);
    let mut findings: Vec<Finding> = Vec::new();
    findings.extend(gradient::exploding(history, context));
    findings.extend(gradient::vanishing(history, context));
    findings.extend(gradient::skipped(history));
    let divergence = loss::divergence(&run);
    // The curves of a run that ended in NaN or far above its start say nothing more.
    if !divergence.as_ref().is_some_and(|found| found.lasting) {
        let prior = fit::never_better_than_prior(&run);
        let over = fit::over_fitting(&run);
        let late = loss::not_converged(&run);
        findings.extend(if late.is_none() { loss::plateau(&run) } else { None });
        if prior.is_none() {
            findings.extend(fit::under_fitting(&run, late.is_some()));
        }
        findings.extend([prior, over, late].into_iter().flatten());
    }
    findings.extend(divergence.map(|found| found.finding));
    if findings.is_empty() {
        findings.push(fit::nothing_wrong(&run));
    }
    findings.sort_by_key(|finding| finding.finding);
    Ok(findings)
}

/// The curves that the rules share, finite points only, and the context.
struct Run<'a> {
    train_loss: Curve,
    train_error: Curve,
    validation_loss: Curve,
    validation_error: Curve,
    /// (name, epoch, value, recovered) of the first number that is not finite.
    broken: Option<(&'static str, usize, f64, bool)>,
    context: &'a Context,
}

impl<'a> Run<'a> {
    fn of(history: &History, context: &'a Context) -> Self {
        let all = [
            names::TRAIN_LOSS,
            names::TRAIN_ERROR,
            names::VALIDATION_LOSS,
            names::VALIDATION_ERROR,
        ]
        .map(|name| (name, Curve::of(history, name)));
        let broken = all
            .iter()
            .filter_map(|(name, curve)| {
                let (epoch, value) = curve.broken()?;
                let recovered = curve.points.last().is_some_and(|(_, last)| last.is_finite());
                Some((*name, epoch, value, recovered))
            })
            .min_by_key(|&(_, epoch, _, recovered)| (recovered, epoch));
        let [train_loss, train_error, validation_loss, validation_error] =
            all.map(|(_, curve)| curve.finite());
        Self { train_loss, train_error, validation_loss, validation_error, broken, context }
    }

    /// The loss by which progress is judged: validation where there is any, else training.
    fn progress(&self) -> (&Curve, &'static str) {
        if self.validation_loss.len() >= SHORTEST {
            (&self.validation_loss, "validation loss")
        } else {
            (&self.train_loss, "training loss")
        }
    }

    /// The loss that a change is measured against: the prior's, else the first one recorded.
    fn scale(&self, curve: &Curve) -> Option<f64> {
        self.context.prior_loss().or_else(|| curve.first().map(f64::abs))
    }
}

/// Trust in a rule that goes beyond its threshold `r` times, `base` being the trust at the threshold.
fn confidence(base: f64, r: f64) -> f64 {
    if r.is_nan() { base } else { (1.0 - (1.0 - base) / r.max(1.0)).min(0.99) }
}

/// A number in print: four significant digits, plain where that is short.
fn show(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || !value.is_finite() {
        format!("{value}")
    } else if (1e-3..1e4).contains(&size) {
        let digits = (3 - size.log10().floor() as i32).max(0) as usize;
        format!("{value:.digits$}")
    } else {
        format!("{value:.2e}")
    }
}

fn percent(value: f64) -> String {
    format!("{:.2} %", 100.0 * value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FindingKind;
    use firebrick_core::Record;
    use proptest::prelude::*;

    pub(crate) fn history(columns: &[(&str, &[f64])]) -> History {
        let mut history = History::default();
        let length = columns.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
        for row in 0..length {
            let mut record = Record::new(row + 1, 20 * (row as u64 + 1));
            for (name, values) in columns {
                if let Some(&value) = values.get(row) {
                    record.values.insert((*name).into(), value);
                }
            }
            history.push(record);
        }
        history
    }

    pub(crate) fn kinds(history: &History, context: &Context) -> Vec<FindingKind> {
        let found = diagnose(history, context).expect("the context is valid");
        found.iter().map(|finding| finding.finding).collect()
    }

    #[test]
    fn an_empty_history_and_a_single_epoch_are_too_short() {
        let context = Context::new().with_classes(10);
        assert_eq!(kinds(&History::default(), &context), [FindingKind::TooShort]);
        let one = history(&[(names::TRAIN_LOSS, &[0.4]), (names::VALIDATION_LOSS, &[0.5])]);
        assert_eq!(kinds(&one, &context), [FindingKind::TooShort]);
        let unrelated = history(&[("lr", &[0.1; 30])]);
        assert_eq!(kinds(&unrelated, &context), [FindingKind::TooShort]);
    }

    #[test]
    fn a_bad_context_is_refused_before_any_work() {
        let error = diagnose(&History::default(), &Context::new().with_classes(0));
        assert_eq!(error.expect_err("refused").to_string(), "`classes` must be at least 2, got 0");
    }

    #[test]
    fn numbers_print_with_four_digits() {
        assert_eq!(show(0.012345), "0.01235");
        assert_eq!(show(123.456), "123.5");
        assert_eq!(show(9999.9), "10000");
        assert_eq!(show(1.5e-7), "1.50e-7");
        assert_eq!(show(0.0), "0");
        assert_eq!(show(f64::NAN), "NaN");
    }

    fn any_number() -> impl Strategy<Value = f64> {
        prop_oneof![
            8 => -10.0..10.0f64,
            1 => Just(f64::NAN),
            1 => Just(f64::INFINITY),
            1 => Just(f64::MAX),
            1 => Just(f64::MIN),
            1 => Just(0.0),
            1 => Just(f64::MIN_POSITIVE),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn any_history_gets_an_ordered_answer(
            rows in prop::collection::vec((0usize..5, 0usize..7, any_number()), 0..60),
            classes in prop::option::of(2usize..20),
        ) {
            let all = [
                "train_loss", "train_error", "validation_loss", "validation_error", "grad_norm",
                "grad_norm/a", "grad_norm/b",
            ];
            let mut history = History::default();
            for (epoch, name, value) in rows {
                history.push(Record::new(epoch, 1).with(all[name], value).with("skipped_steps", value));
            }
            let context = Context { classes, ..Context::new() };
            let found = diagnose(&history, &context).expect("valid");
            prop_assert!(!found.is_empty());
            prop_assert!(found.windows(2).all(|pair| pair[0].finding < pair[1].finding));
            for finding in &found {
                prop_assert!((0.0..=1.0).contains(&finding.confidence));
                prop_assert!(!finding.evidence.is_empty() && !finding.remedy.is_empty());
            }
        }
    }
}
