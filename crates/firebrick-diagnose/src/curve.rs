//! One number over the epochs of a run, and the robust summaries that the rules ask of it.

use firebrick_core::History;

/// One point an epoch: the mean of what the epoch recorded. A history of a single epoch (a loop that counts
/// steps only) gives one point a record instead.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Curve {
    /// (epoch, value), oldest first.
    pub(crate) points: Vec<(usize, f64)>,
}

impl Curve {
    pub(crate) fn of(history: &History, name: &str) -> Self {
        let raw: Vec<(usize, f64)> = history
            .records
            .iter()
            .filter_map(|record| record.get(name).map(|value| (record.epoch, value)))
            .collect();
        let single = raw.first().is_some_and(|&(epoch, _)| raw.iter().all(|&(e, _)| e == epoch));
        if single {
            let points = raw.into_iter().enumerate().map(|(index, (_, value))| (index + 1, value));
            return Self { points: points.collect() };
        }
        let mut points: Vec<(usize, f64)> = Vec::new();
        let mut count = 0.0;
        for (epoch, value) in raw {
            match points.last_mut() {
                Some(last) if last.0 == epoch => {
                    count += 1.0;
                    // The running mean cannot overflow where a sum would.
                    last.1 += (value - last.1) / count;
                }
                _ => {
                    points.push((epoch, value));
                    count = 1.0;
                }
            }
        }
        Self { points }
    }

    /// The finite points only.
    pub(crate) fn finite(&self) -> Self {
        Self {
            points: self.points.iter().copied().filter(|(_, value)| value.is_finite()).collect(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.points.len()
    }

    pub(crate) fn first(&self) -> Option<f64> {
        self.points.first().map(|&(_, value)| value)
    }

    /// The first epoch whose value is NaN or infinite.
    pub(crate) fn broken(&self) -> Option<(usize, f64)> {
        self.points.iter().copied().find(|(_, value)| !value.is_finite())
    }

    /// The epoch with the smallest value, the earliest among equals.
    pub(crate) fn best(&self) -> Option<(usize, f64)> {
        self.points.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// The median of the last three values: one lucky or unlucky epoch does not decide.
    pub(crate) fn tail(&self) -> Option<f64> {
        self.tail_of(3)
    }

    fn tail_of(&self, count: usize) -> Option<f64> {
        let from = self.len().saturating_sub(count);
        median(self.points[from..].iter().map(|&(_, value)| value))
    }

    /// How far the value fell from the third quarter of the run to the last, as medians.
    pub(crate) fn late_fall(&self) -> Option<f64> {
        let quarter = self.len() / 4;
        if quarter == 0 {
            return None;
        }
        let end = self.len() - quarter;
        let before = median(self.points[end - quarter..end].iter().map(|&(_, value)| value))?;
        Some(before - self.tail_of(quarter)?)
    }

    /// The share of steps from point to point that go down.
    pub(crate) fn falls(&self) -> f64 {
        let down = self.points.windows(2).filter(|pair| pair[1].1 < pair[0].1).count();
        down as f64 / (self.len().max(2) - 1) as f64
    }

    /// The value at `epoch`, if it has one.
    pub(crate) fn at(&self, epoch: usize) -> Option<f64> {
        self.points.iter().find(|&&(e, _)| e == epoch).map(|&(_, value)| value)
    }
}

/// The median; the mean of the two middle values for an even count.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let (n, half) = (values.len(), values.len() / 2);
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(values[half]),
        _ => Some(0.5 * values[half - 1] + 0.5 * values[half]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebrick_core::Record;

    #[test]
    fn epochs_average_their_records() {
        let mut history = History::default();
        for (epoch, value) in
            [(1, 1.0), (1, 3.0), (2, f64::MAX), (2, f64::MAX), (3, f64::NAN), (3, 1.0)]
        {
            history.push(Record::new(epoch, 0).with("a", value));
        }
        let curve = Curve::of(&history, "a");
        assert_eq!(curve.points[..2], [(1, 2.0), (2, f64::MAX)]);
        assert_eq!(curve.broken().map(|(epoch, _)| epoch), Some(3));
        assert_eq!(curve.finite().len(), 2);
    }

    #[test]
    fn a_run_that_counts_steps_only_gives_a_point_a_record() {
        let mut history = History::default();
        for value in [3.0, 2.0, 1.0, 0.5] {
            history.push(Record::new(0, 0).with("a", value));
        }
        let curve = Curve::of(&history, "a");
        assert_eq!(curve.len(), 4);
        assert_eq!(curve.tail(), Some(1.0));
        assert_eq!(curve.best(), Some((4, 0.5)));
        assert_eq!(curve.late_fall(), Some(0.5));
        assert_eq!(Curve::of(&history, "b").tail(), None);
    }

    #[test]
    fn medians_of_even_and_odd_counts() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([f64::MAX, f64::MAX]), Some(f64::MAX));
        assert_eq!(median([]), None);
    }
}
