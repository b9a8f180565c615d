//! Activations and errors over depth, both from one pass forward and back.
//!
//! The error of a hidden value is the gradient of the loss with respect to it. burn keeps the gradients of leaves
//! only, so a zero that is a leaf is added to the value: its gradient is the error.
//!
//! The slope of weight gradients over depth is blind to a fault that shrinks activations and blows up errors alike,
//! for their product is what it sees; the two slopes here are not.

use crate::{Tap, Taps, depth_slope, record_taps};
use burn::tensor::{Gradients, Tensor};
use firebrick_core::Record;

/// Looks at the hidden values of a forward pass, and after `backward` at their errors.
///
/// Costs the passes that [`Taps`] cost, twice where [`read`](Self::read) asks for all of the errors too, and an
/// addition for each value that is looked at; the numbers of values and errors come from a device in one read.
///
/// ```
/// use burn::tensor::{Device, Tensor, activation::relu};
/// use firebrick_core::Record;
/// use firebrick_stabilize::Watch;
///
/// let x = Tensor::<2>::from_floats([[1.0, -2.0], [3.0, -4.0]], &Device::flex().autodiff()).require_grad();
/// let mut watch = Watch::default();
/// let hidden = watch.see("first", relu(x * 2.0));
/// let output = watch.see("second", hidden * 3.0);
/// let mut record = Record::default();
/// watch.record(&output.sum().backward(), &mut record);
/// assert_eq!(record.get("dead/first"), Some(0.5));
/// // Each element of the output has error 1, each of the hidden layer 3.
/// assert_eq!((record.get("error_rms/first"), record.get("error_rms/second")), (Some(3.0), Some(1.0)));
/// ```
#[derive(Default)]
pub struct Watch {
    taps: Taps,
    leaves: Vec<Leaf>,
}

/// Shows the error of one leaf to the taps, whole or its size alone.
type Leaf = Box<dyn FnOnce(&Gradients, &mut Taps, Errors)>;

/// What is wanted of the errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errors {
    Whole,
    Size,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { taps, leaves } = self;
        f.debug_struct("Watch").field("taps", taps).field("leaves", &leaves.len()).finish()
    }
}

impl Watch {
    /// Looks at `hidden`, whose units lie along axis 1, and gives it back to go on with.
    #[must_use = "the pass must go on with what is given back, or its error is not seen"]
    pub fn see<const D: usize>(&mut self, name: impl Into<String>, hidden: Tensor<D>) -> Tensor<D> {
        self.see_units(name, hidden, 1)
    }

    /// [`see`](Self::see) with the units along `axis`: 2 for `[batch, sequence, features]`.
    #[must_use = "the pass must go on with what is given back, or its error is not seen"]
    pub fn see_units<const D: usize>(
        &mut self,
        name: impl Into<String>,
        hidden: Tensor<D>,
        axis: usize,
    ) -> Tensor<D> {
        let name = name.into();
        self.taps.see_units(name.clone(), &hidden, axis);
        self.leaf(name, hidden, axis)
    }

    /// [`see`](Self::see) for outputs of a function with values between `low` and `high`: saturation is told too.
    #[must_use = "the pass must go on with what is given back, or its error is not seen"]
    pub fn see_bounded<const D: usize>(
        &mut self,
        name: impl Into<String>,
        hidden: Tensor<D>,
        low: f64,
        high: f64,
    ) -> Tensor<D> {
        let name = name.into();
        self.taps.see_bounded(name.clone(), &hidden, low, high);
        self.leaf(name, hidden, 1)
    }

    fn leaf<const D: usize>(&mut self, name: String, hidden: Tensor<D>, axis: usize) -> Tensor<D> {
        if !hidden.is_autodiff() || hidden.shape().num_elements() == 0 {
            return hidden;
        }
        let options = (&hidden.device(), hidden.dtype());
        let zero = Tensor::<D>::zeros(hidden.shape(), options).require_grad();
        let leaf = zero.clone();
        self.leaves.push(Box::new(move |gradients, taps, wanted| {
            match (leaf.grad(gradients), wanted) {
                (Some(error), Errors::Whole) => taps.see_units(name, &error, axis),
                (Some(error), Errors::Size) => taps.see_size(name, &error),
                (None, _) => {}
            }
        }));
        hidden + zero
    }

    /// The statistics of the values and of their errors, each in the order of the pass.
    ///
    /// Of a pass on a device without autodiff there are no errors.
    #[must_use]
    pub fn read(self, gradients: &Gradients) -> (Vec<Tap>, Vec<Tap>) {
        self.read_with(gradients, Errors::Whole)
    }

