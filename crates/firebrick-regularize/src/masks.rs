//! Where the random numbers of noise layers come from: a seed and a position, so that a run repeats and
//! resumes to the bit.
//!
//! burn draws masks from one generator for the whole process, so two models that train on two threads take
//! each other's numbers. A [`MaskSource`] belongs to one model.

use burn::module::ParamId;
use firebrick_core::{ConfigError, Philox, Seed, check};
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The random numbers of one model's noise layers.
///
/// Clones share position and strength, as the layers of one model must; a model that trains on another thread
/// needs a source of its own.
///
/// Both belong to the state of a run and are in no record of a model. Save [`position`](Self::position) and
/// [`strength`](Self::strength) with a checkpoint; on resume, [`seek`](Self::seek) to the one and
/// [`set_strength`](Self::set_strength) to the other. A saved model that is only evaluated needs the strength too where it
/// has [`Zoneout`](crate::Zoneout).
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
    /// Bits of an f64 in [0, 1].
    strength: Arc<AtomicU64>,
}

/// Elements that one task draws; a multiple of what a block yields.
const CHUNK: usize = 1 << 14;

impl MaskSource {
    /// A source at its start.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self::named(seed, "masks")
    }

    /// A source of the stream called `purpose`, independent of every other name.
    #[must_use]
    pub fn named(seed: Seed, purpose: &str) -> Self {
        Self {
            stream: seed.stream(purpose),
            position: Arc::new(AtomicU64::new(0)),
            strength: Arc::new(AtomicU64::new(1f64.to_bits())),
        }
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

    /// The factor on the drop probability of every layer that draws here, 1 unless a schedule has set it.
    #[must_use]
    pub fn strength(&self) -> f64 {
        f64::from_bits(self.strength.load(Ordering::Relaxed))
    }

    /// Multiplies the drop probability (the deviation, for noise) of every layer that draws here by `factor`,
    /// from now on: 0 switches all of them off. A concrete layer learns its probability, so it knows only off and on.
    ///
    /// # Errors
    /// When `factor` is outside [0, 1] or NaN.
    pub fn set_strength(&self, factor: f64) -> Result<(), ConfigError> {
        let factor = check::range("strength", factor, 0.0..=1.0)?;
        self.strength.store(factor.to_bits(), Ordering::Relaxed);
        Ok(())
    }

    /// For each of `count` units whether it is kept, each with probability `keep` to 32 bits.
    ///
    /// Below 0 and NaN keep nothing, 1 and above everything.
    #[must_use]
    pub fn keep(&self, count: usize, keep: f64) -> Vec<bool> {
        let threshold = threshold(keep);
        self.draw(count, |words| words.map(|word| u64::from(word) < threshold))
    }

    /// For each of `count` units `kept` with probability `keep`, else `dropped`.
    pub(crate) fn pick(&self, count: usize, keep: f64, kept: f32, dropped: f32) -> Vec<f32> {
        let threshold = threshold(keep);
        self.draw(count, |words| {
            words.map(|word| if u64::from(word) < threshold { kept } else { dropped })
        })
    }

    /// Uniform numbers in [0, 1) with 53 bits, two a block.
    pub(crate) fn uniforms(&self, count: usize) -> Vec<f64> {
        self.draw(count, pair)
    }

    /// Standard normal numbers, two a block: cosine and sine branch of Box and Muller.
    pub(crate) fn normals(&self, count: usize) -> Vec<f32> {
        self.draw(count, |words| {
            let [radius, angle] = pair(words);
            let radius = libm::sqrt(-2.0 * libm::log(1.0 - radius));
            let (sine, cosine) = libm::sincos(std::f64::consts::TAU * angle);
            [(radius * cosine) as f32, (radius * sine) as f32]
        })
    }

    /// The same source at another position, which it does not share.
    fn at(&self, position: u64) -> Self {
        Self { position: Arc::new(AtomicU64::new(position)), ..self.clone() }
    }

    /// A generator of its own for one piece of work that draws at most `words` numbers of 32 bits.
    pub(crate) fn reserve(&self, words: usize) -> Philox {
        let start = self.position.fetch_add(words.div_ceil(4) as u64, Ordering::Relaxed);
        let mut generator = self.stream.clone();
        generator.seek(u128::from(start) * 4);
        generator
    }

    /// `N` values a block; the result does not depend on the number of threads.
    fn draw<T: Copy + Default + Send, const N: usize>(
        &self,
        count: usize,
        make: impl Fn([u32; 4]) -> [T; N] + Sync,
    ) -> Vec<T> {
        let start = self.position.fetch_add(count.div_ceil(N) as u64, Ordering::Relaxed);
        let mut drawn = vec![T::default(); count];
        let fill = |(index, chunk): (usize, &mut [T])| {
            let first = start.wrapping_add((index * (CHUNK / N)) as u64);
            for (block, values) in chunk.chunks_mut(N).enumerate() {
                let made = make(self.stream.block_at(first.wrapping_add(block as u64)));
                values.copy_from_slice(&made[..values.len()]);
            }
        };
        if count <= CHUNK {
            fill((0, &mut drawn));
        } else {
            drawn.par_chunks_mut(CHUNK).enumerate().for_each(fill);
        }
        drawn
    }
}

