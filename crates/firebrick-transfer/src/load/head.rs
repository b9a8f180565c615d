//! The head: the last layer, whose classes are usually others than the file's.

use burn::tensor::{DType, TensorData};
use firebrick_core::Seed;
use serde::{Deserialize, Serialize};

use super::inventory::Slot;

/// What becomes of the layer that gives the classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    pub(super) prefix: String,
    pub(super) source: HeadSource,
}

/// Where the head's values come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum HeadSource {
    Fresh(HeadInit),
    Classes(Vec<usize>),
    WithoutFirst(usize),
}

/// The values of a head that is not loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum HeadInit {
    /// The model's own, as they were initialized.
    Keep,
    /// Zeros: every class starts alike (BiT: Kolesnikov et al., 2020).
    Zeros,
    /// PyTorch's default of a linear layer: weight and bias from `U(-1/sqrt(fan_in), 1/sqrt(fan_in))`, which is
    /// Kaiming's uniform rule with slope sqrt(5).
    KaimingUniform(Seed),
    /// The nearest class mean: `w_c = m_c`, `b_c = -|m_c|^2 / 2` for the mean `m_c` of class `c`'s features, so that
    /// the largest logit is the class whose mean is nearest (Snell, Swersky and Zemel, 2017).
    Prototypes(Vec<Vec<f32>>),
}

impl Head {
    /// A head at or under `prefix` of which nothing is loaded, neither weight nor bias, whatever its size.
    #[must_use]
    pub fn fresh(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), source: HeadSource::Fresh(HeadInit::Keep) }
    }

    /// A head whose classes are these of the file's, in this order: their rows are gathered, nothing needs training.
    #[must_use]
    pub fn classes(prefix: impl Into<String>, classes: impl Into<Vec<usize>>) -> Self {
        Self { prefix: prefix.into(), source: HeadSource::Classes(classes.into()) }
    }

    /// A head without the file's first `count` classes, such as a background class (timm's `label_offset`).
    #[must_use]
    pub fn without_first(prefix: impl Into<String>, count: usize) -> Self {
        Self { prefix: prefix.into(), source: HeadSource::WithoutFirst(count) }
    }

    /// The values of a fresh head; for [`classes`](Self::classes) and [`without_first`](Self::without_first) this
    /// makes the head fresh.
    #[must_use]
    pub fn with_init(mut self, init: HeadInit) -> Self {
        self.source = HeadSource::Fresh(init);
        self
    }
}

/// The values of a fresh head's parameter; none where the model keeps its own.
///
/// `beside` is the weight of the same layer, from which a bias takes its fan.
pub(super) fn fresh(
    slot: &Slot,
    beside: Option<&Slot>,
    init: &HeadInit,
) -> Result<Option<TensorData>, String> {
    let values: Vec<f64> = match init {
        HeadInit::Keep => return Ok(None),
        HeadInit::Zeros => vec![0.0; slot.elements()],
        HeadInit::KaimingUniform(seed) => {
            let weight = beside.ok_or("the layer has no weight, so its fan is not known")?;
            let bound = 1.0 / (weight.elements() / classes(weight).max(1)).max(1) as f64;
            let mut stream = seed.stream(&slot.path);
            (0..slot.elements()).map(|_| (2.0 * stream.uniform() - 1.0) * bound.sqrt()).collect()
        }
        HeadInit::Prototypes(means) => prototypes(slot, means)?,
    };
    let data = TensorData::new(values, slot.shape.clone());
    Ok(Some(data.convert_dtype(if slot.dtype.is_float() { slot.dtype } else { DType::F32 })))
}

/// The number of classes of a head's parameter.
fn classes(slot: &Slot) -> usize {
    let axis = usize::from(slot.is_matrix());
    slot.shape.get(axis).copied().unwrap_or(1)
}

fn prototypes(slot: &Slot, means: &[Vec<f32>]) -> Result<Vec<f64>, String> {
    if means.len() != classes(slot) {
        return Err(format!("{} class means for {} classes", means.len(), classes(slot)));
    }
    if means.iter().flatten().any(|value| !value.is_finite()) {
        return Err("a class mean is not finite".to_owned());
    }
    match slot.shape.as_slice() {
        [width, _] if slot.is_matrix() => {
            if let Some(mean) = means.iter().find(|mean| mean.len() != *width) {
                return Err(format!(
                    "a class mean has {} elements, the features have {width}",
                    mean.len()
                ));
            }
            Ok((0..*width)
                .flat_map(|row| means.iter().map(move |mean| f64::from(mean[row])))
                .collect())
        }
        [_] => Ok(means
            .iter()
            .map(|mean| -0.5 * mean.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>())
            .collect()),
        other => Err(format!("class means fit a linear layer, not {other:?}")),
    }
}
