//! Shows how far cross-validation is: a bar on a terminal, plain lines elsewhere.

use firebrick::select::{Outcome, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Shows finished folds on the standard error stream, so that the result alone is on the standard output.
#[derive(Debug)]
pub struct Show(Option<ProgressBar>);

impl Show {
    /// Of `total` trainings nothing is done.
    #[must_use]
    pub fn new(total: usize) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
        let template = "cross-validation [{bar:30}] {pos}/{len} folds {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self(Some(bar))
    }

    /// One more training has ended.
    pub fn fold(&self, progress: &Progress<'_>) {
        let remaining = progress.remaining.unwrap_or(Duration::ZERO).as_secs_f64();
        let result = match progress.outcome {
            Outcome::Done(score) => format!("validation error {:.4}", score.validation_error),
            Outcome::Failed(reason) => format!("failed: {reason}"),
            other => format!("{other:?}"),
        };
        let (candidate, fold) = (progress.candidate, progress.fold + 1);
        match &self.0 {
            Some(bar) => {
                bar.set_position(progress.finished as u64);
                bar.set_message(format!("{candidate} {fold}: {result}, {remaining:.0} s left"));
            }
            None => {
                let (finished, total) = (progress.finished, progress.total);
                // A closed stream must not end the run.
                let _ = writeln!(
                    std::io::stderr(),
                    "[{finished:>3}/{total}] {candidate}, fold {fold}: {result}, about {remaining:.0} s left"
                );
            }
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
