//! The result as text for a terminal.

use crate::summary::Summary;
use firebrick::select::Spread;
use std::fmt::Write;
use std::path::Path;

/// The result; `out` is where the report and the ledger lie.
pub(crate) fn text(summary: &Summary, out: &Path) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, summary, out);
    text
}

fn write(text: &mut String, summary: &Summary, out: &Path) -> std::fmt::Result {
    let data = &summary.data;
    writeln!(
        text,
        "{}: {} rows of {} numbers, {} classes",
        data.name, data.rows, data.columns, data.classes
    )?;
    writeln!(
        text,
        "training {}, validation {}, test {} (sealed); seed {}, back-end {}\n",
        data.train, data.validation, data.test, summary.seed, summary.backend
    )?;

    writeln!(
        text,
        "error by {}-fold cross-validation on the training part, mean and deviation",
        data.folds
    )?;
    writeln!(text, "  {:<14} {:>10}  {:<16} validation", "candidate", "parameters", "training")?;
    for candidate in &summary.candidates {
        let spread = |spread: &Option<Spread>| match spread {
            Some(spread) => format!("{:.4} ± {:.4}", spread.mean, spread.sd),
            None => "-".to_owned(),
        };
        let mark = if candidate.name == summary.chosen { "*" } else { " " };
        let line = format!(
            "{mark} {:<14} {:>10}  {:<16} {:<16} {}",
            candidate.name,
            candidate.parameters,
            spread(&candidate.train_error),
            spread(&candidate.validation_error),
            candidate.disqualified.as_deref().unwrap_or_default()
        );
        writeln!(text, "{}", line.trim_end())?;
    }
    writeln!(text, "\nchosen: {}", summary.reason)?;
    writeln!(
        text,
        "trained again for {} epochs, then the test part was opened:\n",
        summary.chosen_epochs
    )?;

    let test = &summary.test;
    let (low, high) = test.interval;
    let rows = data.train + data.validation;
    writeln!(text, "  {:<12} {:>7}  {:>5}", "error", "", "rows")?;
    writeln!(text, "  {:<12} {:>7.4}  {rows:>5}", "training", summary.train_error)?;
    writeln!(
        text,
        "  {:<12} {:>7.4}  {:>5}  trained without them",
        "validation", summary.validation_error, data.validation
    )?;
    writeln!(
        text,
        "  {:<12} {:>7.4}  {:>5}  95 % interval {low:.4} to {high:.4}",
        "test", test.error, test.n
    )?;
    let gaps = &summary.gaps;
    for (name, gap, what) in [
        (
            "gap",
            gaps.validation_minus_train,
            "validation less training, in the training without them",
        ),
        ("", gaps.test_minus_train, "test less training"),
        ("", gaps.test_minus_validation, "test less validation"),
    ] {
        writeln!(text, "  {name:<12} {gap:>+7.4}         {what}")?;
    }
    let opening = &summary.opening;
    if let Some(reason) = &test.reopened {
        writeln!(text, "  the test part was opened again (use {}): {reason}", opening.uses)?;
    } else if opening.repetition {
        writeln!(text, "  a repetition: first opened {}, same model, same figures", opening.time)?;
    }

    writeln!(text, "\ndiagnosis")?;
    for finding in &summary.diagnosis {
        writeln!(
            text,
            "  {} (confidence {:.2}): {}",
            finding.finding, finding.confidence, finding.evidence
        )?;
        if !finding.remedy.is_empty() {
            writeln!(text, "    {}", finding.remedy)?;
        }
    }
    for warning in &summary.warnings {
        writeln!(text, "warning: {warning}")?;
    }
    writeln!(text, "\nreport: {}", out.join("report.html").display())?;
    writeln!(text, "{:.1} s", summary.seconds)
}
