//! Parameters that lie in several places of a module.

use crate::trains::trains;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use std::any::Any;
use std::collections::HashMap;

/// Ties the clones of a parameter together again: every place that holds it gets the value of the first, and one
/// gradient, the sum over all places.
///
/// burn ties weights by cloning a layer: the clones share the parameter's number and its node in autodiff's graph. Whatever
/// maps the places one by one (burn's own optimizers, loading a record) leaves each with a node of its own, and burn then
/// keeps the gradient of the last place alone. [`FusedOptimizer`](crate::FusedOptimizer) and the wrappers tie after
/// their own changes; call this after those of others. A module without clones comes back as it is.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::{Device, Tensor};
/// use firebrick_optim::{SgdConfig, tie};
///
/// let device = Device::flex().autodiff();
/// let layer = LinearConfig::new(3, 3).with_bias(false).init(&device);
/// let mut model = [layer.clone(), layer];
/// let mut optimizer = SgdConfig::new().init()?; // burn's
/// for _ in 0..2 {
///     let [first, second] = &model;
///     let loss = second.forward(first.forward(Tensor::<2>::ones([1, 3], &device))).sum();
///     let grads = GradientsParams::from_grads(loss.backward(), &model);
///     model = tie(optimizer.step(0.1, model, grads));
///     let [first, second] = model.each_ref().map(|layer| layer.weight.val().into_data());
///     first.assert_eq(&second, true);
/// }
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[must_use]
pub fn tie<M: Module>(module: M) -> M {
    struct Count(HashMap<ParamId, usize>);
    impl ModuleVisitor for Count {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if trains(param) {
                *self.0.entry(param.id).or_default() += 1;
            }
        }
    }
    let mut count = Count(HashMap::new());
    module.visit(&mut count);
    let tied = count.0.into_iter().filter(|(_, places)| *places > 1);
    let tied: HashMap<_, _> = tied.map(|(id, _)| (id, None)).collect();
    if tied.is_empty() { module } else { module.map(&mut Tie(tied)) }
}

/// The first place's tensor of each parameter that has several.
struct Tie(HashMap<ParamId, Option<Box<dyn Any>>>);

impl ModuleMapper for Tie {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(first) = self.0.get_mut(&param.id) else { return param };
        let Some(first) = first else {
            *first = Some(Box::new(param.base()));
            return param;
        };
        let Some(value) = first.downcast_ref::<Tensor<D>>() else { return param };
        let (id, _, mapper) = param.consume();
        Param::from_mapped_value(id, value.clone(), mapper)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use crate::wrapper::{EmaConfig, LookaheadConfig, SamConfig};
    use crate::{AdamConfig, Elementwise, MuonConfig, SgdConfig, testing};
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::GradientsParams;
    use burn::tensor::{DType, Device, Tensor};

    fn layer(dtype: DType) -> Linear {
        use burn::module::Module;
        let layer = LinearConfig::new(3, 3).init(&Device::flex().autodiff());
        layer.map(&mut testing::Fill(dtype, 0))
    }

    fn input(dtype: DType) -> Tensor<2> {
        let device = Device::flex().autodiff();
        Tensor::from_data([[0.5, -1.0, 2.0], [1.0, 0.25, -0.5]], (&device, dtype))
    }

    /// One layer used twice, and two clones of it: the paths are the same.
    fn agree(
        dtype: DType,
        mut step: impl FnMut(Vec<Linear>, &dyn Fn(&Vec<Linear>) -> GradientsParams) -> Vec<Linear>,
        mut step_one: impl FnMut(Vec<Linear>, &dyn Fn(&Vec<Linear>) -> GradientsParams) -> Vec<Linear>,
    ) {
        let x = input(dtype);
        let gradients = |model: &Vec<Linear>| {
            let last = model.last().expect("a layer");
            let y = last.forward(model[0].forward(x.clone()).tanh());
            GradientsParams::from_grads(y.square().mean().backward(), model)
        };
        let mut one = vec![layer(dtype)];
        let mut two = vec![one[0].clone(), one[0].clone()];
        for k in 0..5 {
            two = step(two, &gradients);
            one = step_one(one, &gradients);
            let expected = testing::values(&one);
            for place in &two {
                for (a, b) in testing::values(place).iter().zip(&expected) {
                    assert!((a - b).abs() < 1e-6, "{dtype:?} step {k}: {a} {b}");
                }
            }
        }
    }

    type Model = Vec<Linear>;

    fn by(rule: Elementwise) -> impl FnMut(Model, &dyn Fn(&Model) -> GradientsParams) -> Model {
        let mut fused = rule.fused();
        move |model, gradients| {
            let grads = gradients(&model);
            fused.step(0.05, model, grads)
        }
    }

    #[test]
    fn clones_get_the_gradient_of_all_places_in_every_pass() {
        let adam = AdamConfig::new().build().expect("valid");
        let muon = MuonConfig::new().build().expect("valid");
        let ops = adam.clone().with_fused_pass(false);
        for (rule, dtype) in
            [(&adam, DType::F32), (&ops, DType::F32), (&adam, DType::F64), (&muon, DType::F32)]
        {
            agree(dtype, by(rule.clone()), by(rule.clone()));
        }
    }

    #[test]
    fn wrappers_keep_clones_tied_and_count_them_once() {
        let lookahead = || {
            let mut fused = SgdConfig::new().with_momentum(0.9).fused().expect("valid");
            let mut lookahead = None;
            let mut ema = None;
            move |model: Vec<Linear>, gradients: &dyn Fn(&Vec<Linear>) -> GradientsParams| {
                let lookahead = lookahead.get_or_insert_with(|| {
                    LookaheadConfig::new().with_every(2).init(&model).expect("valid")
                });
                let ema = ema.get_or_insert_with(|| EmaConfig::new().init(&model).expect("valid"));
                let grads = gradients(&model);
                let model = lookahead.after_step(fused.step(0.05, model, grads));
                let model = ema.update(model);
                // The average itself must be the same, too.
                ema.model(&model)
            }
        };
        agree(DType::F32, lookahead(), lookahead());
        let sam = || {
            let mut fused = SgdConfig::new().fused().expect("valid");
            let sam = SamConfig::new().with_rho(0.5).with_alpha(0.4).init().expect("valid");
            move |model: Vec<Linear>, gradients: &dyn Fn(&Vec<Linear>) -> GradientsParams| {
                let grads = gradients(&model);
                let (up, snapshot) = sam.up(model, grads);
                let grads = gradients(&up);
                let (model, grads) = sam.down(up, grads, snapshot);
                fused.step(0.05, model, grads)
            }
        };
        agree(DType::F32, sam(), sam());
    }

    #[test]
    fn clones_off_autodiff_stay_alike() {
        use burn::module::Module;
        let adam = AdamConfig::new().build().expect("valid").with_fused_pass(false);
        let layer = layer(DType::F32).valid();
        let mut model = vec![layer.clone(), layer];
        let mut fused = adam.fused();
        for k in 0..2 {
            let grads = testing::grads(&model, k);
            model = fused.step(0.1, model, grads);
            assert_eq!(testing::values(&model[0]), testing::values(&model[1]));
        }
        let mut lookahead = LookaheadConfig::new().with_every(1).init(&model).expect("valid");
        let moved = model.map(&mut testing::Fill(DType::F32, 40));
        let moved = lookahead.after_step(moved);
        assert_eq!(testing::values(&moved[0]), testing::values(&moved[1]));
    }
}
