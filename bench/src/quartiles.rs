//! Median and quartiles of a handful of timings.

use serde::Serialize;

/// The middle of a set of timings, in the unit of its row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Quartiles {
    /// Half of the timings are below.
    pub(crate) median: f64,
    /// A quarter of the timings is below.
    pub(crate) q1: f64,
    /// Three quarters of the timings are below.
    pub(crate) q3: f64,
}

impl Quartiles {
    /// Quartiles by linear interpolation between the order statistics (numpy's default); `None` without samples.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        if samples.is_empty() {
            return None;
        }
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (sorted.len() - 1) as f64;
            let below = sorted[place.floor() as usize];
            let above = sorted[place.ceil() as usize];
            below + (above - below) * place.fract()
        };
        Some(Self { median: at(0.5), q1: at(0.25), q3: at(0.75) })
    }

    /// The same in another unit.
    pub(crate) fn scaled(self, scale: f64) -> Self {
        Self { median: self.median * scale, q1: self.q1 * scale, q3: self.q3 * scale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_numpy() {
        // numpy.percentile([7, 1, 3, 10, 4, 9], [50, 25, 75]) = [5.5, 3.25, 8.5]
        let q = Quartiles::of(&[7.0, 1.0, 3.0, 10.0, 4.0, 9.0]).expect("six samples");
        assert_eq!(q, Quartiles { median: 5.5, q1: 3.25, q3: 8.5 });
        assert_eq!(q.scaled(2.0), Quartiles { median: 11.0, q1: 6.5, q3: 17.0 });
    }

    #[test]
    fn one_sample_is_all_three_and_none_is_none() {
        assert_eq!(Quartiles::of(&[2.0]), Some(Quartiles { median: 2.0, q1: 2.0, q3: 2.0 }));
        assert_eq!(Quartiles::of(&[]), None);
    }
}
