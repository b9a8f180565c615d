//! Distance to the source weights: L2-SP in its coupled and decoupled forms.
//!
//! # Formula
//! ```text
//! L2-SP        a / 2 sum_shared (w - w0)^2 + b / 2 sum_new w^2                 added to the loss
//! decoupled    w = w - lr a (w - w0)                                           beside the optimizer's step
//! ```
//! The decoupled form is AdamW's decay of `w - w0`, and the right one under Adam, whose moments would rescale the
//! gradient of the coupled one.
//!
//! # Reference
//! X. Li, Y. Grandvalet, F. Davoine, "Explicit inductive bias for transfer learning", ICML 2018.

use crate::TransferError;
use crate::group::{Stack, listed};
use burn::config::Config;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use firebrick_backend::Role;
use firebrick_backend::checkpointing::{beside, in_place_of};
use firebrick_core::check;
use firebrick_regularize::Penalty;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The weights of a model at one moment, by path: what a fine-tuned model is measured against.
///
/// Running statistics are not in it. Loading gives two models of one file the same identities, so paths it is.
#[derive(Debug, Clone)]
pub struct Anchor {
    values: Arc<HashMap<String, (Vec<usize>, Tensor<1>)>>,
}

impl Anchor {
    /// The weights of `model`.
    #[must_use]
    pub fn of<M: Module>(model: &M) -> Self {
        struct Read {
            stack: Stack,
            values: HashMap<String, (Vec<usize>, Tensor<1>)>,
        }
        impl ModuleVisitor for Read {
            fn enter_module(&mut self, name: &str, container: &str) {
                self.stack.enter(name, container);
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.stack.exit();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if self.stack.role(D) == Role::Buffer || self.stack.in_adapter() {
                    return;
                }
                let value = param.base().inner();
                let shape = value.dims().to_vec();
                let size: usize = shape.iter().product();
                self.values.insert(self.stack.path(), (shape, value.reshape([size])));
            }
        }
        let mut read = Read { stack: Stack::default(), values: HashMap::new() };
        model.visit(&mut read);
        Self { values: Arc::new(read.values) }
    }

    /// The source's value of the parameter at `path`, where it has one of this shape.
    pub(crate) fn value<const D: usize>(&self, path: &str, shape: [usize; D]) -> Option<Tensor<D>> {
        let (known, value) = self.values.get(path)?;
        (known.as_slice() == shape.as_slice()).then(|| value.clone().reshape(shape))
    }

    /// Whether it has a parameter of this shape at `path`.
    #[must_use]
    pub fn has(&self, path: &str, shape: &[usize]) -> bool {
        self.values.get(path).is_some_and(|(known, _)| known == shape)
    }

    /// What it has, without its values.
    pub(crate) fn described(&self) -> String {
        let elements: usize =
            self.values.values().map(|(shape, _)| shape.iter().product::<usize>()).sum();
        format!("{} parameters with {elements} elements", self.values.len())
    }

    pub(super) fn known(&self) -> String {
        let mut known: Vec<_> = self.values.keys().map(String::as_str).collect();
        known.sort_unstable();
        listed(known)
    }

    /// The same without the parameters that a prefix covers: the head, where its classes are new ones.
    ///
    /// # Errors
    /// When the prefix covers nothing.
    pub fn without(&self, prefix: &str) -> Result<Self, TransferError> {
        let covered = |path: &String| crate::group::covers(prefix, path);
        if !self.values.keys().any(covered) {
            let known = self.known();
            return Err(TransferError::NoSuchParameter { path: prefix.into(), known });
        }
        let mut values = (*self.values).clone();
        values.retain(|path, _| !covered(path));
        Ok(Self { values: Arc::new(values) })
    }
}

/// Configuration of [`L2Sp`].
///
/// | field | symbol | default | range |
/// | --- | --- | --- | --- |
/// | `alpha` | a | 0.01 | `[0, inf)`; choose among 0.1, 0.01, 0.001 by validation |
/// | `beta` | b | 0.01 | `[0, inf)` |
#[derive(Config, Debug)]
pub struct L2SpConfig {
    /// Strength towards the source.
    #[config(default = 0.01)]
    pub alpha: f64,
    /// Strength towards 0 of what the source does not have.
    #[config(default = 0.01)]
    pub beta: f64,
}

