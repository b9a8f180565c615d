//! SAM and its kin: the gradient is taken where the loss is worst nearby, so that flat minima are found. Twice the cost
//! of a step.
//!
//! # Update
//! ```text
//! SAM    e = rho g / (|g| + 1e-12)                    norm over all parameters
//! ASAM   e = rho T^2 g / (|T g| + 1e-12), T = |p| + eta, of offsets 1
//! g_s = gradient at p + e;  then the base optimizer steps from p with g_s
//! GSAM   with g_s - alpha (g - <g, g_s> / |g_s|^2 g_s) in place of g_s
//! ```
//! in f32 for parameters and gradients of 16 bits, which come back in their own type.
//!
//! # Reference
//! P. Foret et al., "Sharpness-aware minimization", 2020, arXiv 2010.01412; J. Kwon et al., "ASAM", 2021, arXiv
//! 2102.11600; J. Zhuang et al., "Surrogate gap minimization improves sharpness-aware training", 2022, arXiv 2203.08065.
//!
//! # Differences
//! Offsets (biases, and the `beta` of norms) take plain steps in ASAM, as in its authors' code: what does not multiply
//! has no scale to be invariant to. Implementations that scale every parameter by its size leave an offset at 0 where
//! it is.

use super::buffers::Buffers;
use super::pairs::{Store, replace};
use crate::state::placed;
use crate::tie::tie;
use burn::config::Config;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use firebrick_backend::{ParameterInfo, Role, parameters, widened};
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// How the neighbourhood is measured.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SamForm {
    /// A ball of radius rho.
    #[default]
    Plain,
    /// A ball that grows with each weight, offsets left alone (ASAM); usual rho 0.5.
    Adaptive {
        /// What is added to a weight's size, usually 0.01.
        eta: f64,
    },
}

/// Configuration of [`Sam`].
#[derive(Config, Debug)]
pub struct SamConfig {
    /// Radius of the neighbourhood, above 0.
    #[config(default = 0.05)]
    pub rho: f64,
    /// How it is measured.
    #[config(default = "SamForm::Plain")]
    pub form: SamForm,
    /// Strength of GSAM's correction, in `[0, inf)`; 0 is SAM, GSAM's usual value 0.4.
    #[config(default = 0.0)]
    pub alpha: f64,
}

impl SamConfig {
    /// The validated wrapper.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn init(&self) -> Result<Sam, ConfigError> {
        if let SamForm::Adaptive { eta } = self.form {
            check::non_negative("eta", eta)?;
        }
        Ok(Sam {
            rho: check::positive("rho", self.rho)?,
            form: self.form,
            alpha: check::non_negative("alpha", self.alpha)?,
        })
    }
}

/// Goes up to the worst point nearby, and back.
///
/// Running statistics, as of batch normalization, belong to the weights of the first pass: what the second one does to
/// them, [`down`](Self::down) takes back.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::{Device, Tensor};
/// use firebrick_optim::{SgdConfig, wrapper::SamConfig};
///
/// let device = Device::flex().autodiff();
/// let mut model = LinearConfig::new(4, 2).init(&device);
/// let mut optimizer = SgdConfig::new().with_momentum(0.9).fused()?;
/// let sam = SamConfig::new().init()?;
/// let loss = |model: &burn::nn::Linear| {
///     let loss = model.forward(Tensor::<2>::ones([3, 4], &device)).square().mean();
///     GradientsParams::from_grads(loss.backward(), model)
/// };
/// for _ in 0..3 {
///     let grads = loss(&model);
///     let (up, snapshot) = sam.up(model, grads);
///     let grads = loss(&up);
///     let (down, grads) = sam.down(up, grads, snapshot);
///     model = optimizer.step(0.1, down, grads);
/// }
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Sam {
    rho: f64,
    form: SamForm,
    alpha: f64,
}

/// What [`Sam::up`] left behind: the weights, the running statistics, and the first gradients.
#[derive(Debug)]
pub struct SamSnapshot {
    weights: Store,
    buffers: Buffers,
    grads: GradientsParams,
}