/// One draw for each parameter of a walk, at however many places of the module it lies.
#[derive(Debug)]
pub(crate) struct PerParameter<'a> {
    masks: &'a MaskSource,
    /// Where the draw of each began.
    began: HashMap<ParamId, u64>,
}

impl<'a> PerParameter<'a> {
    pub(crate) fn new(masks: &'a MaskSource) -> Self {
        Self { masks, began: HashMap::new() }
    }

    /// Where to draw for `id` from.
    pub(crate) fn masks(&mut self, id: ParamId) -> MaskSource {
        match self.began.get(&id) {
            Some(&position) => self.masks.at(position),
            None => {
                self.began.insert(id, self.masks.position());
                self.masks.clone()
            }
        }
    }
}

/// Two uniform numbers in [0, 1) with 53 bits from one block, as `Philox::uniform` makes them.
fn pair([a, b, c, d]: [u32; 4]) -> [f64; 2] {
    let uniform = |low: u32, high: u32| {
        ((u64::from(low) | u64::from(high) << 32) >> 11) as f64 / (1u64 << 53) as f64
    };
    [uniform(a, b), uniform(c, d)]
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
        assert!(!masks.keep(10_001, f64::NAN).into_iter().any(|kept| kept));
        assert!(masks.keep(0, 0.5).is_empty());
    }

    #[test]
    fn clones_share_position_and_strength() {
        let masks = MaskSource::new(Seed(3));
        let _ = masks.clone().keep(9, 0.5);
        assert_eq!(masks.position(), 3);
        masks.clone().set_strength(0.25).expect("valid");
        assert_eq!(masks.strength(), 0.25);
        let refused = masks.set_strength(1.5).expect_err("above 1").to_string();
        assert_eq!(refused, "`strength` must be in [0, 1], got 1.5");
    }

    #[test]
    fn a_parameter_that_is_met_again_has_the_draw_it_had() {
        let masks = MaskSource::new(Seed(3));
        let (first, second) = (ParamId::new(), ParamId::new());
        let mut each = PerParameter::new(&masks);
        let draws = [first, second, first].map(|id| each.masks(id).normals(10));
        assert_ne!(draws[0], draws[1]);
        assert_eq!(draws[0], draws[2]);
        // The source itself has moved by two draws.
        assert_eq!(masks.position(), 10);
    }

    #[test]
    fn a_long_draw_equals_short_ones() {
        let (long, short) = (MaskSource::new(Seed(9)), MaskSource::new(Seed(9)));
        let whole = long.uniforms(3 * CHUNK + 10);
        let parts: Vec<f64> = (0..=3).flat_map(|_| short.uniforms(CHUNK)).collect();
        assert_eq!(whole, parts[..whole.len()]);
        let mut stream = Seed(9).stream("masks");
        assert!(whole.iter().take(100).all(|&value| value == stream.uniform()));
    }

    #[test]
    fn normals_have_the_moments_of_a_normal() {
        let n = 1_000_000;
        let draws = MaskSource::new(Seed(4)).normals(n);
        let moment = |k: i32| draws.iter().map(|&x| f64::from(x).powi(k)).sum::<f64>() / n as f64;
        // Five standard errors: var(x) = 1, var(x^2) = 2, var(x^4) = 96; neighbours are uncorrelated.
        let bound = |variance: f64| 5.0 * (variance / n as f64).sqrt();
        assert!(moment(1).abs() < bound(1.0));
        assert!((moment(2) - 1.0).abs() < bound(2.0));
        assert!((moment(4) - 3.0).abs() < bound(96.0));
        let lag = draws.windows(2).map(|w| f64::from(w[0] * w[1])).sum::<f64>() / n as f64;
        assert!(lag.abs() < bound(1.0));
    }
}
