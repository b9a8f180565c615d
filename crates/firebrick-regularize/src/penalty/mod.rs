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

use crate::RegularizeError;
use burn::module::{Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::tensor::{DType, Tensor};
use firebrick_backend::{PathStack, Role, widened};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// A term added to the loss that depends on the parameters alone.
///
/// Add it once per optimizer step, also under gradient accumulation, and report it apart from the loss, so
/// that training and validation losses stay comparable. Penalties add up as tuples, in the type of the first term.
pub trait Penalty {
    /// Whether the unit axis of every weight that it penalizes is known, where it needs one.
    ///
    /// Ask before training: [`term`](Self::term) cannot refuse, and reads a weight whose unit axis is unknown by its first
    /// axis.
    ///
    /// # Errors
    /// When it is not; none for a penalty that reads elements alone.
    fn check<M: Module>(&self, _model: &M) -> Result<(), RegularizeError> {
        Ok(())
    }

    /// The term, of shape `[1]` and differentiable; `None` where no parameter is penalized.
    ///
    /// Frozen parameters, running statistics and weights without elements never take part, a shared parameter does
    /// once. Half-precision weights are summed in f32; the term has the type of the first weight it penalizes.
    fn term<M: Module>(&self, model: &M) -> Option<Tensor<1>>;
}

impl Penalty for () {
    fn term<M: Module>(&self, _: &M) -> Option<Tensor<1>> {
        None
    }
}

impl<P: Penalty> Penalty for Option<P> {
    fn check<M: Module>(&self, model: &M) -> Result<(), RegularizeError> {
        self.as_ref().map_or(Ok(()), |penalty| penalty.check(model))
    }
    fn term<M: Module>(&self, model: &M) -> Option<Tensor<1>> {
        self.as_ref().and_then(|penalty| penalty.term(model))
    }
}

macro_rules! add_up {
    ($($penalty:ident $index:tt),+) => {
        impl<$($penalty: Penalty),+> Penalty for ($($penalty,)+) {
            fn check<Model: Module>(&self, model: &Model) -> Result<(), RegularizeError> {
                $(self.$index.check(model)?;)+
                Ok(())
            }
            fn term<Model: Module>(&self, model: &Model) -> Option<Tensor<1>> {
                [$( self.$index.term(model) ),+].into_iter().flatten().reduce(|sum, term| {
                    let dtype = sum.dtype();
                    sum + term.cast(dtype)
                })
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
                || param.lazy_shape().num_elements() == 0
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

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::nn::{BatchNorm, BatchNormConfig, Embedding, EmbeddingConfig, Linear, LinearConfig};
    use burn::tensor::Device;
    use firebrick_core::Seed;

    #[derive(Module, Debug)]
    struct Model {
        table: Embedding,
        first: Linear,
        norm: BatchNorm,
        second: Linear,
    }

    fn model(device: &Device) -> Model {
        let mut model = Model {
            table: EmbeddingConfig::new(3, 2).init(device),
            first: LinearConfig::new(2, 2).init(device),
            norm: BatchNormConfig::new(2).init(device),
            second: LinearConfig::new(2, 1).init(device),
        };
        model.first.weight = Param::from_data([[1.0, -2.0], [0.0, 3.0]], device);
        model.second.weight = Param::from_data([[0.5], [-1.5]], device);
        model
    }

    fn value(penalty: &impl Penalty, model: &impl Module) -> f64 {
        penalty.term(model).expect("something is penalized").into_scalar()
    }

    fn l2() -> L2 {
        L2Config::new(0.1).init().expect("valid")
    }
    fn l1() -> L1 {
        L1Config::new(0.1).init().expect("valid")
    }
    fn net() -> ElasticNet {
        ElasticNetConfig::new(0.1).init().expect("valid")
    }
    fn orthogonal() -> Orthogonal {
        OrthogonalConfig::new(0.1).init().expect("valid")
    }
    fn spectral() -> Spectral {
        SpectralConfig::new(0.1).with_warmup(200).init(Seed(1)).expect("valid")
    }

    #[test]
    fn every_penalty_leaves_biases_norms_and_embeddings_alone_and_can_be_narrowed() {
        fn check<P: Penalty>(all: &P, narrowed: &P) {
            let model = model(&Device::flex().autodiff());
            let (first, second) = (value(all, &model.first), value(all, &model.second));
            let whole = value(all, &model);
            assert!((whole - first - second).abs() < 1e-4 * whole, "{whole} {first} {second}");
            assert!((value(narrowed, &model) - second).abs() < 1e-4 * second);
            let gradients = all.term(&model).expect("has weights").backward();
            assert!(model.first.weight.val().grad(&gradients).is_some());
            assert!(model.second.weight.val().grad(&gradients).is_some());
            for bias in [&model.first.bias, &model.second.bias] {
                let bias = bias.as_ref().expect("has one");
                assert!(bias.val().grad(&gradients).is_none());
            }
            assert!(model.norm.gamma.val().grad(&gradients).is_none());
            assert!(model.norm.beta.val().grad(&gradients).is_none());
            assert!(model.table.weight.val().grad(&gradients).is_none());
            let gradients = narrowed.term(&model).expect("has one").backward();
            assert!(model.first.weight.val().grad(&gradients).is_none());
            assert!(model.second.weight.val().grad(&gradients).is_some());
        }
        let group = || ParamGroup::from_path("second.weight");
        check(&l2(), &l2().only(group()));
        check(&l1(), &l1().only(group()));
        check(&net(), &net().only(group()));
        check(&orthogonal(), &orthogonal().only(group()));
        check(&spectral(), &spectral().only(group()));
    }

    #[test]
    fn tuples_of_any_length_add_up() {
        let device = Device::flex().autodiff();
        let layer = model(&device).first;
        // sum |w| = 6, sum w^2 = 14.
        assert!((value(&(l1(),), &layer) - 0.6).abs() < 1e-6);
        assert!((value(&(l1(), None::<L2>, l2()), &layer) - 1.3).abs() < 1e-6);
        assert!((value(&(l1(), l1(), l2(), l2()), &layer) - 2.6).abs() < 1e-6);
        assert!((None::<L1>, ()).term(&layer).is_none());
    }

    #[test]
    fn terms_of_different_float_types_add_up_in_the_first_ones() {
        let device = Device::flex().autodiff();
        for (first, second) in [(DType::F32, DType::F64), (DType::F64, DType::F16)] {
            let mut model = model(&device);
            let weight = |dtype| Tensor::<2>::full([2, 2], 0.5, (&device, dtype)).require_grad();
            model.first.weight = Param::from_tensor(weight(first));
            model.second.weight = Param::from_tensor(weight(second));
            let one = l1().only(ParamGroup::from_path("first.weight"));
            let other = l2().only(ParamGroup::from_path("second.weight"));
            // 0.1 * 2 and 0.05 * 1.
            let term = (one, None::<L1>, other).term(&model).expect("two weights");
            assert_eq!(term.dtype(), first);
            assert!((term.clone().into_scalar::<f64>() - 0.25).abs() < 1e-4);
            let gradients = term.backward();
            let gradient = model.second.weight.val().grad(&gradients).expect("has one");
            assert_eq!(gradient.dtype(), second);
        }
    }

    #[test]
    fn an_empty_module_has_no_term() {
        let empty = Vec::<Linear>::new();
        assert!(l2().term(&empty).is_none());
        assert!(l1().term(&empty).is_none());
        assert!(net().term(&empty).is_none());
        assert!(orthogonal().term(&empty).is_none());
        assert!(spectral().term(&empty).is_none());
        assert!((l2(), l1(), orthogonal(), spectral()).term(&empty).is_none());
    }

    #[test]
    fn every_penalty_takes_half_precision() {
        fn check(penalty: &impl Penalty, expected: f64) {
            let device = Device::flex().autodiff();
            for dtype in [DType::F16, DType::BF16] {
                let mut layer = LinearConfig::new(3, 2).with_bias(false).init(&device);
                let weight = Tensor::<2>::full([3, 2], 0.5, (&device, dtype)).require_grad();
                layer.weight = Param::from_tensor(weight);
                let term = penalty.term(&layer).expect("has a weight");
                assert_eq!(term.dtype(), dtype);
                let found = term.clone().into_scalar::<f64>();
                assert!((found - expected).abs() < 1e-2 * expected, "{found} {expected}");
                let gradient = layer.weight.val().grad(&term.backward()).expect("has one");
                assert_eq!(gradient.dtype(), dtype);
                let gradient: Vec<f32> = gradient.try_to_vec_as().expect("reads");
                assert!(gradient.iter().all(|g| g.is_finite() && *g != 0.0), "{gradient:?}");
            }
        }
        // sum w^2 = 1.5, sum |w| = 3; the Gram matrix of the units is all 0.75, and its eigenvalue 1.5.
        check(&l2(), 0.1 * 0.75);
        check(&l1(), 0.1 * 3.0);
        check(&net(), 0.1 * (0.5 * 3.0 + 0.25 * 1.5));
        check(&orthogonal(), 0.1 * (2.0 * 0.25f64.powi(2) + 2.0 * 0.75f64.powi(2)));
        check(&spectral(), 0.05 * 1.5);
    }
}
