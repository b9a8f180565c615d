//! The bar of a running epoch; silent where no terminal is.

use indicatif::{ProgressBar, ProgressStyle};

/// One bar an epoch, on the standard error stream.
#[derive(Debug)]
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// A bar, or nothing where `shown` is false or no terminal is there.
    pub(crate) fn new(shown: bool) -> Self {
        if !shown {
            return Self(None);
        }
        let bar = ProgressBar::new(0);
        let template = "{prefix} [{bar:24}] {percent:>3}% {msg} {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self((!bar.is_hidden()).then_some(bar))
    }

    pub(crate) fn epoch(&self, epoch: usize, epochs: usize, batches: usize) {
        if let Some(bar) = &self.0 {
            bar.reset();
            bar.set_length(batches as u64);
            bar.set_prefix(format!("epoch {epoch}/{epochs}"));
        }
    }

    /// `done` batches of the epoch; `norm` is asked only where there is a bar.
    pub(crate) fn step(&self, done: usize, loss: f64, rate: f64, norm: impl Fn() -> Option<f64>) {
        if let Some(bar) = &self.0 {
            let norm = norm().map_or_else(String::new, |norm| format!(" norm {norm:.2e}"));
            bar.set_message(format!("loss {loss:.4} rate {rate:.2e}{norm}"));
            bar.set_position(done as u64);
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