impl L2SpConfig {
    /// The penalty towards `anchor`.
    ///
    /// # Errors
    /// When a strength is negative, NaN or infinite.
    pub fn init(&self, anchor: &Anchor) -> Result<L2Sp, TransferError> {
        check::non_negative("alpha", self.alpha)?;
        check::non_negative("beta", self.beta)?;
        Ok(L2Sp { alpha: self.alpha, beta: self.beta, anchor: anchor.clone() })
    }
}

/// [L2-SP](self): trainable parameters that the source has are drawn to it, others to 0. Biases and scales of norms
/// are penalized as weights are, running statistics and frozen parameters never.
///
/// ```
/// use burn::nn::LinearConfig;
/// use firebrick_regularize::Penalty;
/// use firebrick_transfer::{Anchor, L2SpConfig};
///
/// let device = burn::tensor::Device::flex().autodiff();
/// let model = LinearConfig::new(4, 2).init(&device);
/// let penalty = L2SpConfig::new().init(&Anchor::of(&model))?;
/// assert_eq!(penalty.term(&model).expect("trainable").into_scalar::<f32>(), 0.0);
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
#[derive(Debug, Clone)]
pub struct L2Sp {
    alpha: f64,
    beta: f64,
    anchor: Anchor,
}

impl Penalty for L2Sp {
    fn term<M: Module>(&self, model: &M) -> Option<Tensor<1>> {
        struct Sum<'a> {
            of: &'a L2Sp,
            stack: Stack,
            seen: HashSet<ParamId>,
            total: Option<Tensor<1>>,
        }
        impl ModuleVisitor for Sum<'_> {
            fn enter_module(&mut self, name: &str, container: &str) {
                self.stack.enter(name, container);
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.stack.exit();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let skip = self.stack.role(D) == Role::Buffer || !param.is_require_grad();
                if skip || !self.seen.insert(param.id) {
                    return;
                }
                let weight = param.val();
                let (from, strength) = match self.of.anchor.value(&self.stack.path(), weight.dims())
                {
                    Some(source) => {
                        let source = beside(source, &weight);
                        (weight - source, self.of.alpha)
                    }
                    None => (weight, self.of.beta),
                };
                let term = from.square().sum().mul_scalar(0.5 * strength);
                self.total = Some(match self.total.take() {
                    Some(total) => total + term,
                    None => term,
                });
            }
        }
        let mut sum = Sum { of: self, stack: Stack::default(), seen: HashSet::new(), total: None };
        model.visit(&mut sum);
        sum.total
    }
}

/// Draws the trainable parameters of `model` to `anchor`: `w = w - strength (w - w0)`; others are left alone.
///
/// The decoupled form of [L2-SP](L2Sp): call it before the optimizer's step with `strength = lr a`, as AdamW
/// decays.
///
/// # Errors
/// When `strength` is outside [0, 1] or NaN.
///
/// ```
/// use burn::nn::LinearConfig;
/// use firebrick_transfer::{Anchor, pull};
///
/// let device = burn::tensor::Device::flex().autodiff();
/// let source = LinearConfig::new(4, 2).init(&device);
/// let tuned = LinearConfig::new(4, 2).init(&device);
/// let back = pull(tuned, &Anchor::of(&source), 1.0)?;
/// assert_eq!(back.weight.val().into_data(), source.weight.val().into_data());
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
pub fn pull<M: Module>(model: M, anchor: &Anchor, strength: f64) -> Result<M, TransferError> {
    let strength = check::range("strength", strength, 0.0..=1.0)?;
    Ok(pull_by(model, anchor, &|_| strength))
}

/// [`pull`] with a strength for each path, taken as it is.
pub(crate) fn pull_by<M: Module>(model: M, anchor: &Anchor, strength: &dyn Fn(&str) -> f64) -> M {
    struct Draw<'a> {
        anchor: &'a Anchor,
        strength: &'a dyn Fn(&str) -> f64,
        stack: Stack,
    }
    impl ModuleMapper for Draw<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.stack.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.stack.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if !param.is_require_grad() {
                return param;
            }
            let path = self.stack.path();
            let source = self.anchor.value(&path, param.base().dims());
            let Some(source) = source else { return param };
            let strength = (self.strength)(&path);
            param.map(|old| {
                let weight = old.clone().inner();
                let weight = match strength {
                    // To the bit, which `w - (w - w0)` is not.
                    1.0 => source,
                    _ => weight.clone() - (weight - source).mul_scalar(strength),
                };
                in_place_of(weight, &old, true)
            })
        }
    }
    model.map(&mut Draw { anchor, strength, stack: Stack::default() })
}