    fn read_with(self, gradients: &Gradients, wanted: Errors) -> (Vec<Tap>, Vec<Tap>) {
        let Self { mut taps, leaves } = self;
        let values = taps.count();
        for leaf in leaves {
            leaf(gradients, &mut taps, wanted);
        }
        let mut values_and_errors = taps.read();
        let errors = values_and_errors.split_off(values);
        (values_and_errors, errors)
    }

    /// Writes what [`record_taps`] writes of the values, and `error_rms/<name>` and `error_slope` of the errors.
    ///
    /// A slope beyond 0.3 either way is ill.
    pub fn record(self, gradients: &Gradients, record: &mut Record) {
        let (values, errors) = self.read_with(gradients, Errors::Size);
        record_taps(&values, record);
        for error in &errors {
            record.values.insert(format!("error_rms/{}", error.name), error.rms);
        }
        let sizes: Vec<f64> = errors.iter().map(|error| error.rms).collect();
        if let Some(slope) = depth_slope(&sizes) {
            record.values.insert("error_slope".into(), slope);
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::read::READS;
    use crate::{Scheme, initialize};
    use burn::module::Module;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::DType;
    use burn::tensor::activation::relu;
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    #[test]
    fn the_two_slopes_show_a_scale_fault_that_weight_gradients_hide() {
        // Deep ReLU net, He scaled by 0.3: values fall by ln 0.3 a layer, errors grow by as much the other way.
        for device in devices() {
            let device = device.autodiff();
            let (depth, width) = (8, 128);
            let layers: Vec<Linear> = (0..depth)
                .map(|_| LinearConfig::new(width, width).with_bias(false).init(&device))
                .collect();
            let layers = initialize(layers, Scheme::KaimingNormal, Seed(3));
            let mut stream = Seed(5).stream("inputs");
            let inputs: Vec<f32> = (0..64 * width).map(|_| stream.normal() as f32).collect();
            let mut hidden =
                Tensor::<1>::from_floats(inputs.as_slice(), &device).reshape([64, width]);
            let mut watch = Watch::default();
            for (depth, layer) in layers.iter().enumerate() {
                hidden = watch.see(format!("{depth}"), relu(layer.forward(hidden).mul_scalar(0.3)));
            }
            let mut record = Record::default();
            watch.record(&hidden.square().mean().backward(), &mut record);
            let (up, back) = (record.get("activation_slope"), record.get("error_slope"));
            // 128 units a layer: the slope over 8 layers strays by a few hundredths.
            let expected = 0.3f64.ln();
            assert!(up.is_some_and(|slope| (slope - expected).abs() < 0.1), "{up:?}");
            assert!(back.is_some_and(|slope| (slope + expected).abs() < 0.25), "{back:?}");
            assert_eq!(layers.num_params(), depth * width * width);
        }
    }

    #[test]
    fn values_and_errors_come_in_one_read() {
        for device in devices() {
            // No host path knows f64, so that every back-end is read like a device.
            if !device.supports_dtype(DType::F64) {
                continue;
            }
            let rows = [[1.0f32, -2.0], [3.0, -4.0]];
            let hidden = Tensor::<2>::from_data(rows, (&device.autodiff(), DType::F64));
            let mut watch = Watch::default();
            let hidden = watch.see("first", hidden.require_grad());
            let gradients = watch.see("second", hidden * 2.0).sum().backward();
            let start = READS.get();
            let (values, errors) = watch.read(&gradients);
            assert_eq!(READS.get() - start, 1);
            let sizes = |taps: &[Tap]| taps.iter().map(|tap| tap.rms).collect::<Vec<f64>>();
            for (size, expected) in sizes(&values).iter().zip([7.5f64.sqrt(), 30f64.sqrt()]) {
                assert!((size - expected).abs() < 1e-5, "{size} {expected}");
            }
            assert_eq!(sizes(&errors), [2.0, 1.0]);
        }
    }

    #[test]
    fn without_autodiff_there_are_values_and_no_errors() {
        for device in devices() {
            let mut watch = Watch::default();
            let hidden = Tensor::<3>::ones([2, 3, 4], &device);
            let same = watch.see_units("hidden", hidden.clone(), 2);
            assert_eq!(same.into_data(), hidden.into_data());
            let tracked = Tensor::<1>::ones([1], &device.autodiff()).require_grad();
            let (values, errors) = watch.read(&tracked.backward());
            assert_eq!((values.len(), errors.len()), (1, 0));
        }
    }
}
