//! Initial weights of a whole model: which scheme for which layers.

use crate::adaptive::covers;
use crate::{Scheme, StabilizeError};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use firebrick_backend::{PathStack, Role, parameters};
use firebrick_core::{Seed, check};
use std::collections::{BTreeSet, HashSet};

/// Which parameters of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Select {
    /// A parameter or all within a module, by path: `head` covers `head.weight`, and not `header.weight`.
    Path(String),
    /// All in layers of one kind: `Conv2d`.
    Layer(String),
    /// All with a role.
    Role(Role),
    /// All whose path ends so, in whole names: `forget_gate.hidden_transform.weight`.
    Ending(String),
}

impl Select {
    /// By path.
    pub fn path(path: impl Into<String>) -> Self {
        Self::Path(path.into())
    }

    /// By the kind of layer.
    pub fn layer(kind: impl Into<String>) -> Self {
        Self::Layer(kind.into())
    }

    /// By the end of the path.
    pub fn ending(end: impl Into<String>) -> Self {
        Self::Ending(end.into())
    }

    pub(crate) fn selects(&self, path: &str, owner: &str, role: Role) -> bool {
        match self {
            Self::Path(part) => covers(part, path),
            Self::Layer(kind) => kind == owner,
            Self::Role(wanted) => *wanted == role,
            Self::Ending(end) => path
                .strip_suffix(end.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
        }
    }

    /// Whether the selection can only mean this one parameter, so that a scheme applies whatever its role.
    fn names(&self, path: &str, role: Role) -> bool {
        match self {
            Self::Path(part) | Self::Ending(part) => {
                path == part || matches!(self, Self::Ending(_)) && path.ends_with(part.as_str())
            }
            Self::Role(wanted) => *wanted == role,
            Self::Layer(_) => false,
        }
    }
}

impl std::fmt::Display for Select {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(f, "path `{path}`"),
            Self::Layer(kind) => write!(f, "layer kind `{kind}`"),
            Self::Role(role) => write!(f, "role `{role}`"),
            Self::Ending(end) => write!(f, "path ending `{end}`"),
        }
    }
}

#[derive(Debug, Clone)]
enum Action {
    Draw(Scheme),
    Scale(f64),
    Values(Vec<f64>),
}

/// How to draw the parameters of a model: rules by path, layer kind or role, the last that matches decides.
///
/// Without a rule, weights follow [`Scheme::LecunNormal`], embeddings N(0, 1), biases are 0 and all else stays.
/// A rule for a whole layer applies its scheme to weights and embeddings only; to reach a bias or the scale of a
/// norm, name it.
///
/// ```
/// use burn::{nn::{BatchNormConfig, LinearConfig}, tensor::Device};
/// use firebrick_core::Seed;
/// use firebrick_stabilize::{Initialize, Scheme, Select};
///
/// let device = Device::flex().autodiff();
/// let model = (
///     LinearConfig::new(8, 8).init(&device),
///     BatchNormConfig::new(8).init(&device),
///     LinearConfig::new(8, 3).init(&device),
/// );
/// let model = Initialize::new(Seed(1))
///     .weights(Scheme::KaimingNormal)
///     .at(Select::path("2"), Scheme::Orthogonal { gain: 0.1 })
///     .at(Select::path("1.gamma"), Scheme::Constant { value: 0.0 }) // the last norm of a residual branch
///     .values("2.bias", [0.7, 0.2, 0.1].map(f64::ln)) // the log priors of three classes
///     .apply(model)?;
/// let bias = model.2.bias.expect("has one").val().try_to_vec_as::<f32>().expect("reads");
/// assert_eq!(bias[0], 0.7f64.ln() as f32);
/// # Ok::<(), firebrick_stabilize::StabilizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Initialize {
    seed: Seed,
    weights: Scheme,
    rules: Vec<(Select, Action)>,
    only: Option<HashSet<String>>,
}

