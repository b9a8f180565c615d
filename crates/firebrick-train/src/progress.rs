//! The bar of a running epoch; silent where no terminal is.

use indicatif::{ProgressBar, ProgressStyle};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// One bar an epoch, on the standard error stream.
#[derive(Debug)]
pub(crate) struct Progress(Option<Shown>);

#[derive(Debug)]
struct Shown {
    bar: ProgressBar,
    /// When the text is due again.
    due: Cell<Instant>,
}

/// A bar is drawn no more often than this, and a small model's step takes less than the text.
const PAUSE: Duration = Duration::from_millis(50);

impl Progress {
    /// A bar, or nothing where `shown` is false or no terminal is there.
    pub(crate) fn new(shown: bool) -> Self {
        if shown { Self::on(ProgressBar::new(0)) } else { Self(None) }
    }

    fn on(bar: ProgressBar) -> Self {
        let template = "{prefix} [{bar:24}] {percent:>3}% {msg} {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        let due = Cell::new(Instant::now());
        Self((!bar.is_hidden()).then_some(Shown { bar, due }))
    }

    pub(crate) fn epoch(&self, epoch: usize, epochs: usize, batches: usize) {
        if let Some(Shown { bar, .. }) = &self.0 {
            bar.reset();
            bar.set_length(batches as u64);
            bar.set_prefix(format!("epoch {epoch}/{epochs}"));
        }
    }

    /// `done` batches of the epoch; `norm` is asked only where it is drawn.
    pub(crate) fn step(&self, done: usize, loss: f64, rate: f64, norm: impl Fn() -> Option<f64>) {
        let Some(Shown { bar, due }) = &self.0 else { return };
        let now = Instant::now();
        if now >= due.get() {
            due.set(now + PAUSE);
            let norm = norm().map_or_else(String::new, |norm| format!(" norm {norm:.2e}"));
            bar.set_message(format!("loss {loss:.4} rate {rate:.2e}{norm}"));
        }
        bar.set_position(done as u64);
    }

    pub(crate) fn finish(&self) {
        if let Some(Shown { bar, .. }) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::{ProgressDrawTarget, TermLike};
    use std::io;
    use std::sync::{Arc, Mutex};

    /// A terminal that keeps everything that is written to it.
    #[derive(Debug, Clone, Default)]
    struct Screen(Arc<Mutex<String>>);

    impl Screen {
        fn text(&self) -> String {
            self.0.lock().expect("one thread").clone()
        }
    }

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            120
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, line: &str) -> io::Result<()> {
            self.write_str(line)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().expect("one thread").push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_terminal_shows_epoch_loss_rate_norm_and_the_time_that_is_left() {
        let screen = Screen::default();
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let progress = Progress::on(ProgressBar::with_draw_target(Some(0), target));
        progress.epoch(2, 5, 10);
        progress.step(4, 0.25, 1e-3, || Some(1.5));
        let text = screen.text();
        for part in ["epoch 2/5 [====", " 40% ", "loss 0.2500 rate 1.00e-3 norm 1.50e0", "s left"] {
            assert!(text.contains(part), "{part:?} is missing from {text:?}");
        }
        // Too soon for another text, and the number of batches goes on.
        progress.step(5, 9.0, 1e-3, || None);
        let text = screen.text();
        assert!(text.contains(" 50% ") && !text.contains("9.0000"), "{text:?}");
        progress.finish();
    }

    #[test]
    fn without_a_norm_the_text_ends_before_it() {
        let screen = Screen::default();
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let progress = Progress::on(ProgressBar::with_draw_target(Some(0), target));
        progress.epoch(1, 1, 4);
        progress.step(1, 0.5, 0.1, || None);
        assert!(screen.text().contains("rate 1.00e-1 "), "{:?}", screen.text());
        assert!(!screen.text().contains("norm"));
    }

    #[test]
    fn it_is_silent_without_a_terminal_or_where_nobody_wants_it() {
        let hidden = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        for progress in [Progress::on(hidden), Progress::new(false)] {
            assert!(progress.0.is_none());
            progress.epoch(1, 1, 4);
            progress.step(1, 0.5, 0.1, || panic!("nobody sees it"));
            progress.finish();
        }
    }
}
