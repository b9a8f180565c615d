//! Walks the gradients of a module and changes them: the one place that knows how burn keys and erases them.

use crate::reduce::scale_all;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use firebrick_backend::PathStack;
use firebrick_backend::host::HostTensor;
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
                let gradient = if first { gradient.mul_scalar(self.factor) } else { gradient };
                self.gradients.register::<D>(param.id, gradient);
            }
        }
    }
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
