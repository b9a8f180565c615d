//! Where dropout masks come from: a seed and a position, so that a run repeats and resumes to the bit.
//!
//! burn draws masks from one generator for the whole process, so two models that train on two threads take
//! each other's numbers. A [`MaskSource`] belongs to one model.

use firebrick_core::{Philox, Seed};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The random numbers of one model's noise layers.
///
/// Clones share the position, as the layers of one model must; a model that trains on another thread needs a
/// source of its own. Save [`position`](Self::position) with a checkpoint and [`seek`](Self::seek) to it on
/// resume.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_regularize::MaskSource;
///
/// let masks = MaskSource::new(Seed(7));
/// let first = masks.keep(1000, 0.9);
/// assert_eq!(masks.position(), 250); // blocks of four numbers
/// masks.seek(0);
/// assert_eq!(masks.keep(1000, 0.9), first);
/// ```
#[derive(Debug, Clone)]
pub struct MaskSource {
    stream: Philox,
    position: Arc<AtomicU64>,
}

impl MaskSource {
    /// A source at its start.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self { stream: seed.stream("masks"), position: Arc::new(AtomicU64::new(0)) }
    }

    /// How many blocks of four numbers have been drawn.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// Goes to a position that [`position`](Self::position) gave.
    pub fn seek(&self, position: u64) {
        self.position.store(position, Ordering::Relaxed);
    }

    /// For each of `count` units whether it is kept, each with probability `keep` to 32 bits.
    #[must_use]
    pub fn keep(&self, count: usize, keep: f64) -> Vec<bool> {
        let mut kept = Vec::with_capacity(count.next_multiple_of(4));
        self.draw(count, |words| {
            let threshold = threshold(keep);
            kept.extend(words.map(|word| u64::from(word) < threshold));
        });
        kept.truncate(count);
        kept
    }

    /// For each of `count` units `value` with probability `keep`, else 0.
    pub(crate) fn scaled(&self, count: usize, keep: f64, value: f32) -> Vec<f32> {
        let mut scaled = Vec::with_capacity(count.next_multiple_of(4));
        let threshold = threshold(keep);
        self.draw(count, |words| {
            scaled.extend(words.map(|word| if u64::from(word) < threshold { value } else { 0.0 }));
        });
        scaled.truncate(count);
        scaled
    }

    fn draw(&self, count: usize, mut take: impl FnMut([u32; 4])) {
        let blocks = count.div_ceil(4) as u64;
        let start = self.position.fetch_add(blocks, Ordering::Relaxed);
        for index in 0..blocks {
            take(self.stream.block_at(start.wrapping_add(index)));
        }
    }
}

/// A word below this is a kept unit.
fn threshold(keep: f64) -> u64 {
    (keep * 2f64.powi(32)).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_kept_is_the_probability() {
        // Five standard errors of a share over 10^6 draws.
        for keep in [0.1f64, 0.5, 0.9] {
            let n = 1_000_000;
            let kept = MaskSource::new(Seed(3)).keep(n, keep).into_iter().filter(|&k| k).count();
            let bound = 5.0 * (keep * (1.0 - keep) / n as f64).sqrt();
            assert!((kept as f64 / n as f64 - keep).abs() < bound, "{keep}: {kept}");
        }
    }

    #[test]
    fn the_ends_are_exact() {
        let masks = MaskSource::new(Seed(3));
        assert!(masks.keep(10_001, 1.0).into_iter().all(|kept| kept));
        assert!(!masks.keep(10_001, 0.0).into_iter().any(|kept| kept));
        assert!(masks.keep(0, 0.5).is_empty());
    }

    #[test]
    fn clones_share_the_position() {
        let masks = MaskSource::new(Seed(3));
        let _ = masks.clone().keep(9, 0.5);
        assert_eq!(masks.position(), 3);
    }
}
