//! Walks the gradients of a module and changes them: the one place that knows how burn keys and erases them.

use crate::reduce::scale_all;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use firebrick_backend::host::HostTensor;
use firebrick_backend::{PathStack, widened};
use std::collections::HashSet;

/// `before_step` of a guard that is a [`Transform`] and always proceeds.
macro_rules! transforms {
    () => {
        fn before_step<Model: burn::module::Module>(
            &mut self,
            model: &Model,
            gradients: &mut burn::optim::GradientsParams,
            _: f64,
        ) -> $crate::Verdict {
            $crate::transform::transform(model, gradients, self);
            $crate::Verdict::Proceed
        }
    };
}
pub(crate) use transforms;

/// A change of one gradient after another.
pub(crate) trait Transform {
    /// The gradient of `param` after the change; `path` says where the parameter stands.
    fn apply<const D: usize>(
        &mut self,
        path: &PathStack,
        param: &Param<Tensor<D>>,
        gradient: Tensor<D>,
    ) -> Tensor<D>;
}

/// Applies `change` to every gradient of `model` that is there and not empty, to a shared one once.
pub(crate) fn transform<M: Module>(
    model: &M,
    gradients: &mut GradientsParams,
    change: &mut impl Transform,
) {
    struct Walk<'a, T> {
        gradients: &'a mut GradientsParams,
        change: &'a mut T,
        path: PathStack,
        seen: HashSet<ParamId>,
    }
    impl<T: Transform> ModuleVisitor for Walk<'_, T> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if !self.seen.insert(param.id) {
                return;
            }
            // Removed rather than looked at: a gradient that nobody else holds is changed in place.
            let Some(gradient) = self.gradients.remove::<D>(param.id) else { return };
            let gradient = if gradient.shape().num_elements() == 0 {
                gradient
            } else {
                self.change.apply(&self.path, param, gradient)
            };
            self.gradients.register::<D>(param.id, gradient);
        }
    }
    let path = PathStack::default();
    model.visit(&mut Walk { gradients, change, path, seen: HashSet::new() });
}

/// Multiplies every gradient of `model` by `factor`, in place where the gradient is not shared.
///
/// Gradients in host memory are scaled in one parallel pass over all of them.
pub fn scale_gradients<M: Module>(model: &M, gradients: &mut GradientsParams, factor: f64) {
    let mut taken = Take { gradients, factor, scaled: HashSet::new(), host: Vec::new() };
    model.visit(&mut taken);
    let mut host = taken.host;
    if host.is_empty() {
        return;
    }
    let mut slices: Vec<&mut [f32]> =
        host.iter_mut().map(|(_, tensor)| tensor.as_mut_slice()).collect();
    scale_all(&mut slices, factor);
    model.visit(&mut Give { gradients, host: host.into_iter().peekable() });
}

struct Take<'a> {
    gradients: &'a mut GradientsParams,
    factor: f64,
    /// Gradients that are not in host memory.
    scaled: HashSet<ParamId>,
    host: Vec<(ParamId, HostTensor)>,
}

impl ModuleVisitor for Take<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // A shared one in host memory is gone when it is met again.
        let Some(gradient) = self.gradients.remove::<D>(param.id) else { return };
        match HostTensor::take(gradient) {
            Ok(tensor) => self.host.push((param.id, tensor)),
            Err(gradient) => {
                let first = self.scaled.insert(param.id);
                let gradient = if first { scaled(gradient, self.factor) } else { gradient };
                self.gradients.register::<D>(param.id, gradient);
            }
        }
    }
}

/// `gradient` times `factor`, which half precision would round, or not hold at all.
fn scaled<const D: usize>(gradient: Tensor<D>, factor: f64) -> Tensor<D> {
    let dtype = gradient.dtype();
    widened(gradient).mul_scalar(factor).cast(dtype)
}

/// Gives back what [`Take`] took: the same walk meets the parameters in the same order.
struct Give<'a> {
    gradients: &'a mut GradientsParams,
    host: std::iter::Peekable<std::vec::IntoIter<(ParamId, HostTensor)>>,
}

impl ModuleVisitor for Give<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some((id, tensor)) = self.host.next_if(|(id, _)| *id == param.id) {
            self.gradients.register::<D>(id, tensor.give::<D>());
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::tests::model;
    use burn::tensor::DType;
    use firebrick_backend::testing::devices;

    #[test]
    fn the_factor_of_half_precision_is_that_of_f32() {
        for device in devices() {
            let model = model(&device);
            let id = firebrick_backend::parameters(&model)[0].id;
            for dtype in [DType::F16, DType::BF16, DType::F64] {
                if !device.supports_dtype(dtype) {
                    continue;
                }
                // Neither factor is a number of half precision; the second is nothing in it.
                for factor in [1.0 / 3.0, 1e-8] {
                    let mut gradients = GradientsParams::new();
                    let values = [[49152.0], [-24576.0]];
                    let gradient = Tensor::<2>::from_data(values, (&device, dtype));
                    gradients.register::<2>(id, gradient);
                    scale_gradients(&model, &mut gradients, factor);
                    let after = gradients.get::<2>(id).expect("present");
                    assert_eq!(after.dtype(), dtype);
                    let after: Vec<f64> = after.try_to_vec_as().expect("reads");
                    for (after, before) in after.into_iter().zip(values) {
                        // Half of the last of bfloat16's 8 bits.
                        let gap = (after / (before[0] * factor) - 1.0).abs();
                        assert!(gap < 2f64.powi(-8), "{dtype:?} {factor} {after}");
                    }
                }
            }
        }
    }
}