impl Initialize {
    /// No rules yet.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self { seed, weights: Scheme::LecunNormal, rules: Vec::new(), only: None }
    }

    /// The scheme of all weights that no rule names.
    #[must_use]
    pub fn weights(mut self, scheme: Scheme) -> Self {
        self.weights = scheme;
        self
    }

    /// The scheme of what `select` selects.
    #[must_use]
    pub fn at(mut self, select: Select, scheme: Scheme) -> Self {
        self.rules.push((select, Action::Draw(scheme)));
        self
    }

    /// Multiplies the weights that `select` selects by `factor` after they are drawn; several factors multiply.
    ///
    /// [`fixup_factor`] gives that of a residual branch.
    #[must_use]
    pub fn scale(mut self, select: Select, factor: f64) -> Self {
        self.rules.push((select, Action::Scale(factor)));
        self
    }

    /// Sets the parameter at `path` to `values`, in row-major order.
    #[must_use]
    pub fn values(mut self, path: impl Into<String>, values: impl Into<Vec<f64>>) -> Self {
        self.rules.push((Select::Path(path.into()), Action::Values(values.into())));
        self
    }

    /// Leaves every parameter alone whose path is not among these.
    pub(crate) fn only(mut self, paths: impl IntoIterator<Item = String>) -> Self {
        self.only = Some(paths.into_iter().collect());
        self
    }

    /// Draws the parameters of `model`; each has a stream named by its path.
    ///
    /// # Errors
    /// Before anything is drawn when a number inside a scheme is out of range or a rule selects nothing; when a
    /// scheme or a list of values does not fit a parameter's shape.
    pub fn apply<M: Module>(&self, model: M) -> Result<M, StabilizeError> {
        self.check(&model)?;
        let mut first = None;
        let model = self.fill(model, &mut |error| {
            first.get_or_insert(error);
        });
        first.map_or(Ok(model), Err)
    }

    fn check<M: Module>(&self, model: &M) -> Result<(), StabilizeError> {
        self.weights.check()?;
        let parameters = parameters(model);
        for (select, action) in &self.rules {
            match action {
                Action::Draw(scheme) => scheme.check()?,
                Action::Scale(factor) => drop(check::finite("factor", *factor)?),
                Action::Values(values) => {
                    for value in values {
                        check::finite("values", *value)?;
                    }
                }
            }
            if !parameters.iter().any(|p| select.selects(&p.path, &p.owner, p.role)) {
                let known: BTreeSet<&str> = parameters
                    .iter()
                    .map(|p| if matches!(select, Select::Layer(_)) { &p.owner } else { &p.path })
                    .map(String::as_str)
                    .collect();
                return Err(StabilizeError::NothingSelected {
                    selection: select.to_string(),
                    known: known.into_iter().collect::<Vec<_>>().join(", "),
                });
            }
        }
        Ok(())
    }

    /// Draws what can be drawn and reports what cannot.
    pub(crate) fn fill<M: Module>(&self, model: M, report: &mut dyn FnMut(StabilizeError)) -> M {
        model.map(&mut Draw { rules: self, path: PathStack::default(), report })
    }

    /// The values of one parameter; `None` where it stays as it is.
    fn draw(
        &self,
        path: &str,
        owner: &str,
        role: Role,
        shape: &[usize],
    ) -> Result<Option<Vec<f64>>, String> {
        if role == Role::Buffer || self.only.as_ref().is_some_and(|only| !only.contains(path)) {
            return Ok(None);
        }
        let mut stream = self.seed.stream(&format!("init/{path}"));
        let count: usize = shape.iter().product();
        let mut values = match role {
            Role::Weight => Some(Action::Draw(self.weights)),
            _ => None,
        };
        let mut factor = 1.0;
        for (select, action) in &self.rules {
            if !select.selects(path, owner, role) {
                continue;
            }
            let drawn = matches!(role, Role::Weight | Role::Embedding);
            match action {
                Action::Scale(by) if drawn || select.names(path, role) => factor *= by,
                Action::Draw(_) if drawn || select.names(path, role) => {
                    values = Some(action.clone());
                }
                Action::Values(_) => values = Some(action.clone()),
                _ => {}
            }
        }
        let values = match values {
            Some(Action::Draw(scheme)) => Some(scheme.draw(owner, shape, &mut stream)?),
            Some(Action::Values(values)) if values.len() == count => Some(values),
            Some(Action::Values(values)) => {
                return Err(format!("{} values were given for {count} elements", values.len()));
            }
            _ => match role {
                Role::Embedding => Some((0..count).map(|_| stream.normal()).collect()),
                Role::Bias => Some(vec![0.0; count]),
                _ if factor != 1.0 => return Err("it is not drawn, so it has no factor".into()),
                _ => None,
            },
        };
        Ok(values.map(|values| values.into_iter().map(|value| value * factor).collect()))
    }
}

