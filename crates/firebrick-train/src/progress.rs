//! The bar of a running epoch; silent where no terminal is.

use indicatif::{ProgressBar, ProgressStyle};

/// One bar an epoch, on the standard error stream.
#[derive(Debug)]
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// A bar over the steps of all epochs, or nothing where `shown` is false or no terminal is there.
    pub(crate) fn new(shown: bool, epochs: usize, batches: usize) -> Self {
        if !shown {
            return Self(None);
        }
        let bar = ProgressBar::new((epochs * batches) as u64);
        let template = "{prefix} [{bar:24}] {percent:>3}% {msg} {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self(Some(bar))
    }

    pub(crate) fn epoch(&self, epoch: usize, epochs: usize) {
        if let Some(bar) = &self.0 {
            bar.set_prefix(format!("epoch {epoch}/{epochs}"));
        }
    }

    pub(crate) fn step(&self, loss: f64, rate: f64) {
        if let Some(bar) = &self.0 {
            bar.inc(1);
            bar.set_message(format!("loss {loss:.4} rate {rate:.2e}"));
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
