//! What the history alone does not say: classes, samples, parameters, the error that is wanted.

use crate::DiagnoseError;
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};

/// A layer whose gradient norm the history records as `grad_norm/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The name after `grad_norm/`.
    pub name: String,
    /// How many numbers its gradient has.
    pub parameters: usize,
}

/// Facts about the problem that sharpen the diagnosis; each may be left out, and the rules that need it
/// then stay silent or fall back to weaker ones.
///
/// ```
/// use firebrick_diagnose::Context;
///
/// let context = Context::new().with_classes(10).with_samples(1437).with_parameters(9_098);
/// assert_eq!(context.prior_loss(), Some(10f64.ln()));
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Context {
    /// Number of classes, if it is classification under cross-entropy.
    pub classes: Option<usize>,
    /// Number of training samples.
    pub samples: Option<usize>,
    /// Number of validation samples; gives the sampling error of the validation error.
    pub validation_samples: Option<usize>,
    /// Number of trainable parameters, counted by element.
    pub parameters: Option<usize>,
    /// The training error in [0, 1] that would be good enough.
    pub target_error: Option<f64>,
    /// Loss of the best constant prediction; `ln(classes)` when not given.
    pub prior_loss: Option<f64>,
    /// The layers from input to output; without it the order in depth is taken as unknown.
    pub layers: Vec<Layer>,
}

impl Context {
    /// Nothing known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of classes, at least 2.
    #[must_use]
    pub fn with_classes(mut self, classes: usize) -> Self {
        self.classes = Some(classes);
        self
    }

    /// Sets the number of training samples, at least 1.
    #[must_use]
    pub fn with_samples(mut self, samples: usize) -> Self {
        self.samples = Some(samples);
        self
    }

    /// Sets the number of validation samples, at least 1.
    #[must_use]
    pub fn with_validation_samples(mut self, samples: usize) -> Self {
        self.validation_samples = Some(samples);
        self
    }

    /// Sets the number of trainable parameters, at least 1.
    #[must_use]
    pub fn with_parameters(mut self, parameters: usize) -> Self {
        self.parameters = Some(parameters);
        self
    }

    /// Sets the training error that would be good enough, in [0, 1].
    #[must_use]
    pub fn with_target_error(mut self, error: f64) -> Self {
        self.target_error = Some(error);
        self
    }

    /// Sets the loss of the best constant prediction, above 0: the entropy of the class frequencies when
    /// classes are not balanced, the variance of the target for a squared loss.
    #[must_use]
    pub fn with_prior_loss(mut self, loss: f64) -> Self {
        self.prior_loss = Some(loss);
        self
    }

    /// Sets the layers from input to output with the size of their gradients, each at least 1.
    #[must_use]
    pub fn with_layers<N: Into<String>>(
        mut self,
        layers: impl IntoIterator<Item = (N, usize)>,
    ) -> Self {
        self.layers = layers
            .into_iter()
            .map(|(name, parameters)| Layer { name: name.into(), parameters })
            .collect();
        self
    }

    /// The loss of the best constant prediction: as given, else `ln(classes)`.
    #[must_use]
    pub fn prior_loss(&self) -> Option<f64> {
        self.prior_loss.or(self.classes.map(|classes| (classes as f64).ln()))
    }

    /// The error of a guess over balanced classes, `1 - 1 / classes`.
    pub(crate) fn prior_error(&self) -> Option<f64> {
        self.classes.map(|classes| 1.0 - 1.0 / classes as f64)
    }

    pub(crate) fn check(&self) -> Result<(), DiagnoseError> {
        let counts = [
            ("classes", self.classes, 2),
            ("samples", self.samples, 1),
            ("validation_samples", self.validation_samples, 1),
            ("parameters", self.parameters, 1),
        ];
        for (field, value, min) in counts {
            value.map_or(Ok(min), |value| check::at_least(field, value, min))?;
        }
        self.target_error
            .map_or(Ok(0.0), |error| check::range("target_error", error, 0.0..=1.0))?;
        self.prior_loss.map_or(Ok(0.0), |loss| check::positive("prior_loss", loss))?;
        for (index, layer) in self.layers.iter().enumerate() {
            check::at_least(&format!("layers[{index}].parameters"), layer.parameters, 1)?;
            if self.layers[..index].iter().any(|earlier| earlier.name == layer.name) {
                let field = format!("layers[{index}].name");
                return Err(ConfigError::new(field, &layer.name, "unique").into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_checked() {
        let refused = |context: Context| context.check().expect_err("refused").to_string();
        assert_eq!(refused(Context::new().with_classes(1)), "`classes` must be at least 2, got 1");
        assert_eq!(refused(Context::new().with_samples(0)), "`samples` must be at least 1, got 0");
        assert_eq!(
            refused(Context::new().with_target_error(f64::NAN)),
            "`target_error` must be in [0, 1], got NaN"
        );
        assert_eq!(
            refused(Context::new().with_prior_loss(0.0)),
            "`prior_loss` must be in (0, inf), got 0"
        );
        assert_eq!(
            refused(Context::new().with_layers([("a", 3), ("a", 3)])),
            "`layers[1].name` must be unique, got a"
        );
        assert_eq!(
            refused(Context::new().with_layers([("a", 0)])),
            "`layers[0].parameters` must be at least 1, got 0"
        );
        Context::new().check().expect("nothing known is allowed");
    }

    #[test]
    fn missing_fields_read_as_unknown() {
        let read: Context = serde_json::from_str("{\"classes\":3}").expect("reads");
        assert_eq!(read, Context::new().with_classes(3));
    }
}
