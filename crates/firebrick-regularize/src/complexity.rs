//! The size of a model against the size of its training set.
//!
//! Too few samples, especially fewer than the model has parameters (counted by element), make over-fitting
//! likelier; generalization error does not grow with more data. So a complex model wants a large set, or
//! stronger regularization.

use burn::module::Module;
use firebrick_backend::trainable_elements;
use std::fmt;

/// Trainable elements and training samples, with the warning that their ratio calls for.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use firebrick_regularize::Complexity;
///
/// let model = LinearConfig::new(20, 10).init(&Device::flex().autodiff());
/// let complexity = Complexity::of(&model, 100);
/// assert_eq!(complexity.parameters, 210);
/// assert!(complexity.warning().is_some_and(|text| text.contains("over-fitting")));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Complexity {
    /// Trainable elements: shared ones once, frozen ones and running statistics not at all.
    pub parameters: usize,
    /// Training samples.
    pub samples: usize,
}

impl Complexity {
    /// Counts the elements of `model`, which is in training state.
    #[must_use]
    pub fn of<M: Module>(model: &M, samples: usize) -> Self {
        Self { parameters: trainable_elements(model), samples }
    }

    /// Samples for each parameter; infinite without parameters.
    #[must_use]
    pub fn samples_per_parameter(&self) -> f64 {
        if self.parameters == 0 {
            return f64::INFINITY;
        }
        self.samples as f64 / self.parameters as f64
    }

    /// The warning where samples are fewer than parameters.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        (self.samples < self.parameters).then(|| self.to_string())
    }
}

impl fmt::Display for Complexity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parameters, samples } = self;
        if samples < parameters {
            write!(
                f,
                "{samples} training samples are fewer than the {parameters} trainable parameters: over-fitting is likely; take more samples, a smaller model, a pre-trained one, augmentation or stronger regularization"
            )
        } else {
            write!(f, "{samples} training samples for {parameters} trainable parameters")
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::nn::{BatchNormConfig, LinearConfig};
    use burn::tensor::Device;

    #[test]
    fn the_warning_comes_with_fewer_samples_than_elements() {
        let device = Device::flex().autodiff();
        // 3 * 4 + 4 of the layer, 2 * 4 of the norm; its statistics do not count.
        let model = (LinearConfig::new(3, 4).init(&device), BatchNormConfig::new(4).init(&device));
        assert_eq!(Complexity::of(&model, 24).parameters, 24);
        assert!(Complexity::of(&model, 24).warning().is_none());
        assert!(Complexity::of(&model, 23).warning().is_some());
        assert_eq!(Complexity::of(&model, 12).samples_per_parameter(), 0.5);
        assert_eq!(Complexity::of(&model.no_grad(), 1).parameters, 0);
    }

    #[test]
    fn shared_elements_count_once_and_no_parameters_need_no_samples() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(3, 4).with_bias(false).init(&device);
        let _ = layer.weight.val();
        assert_eq!(Complexity::of(&(layer.clone(), layer), 1).parameters, 12);
        let none = Complexity::of(&Vec::<burn::nn::Linear>::new(), 5);
        assert_eq!((none.parameters, none.samples_per_parameter()), (0, f64::INFINITY));
        assert!(none.warning().is_none());
        let nothing = Complexity { parameters: 0, samples: 0 };
        assert_eq!(nothing.samples_per_parameter(), f64::INFINITY);
        assert_eq!(none.to_string(), "5 training samples for 0 trainable parameters");
        let few = Complexity { parameters: 24, samples: 23 }.warning().expect("too few");
        assert!(few.starts_with("23 training samples are fewer than the 24 trainable parameters"));
    }
}
