//! Terms of the loss that depend on parameters, on activations or on the slope of the function.

mod activation;
mod matrix;
mod norm;
mod slope;

pub use activation::{
    ActivationPenalty, ActivationPenaltyConfig, ActivityNorm, ActivityPenalty,
    ActivityPenaltyConfig, ConfidencePenalty, ConfidencePenaltyConfig,
};
pub use matrix::{Gram, Orthogonal, OrthogonalConfig, Spectral, SpectralConfig};
pub use norm::{ElasticNet, ElasticNetConfig, L1, L1Config, L2, L2Config, L2Convention};
pub use slope::{
    GradientPenalty, GradientPenaltyConfig, GradientTarget, JacobianPenalty, JacobianPenaltyConfig,
};

use burn::module::{Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::tensor::{DType, Tensor};
use firebrick_backend::{PathStack, Role};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// A term added to the loss that depends on the parameters alone.
///
/// Add it once per optimizer step, also under gradient accumulation, and report it apart from the loss, so
/// that training and validation losses stay comparable. Penalties add up as tuples.
pub trait Penalty {
    /// The term, of shape `[1]` and differentiable; `None` where no parameter is penalized.
    ///
    /// Frozen parameters and running statistics never take part, a shared parameter does once. Half-precision
    /// weights are summed in f32; the term has the type of the first weight it penalizes.
    fn term<M: Module>(&self, model: &M) -> Option<Tensor<1>>;
}

impl Penalty for () {
    fn term<M: Module>(&self, _: &M) -> Option<Tensor<1>> {
        None
    }
}

impl<P: Penalty> Penalty for Option<P> {
    fn term<M: Module>(&self, model: &M) -> Option<Tensor<1>> {
        self.as_ref().and_then(|penalty| penalty.term(model))
    }
}

macro_rules! add_up {
    ($($penalty:ident $index:tt),+) => {
        impl<$($penalty: Penalty),+> Penalty for ($($penalty,)+) {
            fn term<Model: Module>(&self, model: &Model) -> Option<Tensor<1>> {
                [$( self.$index.term(model) ),+].into_iter().flatten().reduce(|sum, term| sum + term)
            }
        }
    };
}
add_up!(A 0);
add_up!(A 0, B 1);
add_up!(A 0, B 1, C 2);
add_up!(A 0, B 1, C 2, D 3);

/// Which parameters a penalty applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PenaltyScope {
    /// Weights alone: no biases, norm scales or embeddings.
    Weights,
    /// Every trainable parameter.
    All,
}

/// A scope, and perhaps a group within it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    scope: PenaltyScope,
    group: Option<ParamGroup>,
}

impl Target {
    pub(crate) fn new(scope: PenaltyScope) -> Self {
        Self { scope, group: None }
    }

    pub(crate) fn only(self, group: ParamGroup) -> Self {
        Self { group: Some(group), ..self }
    }

    pub(crate) fn covers(&self, role: Role, id: &ParamId, path: &PathStack) -> bool {
        let in_scope = match self.scope {
            PenaltyScope::Weights => role == Role::Weight,
            PenaltyScope::All => role != Role::Buffer,
        };
        in_scope && self.group.as_ref().is_none_or(|group| group.matches(id, Some(&path.path())))
    }
}

/// Where a weight stands.
pub(crate) struct Site {
    pub(crate) id: ParamId,
    pub(crate) owner: String,
}

/// What a penalty makes of one parameter: a number.
pub(crate) trait Measure {
    /// The number, of shape `[1]`; the weight comes in f32 or f64.
    fn of<const D: usize>(&self, weight: Tensor<D>, site: &Site) -> Tensor<1>;
}

/// `factor` times the sum of `measure` over the trainable parameters of `target`.
pub(crate) fn sum_over<M: Module>(
    model: &M,
    target: &Target,
    factor: f64,
    measure: &impl Measure,
) -> Option<Tensor<1>> {
    struct Sum<'a, T> {
        target: &'a Target,
        measure: &'a T,
        path: PathStack,
        seen: HashSet<ParamId>,
        dtype: Option<DType>,
        total: Option<Tensor<1>>,
    }
    impl<T: Measure> ModuleVisitor for Sum<'_, T> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if !param.is_require_grad()
                || !self.target.covers(self.path.role(D), &param.id, &self.path)
                || !self.seen.insert(param.id)
            {
                return;
            }
            let weight = param.val();
            self.dtype.get_or_insert(weight.dtype());
            let site = Site { id: param.id, owner: self.path.owner().to_owned() };
            let term = self.measure.of(widened(weight), &site);
            self.total = Some(match self.total.take() {
                Some(total) => {
                    let dtype = total.dtype();
                    total + term.cast(dtype)
                }
                None => term,
            });
        }
    }
    // A factor of 0 would still cost a pass, and make 0 * inf a NaN.
    if factor == 0.0 {
        return None;
    }
    let mut sum = Sum {
        target,
        measure,
        path: PathStack::default(),
        seen: HashSet::new(),
        dtype: None,
        total: None,
    };
    model.visit(&mut sum);
    let dtype = sum.dtype?;
    sum.total.map(|total| total.mul_scalar(factor).cast(dtype))
}

/// Half precision in f32: a sum of squares overflows f16 at 65504.
pub(crate) fn widened<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    match tensor.dtype() {
        DType::F16 | DType::BF16 => tensor.cast(DType::F32),
        _ => tensor,
    }
}