struct Draw<'a> {
    rules: &'a Initialize,
    path: PathStack,
    report: &'a mut dyn FnMut(StabilizeError),
}

impl ModuleMapper for Draw<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // The value's shape, not the lazy one: a column-layout Linear is declared transposed.
        let (path, shape) = (self.path.path(), param.val().dims());
        match self.rules.draw(&path, self.path.owner(), self.path.role(D), &shape) {
            Ok(None) => param,
            Ok(Some(values)) => {
                let trainable = param.is_require_grad();
                param.map(|old| {
                    let (device, dtype) = (old.device(), old.dtype());
                    // Flat at first: burn takes no data without an axis.
                    let flat = TensorData::new(values, [shape.iter().product::<usize>()]);
                    let flat = Tensor::<1>::from_data(flat, (&device, dtype));
                    flat.reshape(shape).set_require_grad(trainable)
                })
            }
            Err(reason) => {
                (self.report)(StabilizeError::Shape { path, shape: shape.to_vec(), reason });
                param
            }
        }
    }
}

/// The factor of the weights of a residual branch with `layers` layers in a net of `branches` branches, the
/// last layer apart, which starts at 0: `branches^(-1 / (2 layers - 2))`.
///
/// H. Zhang, Y. Dauphin, T. Ma, "Fixup initialization: residual learning without normalization", ICLR 2019.
///
/// # Errors
/// When `branches` is 0 or `layers` below 2.
///
/// ```
/// assert_eq!(firebrick_stabilize::fixup_factor(16, 2)?, 0.25);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
pub fn fixup_factor(branches: usize, layers: usize) -> Result<f64, firebrick_core::ConfigError> {
    check::at_least("branches", branches, 1)?;
    check::at_least("layers", layers, 2)?;
    Ok((branches as f64).powf(-1.0 / (2 * layers - 2) as f64))
}

