//! The prototype head: class means.

use crate::probe::Head;
use crate::score::{Features, Labels, ScoreError};

/// How near a sample is to a class mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// By squared Euclidean distance: `logit_c = x m_c - |m_c|^2 / 2`, which orders as `-|x - m_c|^2 / 2`.
    Euclidean,
    /// By cosine: `logit_c = x m_c / |m_c|`, which orders as the cosine of x and m_c.
    Cosine,
}

/// The head whose output for a class is the nearness of its mean: the best start for a fine-tuning that cannot
/// afford a probe.
///
/// # Source
/// J. Snell, K. Swersky, R. Zemel, "Prototypical Networks for Few-shot Learning", NIPS 2017.
///
/// ```
/// use firebrick_transfer::probe::{Metric, PrototypeProbe};
/// use firebrick_transfer::score::{Features, Labels};
///
/// let features = Features::new(vec![0.0, 1.0, 10.0, 11.0], 1)?;
/// let head = PrototypeProbe::fit(&features, &Labels::new(&[0, 0, 1, 1])?, Metric::Euclidean)?;
/// // The border is half way between the means 0.5 and 10.5.
/// assert_eq!(head.predict(&Features::new(vec![5.4, 5.6], 1)?)?, [0, 1]);
/// # Ok::<(), firebrick_transfer::score::ScoreError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct PrototypeProbe;

impl PrototypeProbe {
    /// The head of the class means.
    ///
    /// # Errors
    /// When rows and labels differ in number.
    pub fn fit(features: &Features, labels: &Labels, metric: Metric) -> Result<Head, ScoreError> {
        features.fit(labels)?;
        let mut head = Head::new(features.columns(), labels);
        let width = labels.classes();
        for (class, rows) in labels.rows_by_class().iter().enumerate() {
            let mean = features.select(rows)?.means();
            let square: f64 = mean.iter().map(|x| x * x).sum();
            let scale = match metric {
                Metric::Euclidean => 1.0,
                Metric::Cosine if square > 0.0 => 1.0 / square.sqrt(),
                Metric::Cosine => 0.0,
            };
            for (k, x) in mean.iter().enumerate() {
                head.weights[k * width + class] = scale * x;
            }
            head.bias[class] = if metric == Metric::Euclidean { -0.5 * square } else { 0.0 };
        }
        Ok(head)
    }
}