/// A sum over all parameters, kept on the device of the first, and in its type.
#[derive(Default)]
struct Sum(Option<Tensor<1>>);

impl Sum {
    fn add(&mut self, part: Tensor<1>) {
        self.0 = Some(match self.0.take() {
            Some(sum) => {
                let part = matching(part, &sum);
                sum + part
            }
            None => part,
        });
    }
}

/// On the device of `other`, and in its type.
fn matching<const D: usize, const E: usize>(tensor: Tensor<D>, other: &Tensor<E>) -> Tensor<D> {
    placed(tensor, &other.device(), other.dtype())
}

/// T: how large the neighbourhood is along each parameter.
struct Reach {
    form: SamForm,
    /// What is added to the output of a layer and multiplies nothing.
    offsets: HashSet<ParamId>,
}

impl Reach {
    fn of<M: Module>(form: SamForm, model: &M) -> Self {
        let offset = |parameter: &ParameterInfo| {
            let name = parameter.path.rsplit('.').next();
            parameter.role == Role::Bias || parameter.role == Role::Norm && name == Some("beta")
        };
        let offsets = match form {
            SamForm::Plain => HashSet::new(),
            SamForm::Adaptive { .. } => {
                parameters(model).into_iter().filter(offset).map(|offset| offset.id).collect()
            }
        };
        Self { form, offsets }
    }

    /// T times the gradient, which is widened.
    fn rescale<const D: usize>(
        &self,
        id: ParamId,
        value: &Tensor<D>,
        grad: Tensor<D>,
    ) -> Tensor<D> {
        match self.form {
            SamForm::Adaptive { eta } if !self.offsets.contains(&id) => {
                let size = matching(value.clone(), &grad).abs();
                grad * size.add_scalar(eta)
            }
            _ => grad,
        }
    }
}

