//! Walking a module together with a stored tensor for each of its parameters.

use crate::tie::tie;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use std::collections::HashSet;

/// One plain tensor for each trainable parameter, by the parameter's identity.
#[derive(Default)]
pub(super) struct Store(GradientsParams);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({} tensors)", self.0.len())
    }
}

/// What happens to a parameter's value and to what is stored for it.
pub(super) trait Pair {
    /// From (value, stored) to (new value, new stored); `None` leaves the value as it is.
    fn apply<const D: usize>(
        &mut self,
        value: Tensor<D>,
        stored: Tensor<D>,
    ) -> (Option<Tensor<D>>, Tensor<D>);
}

impl Store {
    /// The values of the trainable parameters of `module`; no tensor is copied.
    pub(super) fn of<M: Module>(module: &M) -> Self {
        struct Take(GradientsParams);
        impl ModuleVisitor for Take {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if param.is_require_grad() {
                    self.0.register::<D>(param.id, param.base().inner());
                }
            }
        }
        let mut take = Take(GradientsParams::new());
        module.visit(&mut take);
        Self(take.0)
    }

    /// Applies `pair` to every trainable parameter; one that is new is stored as it is first.
    pub(super) fn apply<M: Module, P: Pair>(&mut self, module: M, pair: &mut P) -> M {
        struct Walk<'a, P>(&'a mut GradientsParams, &'a mut P, HashSet<ParamId>, bool);
        impl<P: Pair> ModuleMapper for Walk<'_, P> {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                if !param.is_require_grad() {
                    return param;
                }
                let id = param.id;
                if !self.2.insert(id) {
                    // Another place of the same parameter: it is tied to the first one below.
                    self.3 = true;
                    return param;
                }
                let value = param.base().inner();
                let stored = self.0.remove::<D>(id).unwrap_or_else(|| value.clone());
                let (new, stored) = self.1.apply(value, stored);
                self.0.register::<D>(id, stored);
                match new {
                    Some(new) => replace(param, new),
                    None => param,
                }
            }
        }
        let mut walk = Walk(&mut self.0, pair, HashSet::new(), false);
        let module = module.map(&mut walk);
        if walk.3 { tie(module) } else { module }
    }

    /// `module` with the stored values in place of its own.
    pub(super) fn put<M: Module>(&mut self, module: M) -> M {
        struct Put;
        impl Pair for Put {
            fn apply<const D: usize>(
                &mut self,
                _: Tensor<D>,
                stored: Tensor<D>,
            ) -> (Option<Tensor<D>>, Tensor<D>) {
                (Some(stored.clone()), stored)
            }
        }
        self.apply(module, &mut Put)
    }
}

/// The parameter with another value; what it is to autodiff stays.
pub(super) fn replace<const D: usize>(
    param: Param<Tensor<D>>,
    value: Tensor<D>,
) -> Param<Tensor<D>> {
    let (id, old, mapper) = param.consume();
    let value = if old.is_autodiff() {
        let strategy = old.gradient_checkpointing_strategy();
        let value = Tensor::from_inner(value);
        let value = match strategy {
            Some(strategy) => value.with_gradient_checkpointing_strategy(strategy),
            None => value,
        };
        value.set_require_grad(old.is_require_grad())
    } else {
        value
    };
    Param::from_mapped_value(id, value, mapper)
}
