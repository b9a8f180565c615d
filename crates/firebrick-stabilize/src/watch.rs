//! Activations and errors over depth, both from one pass forward and back.
//!
//! The error of a hidden value is the gradient of the loss with respect to it. burn keeps the gradients of leaves only.
//! In host memory a step behind the value, which changes nothing, looks at the error as it comes back; elsewhere a zero
//! that is a leaf is added to the value, and its gradient is the error.
//!
//! The slope of weight gradients over depth is blind to a fault that shrinks activations and blows up errors alike,
//! for their product is what it sees; the two slopes here are not.

use crate::probe::{Sight, probe};
use crate::{Tap, Taps, depth_slope, record_taps};
use burn::tensor::{Gradients, Tensor};
use firebrick_core::Record;

/// Looks at the hidden values of a forward pass, and after `backward` at their errors.
///
/// Costs the passes that [`Taps`] cost, twice unless it is [`brief`](Self::brief), and one step of the graph for each
/// value that is looked at, or two and an addition outside host memory; from a device the numbers of values and errors
/// come in one read.
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
    brief: bool,
}

/// Shows the error of one value to the taps.
type Leaf = Box<dyn FnOnce(&Gradients, &mut Taps)>;

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { taps, leaves, brief } = self;
        let mut shown = f.debug_struct("Watch");
        shown.field("taps", taps).field("leaves", &leaves.len()).field("brief", brief).finish()
    }
}

impl Watch {
    /// A watch that looks at the size of the errors and at nothing else of them, which is all that
    /// [`record`](Self::record) writes: their shares are NaN.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use firebrick_stabilize::Watch;
    ///
    /// let x = Tensor::<1>::from_floats([1.0, 2.0], &Device::flex().autodiff()).require_grad();
    /// let mut watch = Watch::brief();
    /// let loss = (watch.see("hidden", x) * 3.0).sum();
    /// let (values, errors) = watch.read(&loss.backward());
    /// assert_eq!((values[0].zeros, errors[0].rms, errors[0].zeros.is_nan()), (0.0, 3.0, true));
    /// ```
    #[must_use]
    pub fn brief() -> Self {
        Self { brief: true, ..Self::default() }
    }

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

    /// Arranges that the error of `hidden` is seen.
    fn leaf<const D: usize>(&mut self, name: String, hidden: Tensor<D>, axis: usize) -> Tensor<D> {
        if !hidden.is_autodiff() || hidden.shape().num_elements() == 0 {
            return hidden;
        }
        let axis = axis.min(D.saturating_sub(1));
        let sight = Sight::new(&hidden.dims(), axis, self.brief);
        match probe(hidden, &sight) {
            Ok(hidden) => {
                self.leaves.push(Box::new(move |_, taps| {
                    if let Some(found) = sight.found() {
                        taps.take(name, found);
                    }
                }));
                hidden
            }
            Err(hidden) => self.zero(name, hidden, axis),
        }
    }

    /// The same for any back-end, and for a value to which no gradient comes back otherwise.
    fn zero<const D: usize>(&mut self, name: String, hidden: Tensor<D>, axis: usize) -> Tensor<D> {
        let options = (&hidden.device(), hidden.dtype());
        let zero = Tensor::<D>::zeros(hidden.shape(), options).require_grad();
        let (leaf, brief) = (zero.clone(), self.brief);
        self.leaves.push(Box::new(move |gradients, taps| match leaf.grad(gradients) {
            Some(error) if brief => taps.see_size(name, &error),
            Some(error) => taps.see_units(name, &error, axis),
            None => {}
        }));
        hidden + zero
    }

    /// The statistics of the values and of their errors, each in the order of the pass.
    ///
    /// Of a pass on a device without autodiff there are no errors.
    #[must_use]
    pub fn read(self, gradients: &Gradients) -> (Vec<Tap>, Vec<Tap>) {
        let Self { mut taps, leaves, .. } = self;
        let values = taps.count();
        for leaf in leaves {
            leaf(gradients, &mut taps);
        }
        let mut values_and_errors = taps.read();
        let errors = values_and_errors.split_off(values);
        (values_and_errors, errors)
    }

    /// Writes what [`record_taps`] writes of the values, and `error_rms/<name>` and `error_slope` of the errors.
    ///
    /// A slope beyond 0.3 either way is ill.
    pub fn record(self, gradients: &Gradients, record: &mut Record) {
        let (values, errors) = self.read(gradients);
        record_taps(&values, record);
        for error in &errors {
            record.values.insert(["error_rms/", error.name.as_str()].concat(), error.rms);
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
    fn the_step_behind_a_value_and_the_leaf_beside_it_see_the_same() {
        let mut stream = Seed(9).stream("inputs");
        let inputs: Vec<f32> = (0..6 * 5 * 7).map(|_| stream.normal() as f32).collect();
        for device in devices() {
            for device in [device.clone().autodiff(), device.autodiff().gradient_checkpointing()] {
                let inputs = Tensor::<1>::from_floats(inputs.as_slice(), &device);
                let inputs = inputs.reshape([6, 5, 7]).require_grad();
                let run = |probed: bool, brief: bool, axis: usize| {
                    let mut watch = if brief { Watch::brief() } else { Watch::default() };
                    let mut see = |name: &str, hidden: Tensor<3>| {
                        if probed {
                            return watch.see_units(name, hidden, axis);
                        }
                        watch.taps.see_units(name, &hidden, axis);
                        watch.zero(name.into(), hidden, axis)
                    };
                    let first = see("first", relu(inputs.clone() * 2.0));
                    // Its error comes back from two sides, and from the second one turned.
                    let second = see("second", first.clone().swap_dims(1, 2)).swap_dims(1, 2);
                    let gradients = (first.square() * second).sum().backward();
                    let (values, errors) = watch.read(&gradients);
                    let own = inputs.grad(&gradients).expect("a leaf");
                    let own: Vec<f32> = own.try_to_vec_as().expect("reads");
                    (format!("{values:?} {errors:?}"), errors.len(), own)
                };
                for brief in [false, true] {
                    for axis in 0..3 {
                        let (shown, added) = (run(true, brief, axis), run(false, brief, axis));
                        assert_eq!(shown, added);
                        assert_eq!(shown.1, 2);
                    }
                }
            }
        }
    }

    #[test]
    fn what_no_gradient_comes_back_to_is_seen_by_its_leaf() {
        for device in devices() {
            let device = device.autodiff();
            let weight = Tensor::<2>::from_floats([[2.0], [3.0]], &device).require_grad();
            let mut watch = Watch::default();
            let inputs = watch.see("inputs", Tensor::<2>::ones([4, 2], &device));
            let unused = watch.see("unused", weight.clone() * 2.0);
            let (values, errors) = watch.read(&inputs.matmul(weight).sum().backward());
            drop(unused);
            assert_eq!(values.len(), 2);
            // Of a value that the loss does not depend on there is no error.
            assert_eq!((errors.len(), errors[0].name.as_str()), (1, "inputs"));
            assert_eq!((errors[0].mean, errors[0].deviation), (2.5, 0.5));
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