impl Sam {
    /// The model at the worst point nearby, and what leads back.
    #[must_use]
    pub fn up<M: Module>(&self, model: M, grads: GradientsParams) -> (M, SamSnapshot) {
        struct Norm<'a>(&'a GradientsParams, &'a Reach, Sum, HashSet<ParamId>);
        impl ModuleVisitor for Norm<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let first = self.3.insert(param.id);
                if let Some(grad) = self.0.get::<D>(param.id).filter(|_| first) {
                    let grad = self.1.rescale(param.id, &param.base().inner(), widened(grad));
                    self.2.add(grad.square().sum());
                }
            }
        }
        let (weights, buffers) = (Store::of(&model), Buffers::of(&model));
        let reach = Reach::of(self.form, &model);
        let mut norm = Norm(&grads, &reach, Sum::default(), HashSet::new());
        model.visit(&mut norm);
        let Some(square) = norm.2.0 else {
            return (model, SamSnapshot { weights, buffers, grads });
        };
        let factor = square.sqrt().add_scalar(1e-12).recip().mul_scalar(self.rho);
        struct Up<'a>(&'a GradientsParams, &'a Reach, Tensor<1>);
        impl ModuleMapper for Up<'_> {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let Some(grad) = self.0.get::<D>(param.id) else { return param };
                let value = param.base().inner();
                let scaled = self.1.rescale(param.id, &value, widened(grad));
                let scaled = self.1.rescale(param.id, &value, scaled);
                let way = scaled.clone() * matching(self.2.clone(), &scaled).reshape([1; D]);
                let dtype = value.dtype();
                let value = widened(value);
                let way = matching(way, &value);
                replace(param, (value + way).cast(dtype))
            }
        }
        let up = tie(model.map(&mut Up(&grads, &reach, factor)));
        (up, SamSnapshot { weights, buffers, grads })
    }

    /// The model back where it was, to the last bit, running statistics included, and the gradients to step with.
    #[must_use]
    pub fn down<M: Module>(
        &self,
        model: M,
        grads: GradientsParams,
        snapshot: SamSnapshot,
    ) -> (M, GradientsParams) {
        let SamSnapshot { weights, buffers, grads: first } = snapshot;
        let model = buffers.put(weights.put(model));
        if self.alpha == 0.0 {
            return (model, grads);
        }
        struct Dot<'a>(&'a GradientsParams, &'a GradientsParams, Sum, Sum, HashSet<ParamId>);
        impl ModuleVisitor for Dot<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let (Some(g), Some(s), true) =
                    (self.0.get::<D>(param.id), self.1.get::<D>(param.id), self.4.insert(param.id))
                else {
                    return;
                };
                let s = widened(s);
                self.2.add((matching(g, &s) * s.clone()).sum());
                self.3.add(s.square().sum());
            }
        }
        let mut dot = Dot(&first, &grads, Sum::default(), Sum::default(), HashSet::new());
        model.visit(&mut dot);
        let (Some(product), Some(square)) = (dot.2.0, dot.3.0) else { return (model, grads) };
        let along = product / square.clamp_min(f64::from(f32::MIN_POSITIVE));
        struct Mix<'a>(&'a GradientsParams, GradientsParams, Tensor<1>, f64, HashSet<ParamId>);
        impl ModuleVisitor for Mix<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if !self.4.insert(param.id) {
                    return;
                }
                let (Some(g), Some(s)) = (self.0.get::<D>(param.id), self.1.remove::<D>(param.id))
                else {
                    return;
                };
                let dtype = s.dtype();
                let s = widened(s);
                let along = matching(self.2.clone(), &s).reshape([1; D]);
                let across = matching(g, &s) - s.clone() * along;
                self.1.register::<D>(param.id, (s - across.mul_scalar(self.3)).cast(dtype));
            }
        }
        let mut mix = Mix(&first, grads, along, self.alpha, HashSet::new());
        model.visit(&mut mix);
        (model, mix.1)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{
        Fill, grad_values, grads, named, net, net_of, refused, values, zero_grads,
    };
    use burn::nn::Linear;
    use burn::tensor::{DType, Device};
    use firebrick_backend::testing::devices;

    fn flat(named: Vec<(String, Vec<f32>)>) -> Vec<f64> {
        named.into_iter().flat_map(|(_, values)| values).map(f64::from).collect()
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn up_is_the_formula_and_down_is_exact() {
        for form in [SamForm::Plain, SamForm::Adaptive { eta: 0.01 }] {
            let model = net(&Device::flex().autodiff());
            let start = values(&model);
            let g = flat(grad_values(&model, 0));
            let t: Vec<f64> = named(&model)
                .iter()
                .flat_map(|(path, values)| {
                    let offset = ["norm.beta", "linear.bias"].contains(&path.as_str());
                    values.iter().map(move |&p| match form {
                        SamForm::Adaptive { eta } if !offset => f64::from(p.abs()) + eta,
                        _ => 1.0,
                    })
                })
                .collect();
            let tg: Vec<f64> = g.iter().zip(&t).map(|(g, t)| g * t).collect();
            let sam = SamConfig::new().with_rho(0.3).with_form(form).init().expect("valid");
            let first = grads(&model, 0);
            let (up, snapshot) = sam.up(model, first);
            let norm = dot(&tg, &tg).sqrt();
            for (k, seen) in values(&up).iter().enumerate() {
                let expected = f64::from(start[k]) + 0.3 * t[k] * tg[k] / norm;
                assert!((f64::from(*seen) - expected).abs() < 1e-6, "{seen} {expected}");
            }
            assert!(up.linear.weight.is_require_grad());
            let second = grads(&up, 1);
            let (down, second) = sam.down(up, second, snapshot);
            assert_eq!(values(&down), start);
            assert_eq!(second.len(), 5);
        }
    }

    /// Of a weight (0, 3) and a bias 0 under gradients (4, 1) and 2: T g = (0.04, 3.01, 2).
    #[test]
    fn asams_eta_is_not_for_offsets() {
        let (device, plain) = (Device::flex().autodiff(), Device::flex());
        let weight = Param::from_data([[0.0f32], [3.0]], &device);
        let model = Linear { weight, bias: Some(Param::from_data([0.0f32], &device)) };
        let mut grads = GradientsParams::new();
        grads.register(model.weight.id, Tensor::<2>::from_floats([[4.0], [1.0]], &plain));
        let bias = model.bias.as_ref().expect("there").id;
        grads.register(bias, Tensor::<1>::from_floats([2.0], &plain));
        let form = SamForm::Adaptive { eta: 0.01 };
        let sam = SamConfig::new().with_rho(0.5).with_form(form).init().expect("valid");
        let (up, _) = sam.up(model, grads);
        let norm = (0.04f32 * 0.04 + 3.01 * 3.01 + 4.0).sqrt();
        let along = [0.01 * 0.04, 3.01 * 3.01, 2.0].map(|e| 0.5 * e / norm);
        for ((seen, start), along) in values(&up).into_iter().zip([0.0, 3.0, 0.0]).zip(along) {
            assert!((seen - start - along).abs() < 1e-6, "{seen}: {start} and {along}");
        }
    }

    #[test]
    fn gsam_takes_out_what_is_across() {
        let model = net(&Device::flex().autodiff());
        let sam = SamConfig::new().with_alpha(0.4).init().expect("valid");
        let (g, s) = (flat(grad_values(&model, 0)), flat(grad_values(&model, 1)));
        let first = grads(&model, 0);
        let (up, snapshot) = sam.up(model, first);
        let second = grads(&up, 1);
        let (down, mixed) = sam.down(up, second, snapshot);
        let before = values(&down);
        let mut sgd = crate::SgdConfig::new().fused().expect("valid");
        let after = values(&sgd.step(1.0, down, mixed));
        let along = dot(&g, &s) / dot(&s, &s);
        for k in 0..g.len() {
            let expected = s[k] - 0.4 * (g[k] - along * s[k]);
            let seen = f64::from(before[k]) - f64::from(after[k]);
            assert!((seen - expected).abs() < 1e-5, "{seen} {expected}");
        }
    }

    #[test]
    fn running_statistics_are_those_of_the_first_pass() {
        use burn::nn::{BatchNorm, BatchNormConfig};
        let device = Device::flex().autodiff();
        let model = BatchNormConfig::new(2).init(&device);
        let pass = |model: &BatchNorm, rows: [[f32; 2]; 3]| {
            let rows = Tensor::<2>::from_floats(rows, &device);
            let loss = (model.forward(rows.clone()) * rows).sum();
            GradientsParams::from_grads(loss.backward(), model)
        };
        let statistics = |model: &BatchNorm| {
            crate::wrapper::buffers::settle(model);
            let both = [model.running_mean.value(), model.running_var.value()];
            both.map(|tensor| tensor.into_data().try_into_vec::<f32>().expect("f32"))
        };
        let sam = SamConfig::new().init().expect("valid");
        let first = pass(&model, [[1.0, 3.0], [3.0, 7.0], [8.0, -1.0]]);
        let kept = statistics(&model);
        assert!((kept[0][0] - 0.4).abs() < 1e-6, "0.1 of the mean: {kept:?}");
        let (up, snapshot) = sam.up(model, first);
        let second = pass(&up, [[-5.0, 2.0], [4.0, 4.0], [9.0, 0.0]]);
        assert_ne!(statistics(&up), kept);
        let (down, _) = sam.down(up, second, snapshot);
        assert_eq!(statistics(&down), kept);
        // The next pass goes on from them: 0.9 of 0.4 and 0.1 of the mean 1.
        drop(pass(&down, [[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]]));
        assert!((statistics(&down)[0][0] - 0.46).abs() < 1e-6);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(SamConfig::new().with_rho(0.0).init(), "`rho` must be in (0, inf), got 0");
        refused(SamConfig::new().with_alpha(-1.0).init(), "`alpha` must be in [0, inf), got -1");
    }

    fn of_16_bits() -> impl Iterator<Item = (Device, DType)> {
        let both = |device: Device| [(device.clone(), DType::F16), (device, DType::BF16)];
        let supported = |(device, dtype): &(Device, DType)| device.supports_dtype(*dtype);
        devices().into_iter().flat_map(both).filter(supported)
    }

    #[test]
    fn a_zero_gradient_leaves_an_f16_model_finite() {
        for (device, dtype) in of_16_bits() {
            for form in [SamForm::Plain, SamForm::Adaptive { eta: 0.01 }] {
                let sam = SamConfig::new().with_form(form).with_alpha(0.4).init().expect("valid");
                let model = net_of(&device.clone().autodiff(), dtype);
                let start = values(&model);
                let first = zero_grads(&model);
                let (up, snapshot) = sam.up(model, first);
                assert_eq!(values(&up), start, "{dtype:?}");
                let second = zero_grads(&up);
                let (down, second) = sam.down(up, second, snapshot);
                assert_eq!(values(&down), start, "{dtype:?}");
                let mut sgd = crate::SgdConfig::new().fused().expect("valid");
                assert_eq!(values(&sgd.step(1.0, down, second)), start, "{dtype:?}");
            }
        }
    }

    /// Their squares are below the least and above the largest f16.
    #[test]
    fn small_and_large_gradients_of_16_bits_lead_as_far_as_others() {
        for (device, dtype) in of_16_bits() {
            for size in [1e-4f32, 1.0, 300.0] {
                let zeros = Tensor::<2>::zeros([2, 1], (&device.clone().autodiff(), dtype));
                let model = Linear { weight: Param::from_tensor(zeros), bias: None };
                let grads = |[a, b]: [f32; 2]| {
                    let mut grads = GradientsParams::new();
                    let data = [[a * size], [b * size]];
                    grads.register(model.weight.id, Tensor::<2>::from_data(data, (&device, dtype)));
                    grads
                };
                let (first, second) = (grads([0.6, 0.8]), grads([0.0, 1.0]));
                let sam = SamConfig::new().with_rho(0.5).with_alpha(0.5).init().expect("valid");
                let (up, snapshot) = sam.up(model.clone(), first);
                for (seen, expected) in values(&up).into_iter().zip([0.3, 0.4]) {
                    assert!((seen - expected).abs() < 5e-3, "{dtype:?} {size}: {seen}");
                }
                let (down, mixed) = sam.down(up, second, snapshot);
                // (0, 1) - 0.5 ((0.6, 0.8) - 0.8 (0, 1))
                let mixed: Tensor<2> = mixed.get(down.weight.id).expect("there");
                assert_eq!(mixed.dtype(), dtype);
                let mixed: Vec<f32> = mixed.try_to_vec_as().expect("reads");
                for (seen, expected) in mixed.into_iter().zip([-0.3, 1.0]) {
                    assert!((seen / size - expected).abs() < 1e-2, "{dtype:?} {size}: {seen}");
                }
            }
        }
    }

    #[test]
    fn norms_of_f32_stand_beside_weights_of_16_bits() {
        for (device, dtype) in of_16_bits() {
            for form in [SamForm::Plain, SamForm::Adaptive { eta: 0.01 }] {
                let config = SamConfig::new().with_rho(2.0).with_form(form).with_alpha(0.4);
                let sam = config.init().expect("valid");
                let mut model = net_of(&device.clone().autodiff(), dtype);
                model.norm = model.norm.map(&mut Fill(DType::F32, 20));
                let start = values(&model);
                let first = grads(&model, 0);
                let (up, snapshot) = sam.up(model, first);
                assert_eq!(up.linear.weight.val().dtype(), dtype);
                assert_eq!(up.norm.gamma.val().dtype(), DType::F32);
                if form == SamForm::Plain {
                    let moved: Vec<f64> =
                        values(&up).iter().zip(&start).map(|(a, b)| f64::from(a - b)).collect();
                    let way = dot(&moved, &moved).sqrt();
                    assert!((way - 2.0).abs() < 0.05, "{dtype:?}: {way}");
                }
                let second = grads(&up, 1);
                let (down, second) = sam.down(up, second, snapshot);
                assert_eq!(values(&down), start);
                let gamma: Tensor<1> = second.get(down.norm.gamma.id).expect("there");
                assert_eq!(gamma.dtype(), DType::F32);
            }
        }
    }
}