/// The biases of a softmax layer that predict the classes at their frequencies: `ln(count / total)`.
///
/// The loss then starts at the entropy of the classes. For a sigmoid, take the difference of the two.
///
/// # Errors
/// When there is no class or a count is not above 0 and finite.
///
/// ```
/// let bias = firebrick_stabilize::class_prior_bias(&[30.0, 10.0])?;
/// assert_eq!(bias, [0.75f64.ln(), 0.25f64.ln()]);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
pub fn class_prior_bias(counts: &[f64]) -> Result<Vec<f64>, firebrick_core::ConfigError> {
    check::at_least("number of classes", counts.len(), 1)?;
    for count in counts {
        check::positive("counts", *count)?;
    }
    let total: f64 = counts.iter().sum();
    Ok(counts.iter().map(|count| (count / total).ln()).collect())
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::nn::conv::{Conv2d, Conv2dConfig};
    use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
    use burn::tensor::Device;

    fn model() -> (Conv2d, BatchNorm, Vec<Linear>) {
        let device = Device::flex().autodiff();
        let linear = || LinearConfig::new(6, 6).init(&device);
        let conv = Conv2dConfig::new([4, 2], [3, 3]).init(&device);
        (conv, BatchNormConfig::new(2).init(&device), vec![linear(), linear()])
    }

    fn values<const D: usize>(param: &Param<Tensor<D>>) -> Vec<f64> {
        param.val().try_to_vec_as().expect("reads")
    }

    #[test]
    fn the_last_rule_that_matches_decides() {
        let plain = Initialize::new(Seed(5)).apply(model()).expect("fits");
        let model = Initialize::new(Seed(5))
            .at(Select::layer("Linear"), Scheme::Identity { gain: 1.0 })
            .at(Select::path("2.1"), Scheme::LecunNormal)
            .scale(Select::path("2.1"), 0.5)
            .scale(Select::path("2.1.weight"), 0.5)
            .at(Select::path("1.gamma"), Scheme::Constant { value: 0.0 })
            .apply(model())
            .expect("fits");
        assert_eq!(values(&model.2[0].weight).iter().sum::<f64>(), 6.0);
        for (new, old) in values(&model.2[1].weight).iter().zip(values(&plain.2[1].weight)) {
            assert!((new - 0.25 * old).abs() < 1e-7);
        }
        assert_eq!(values(&model.1.gamma), [0.0, 0.0]);
        assert_eq!(values(&model.1.beta), [0.0, 0.0]);
        assert_eq!(values(model.2[0].bias.as_ref().expect("has one")), [0.0; 6]);
        assert_eq!(values(&model.0.weight), values(&plain.0.weight));
        assert!(model.2[1].weight.is_require_grad());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let refused = |rules: Initialize| rules.apply(model()).expect_err("refused").to_string();
        let rules = Initialize::new(Seed(1));
        let nothing = rules.clone().at(Select::path("2.10"), Scheme::LecunNormal);
        assert!(
            refused(nothing)
                .starts_with("path `2.10` selects no parameter of the model; it has 0.bias")
        );
        let kind = rules.clone().at(Select::layer("Lstm"), Scheme::LecunNormal);
        assert_eq!(
            refused(kind),
            "layer kind `Lstm` selects no parameter of the model; it has BatchNorm, Conv2d, Linear"
        );
        let delta = rules.clone().weights(Scheme::DeltaOrthogonal { gain: 1.0 });
        assert_eq!(
            refused(delta),
            "`0.weight` of shape [2, 4, 3, 3] cannot be set: delta-orthogonal needs outputs >= inputs, got 2 < 4"
        );
        let short = rules.clone().values("2.0.bias", [1.0]);
        assert!(refused(short).ends_with("1 values were given for 6 elements"));
        let vector = rules.clone().at(Select::path("2.0.bias"), Scheme::Orthogonal { gain: 1.0 });
        assert!(refused(vector).ends_with("a vector has no rows and columns"));
        let gain = rules.weights(Scheme::Orthogonal { gain: f64::NAN });
        assert_eq!(refused(gain), "`gain` must be in (0, inf), got NaN");
    }

    #[test]
    fn a_parameter_without_axes_is_set_by_name() {
        let one = Tensor::<1>::from_floats([1.0], &Device::flex().autodiff());
        let model = vec![Param::from_tensor(one.reshape::<0, _>([] as [i32; 0]))];
        let model = Initialize::new(Seed(1)).values("0", [0.25]).apply(model).expect("fits");
        assert_eq!(values(&model[0]), [0.25]);
        assert!(model[0].is_require_grad());
    }

    #[test]
    fn helpers_check_their_input() {
        assert!(fixup_factor(4, 1).is_err() && fixup_factor(0, 2).is_err());
        assert!(class_prior_bias(&[]).is_err() && class_prior_bias(&[1.0, 0.0]).is_err());
    }
}
