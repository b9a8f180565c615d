//! Initial weights of a whole model: which scheme for which layers.

use crate::adaptive::covers;
use crate::reparameterize::lengths_of;
use crate::units::unit_axis;
use crate::{Scheme, StabilizeError};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use firebrick_backend::{ParameterInfo, PathStack, Role, parameters};
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
    Groups(usize),
    Values(Vec<f64>),
}

impl Action {
    /// Whether it changes this one of the parameters.
    fn reaches(&self, select: &Select, path: &str, owner: &str, role: Role, rank: usize) -> bool {
        let drawn = matches!(role, Role::Weight | Role::Embedding);
        let fits = match self {
            Self::Draw(_) | Self::Scale(_) => drawn || select.names(path, role),
            Self::Groups(_) => role == Role::Weight && rank > 2,
            Self::Values(_) => select.names(path, role),
        };
        fits && role != Role::Buffer && select.selects(path, owner, role)
    }

    /// Why it does not change a parameter that is selected.
    fn misses(&self, role: Role) -> &'static str {
        match self {
            _ if role == Role::Buffer => "it is a running statistic, which `recalibrate` measures",
            Self::Groups(_) => "it is no kernel, which alone has groups",
            Self::Values(_) => "values need the path of a parameter",
            _ => {
                "a layer's weights and embeddings alone are drawn unless a rule names the parameter"
            }
        }
    }
}

/// How to draw the parameters of a model: rules by path, layer kind or role, the last that matches decides.
///
/// Without a rule, weights follow [`Scheme::LecunNormal`], embeddings N(0, 1), biases are 0 and all else stays.
/// A rule for a whole layer applies its scheme to weights and embeddings only; to reach a bias or the scale of a
/// norm, name it. A weight with learned lengths ([`normalize_weights`](crate::normalize_weights)) gets those of what it
/// is set to; one that is standardized or divided by its largest singular value keeps the size that this gives it.
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
    /// [`fixup_factor`](crate::fixup_factor) gives that of a residual branch.
    #[must_use]
    pub fn scale(mut self, select: Select, factor: f64) -> Self {
        self.rules.push((select, Action::Scale(factor)));
        self
    }

    /// Tells that the convolutions that `select` selects have `groups` groups, each drawn as a convolution of its own.
    ///
    /// A weight's shape does not show them: see [`Scheme`].
    ///
    /// ```
    /// use burn::{nn::conv::ConvTranspose2dConfig, tensor::Device};
    /// use firebrick_core::Seed;
    /// use firebrick_stabilize::{Initialize, Scheme, Select};
    ///
    /// let back = ConvTranspose2dConfig::new([64, 64], [4, 4]).with_groups(64).init(&Device::flex());
    /// let back = Initialize::new(Seed(1))
    ///     .weights(Scheme::KaimingNormal)
    ///     .groups(Select::path("weight"), 64)
    ///     .apply(back)?;
    /// // Each unit has one input of 16 elements.
    /// let square = back.weight.val().square().mean().into_scalar::<f32>();
    /// assert!((square * 16.0 - 2.0).abs() < 0.5);
    /// # Ok::<(), firebrick_stabilize::StabilizeError>(())
    /// ```
    #[must_use]
    pub fn groups(mut self, select: Select, groups: usize) -> Self {
        self.rules.push((select, Action::Groups(groups)));
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
    /// Before anything is drawn when a number inside a scheme is out of range or a rule changes nothing (no parameter is
    /// selected, or running statistics alone); when a scheme, a number of groups or a list of values does not fit a
    /// parameter's shape.
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
                Action::Groups(groups) => drop(check::at_least("groups", *groups, 1)?),
                Action::Values(values) => {
                    for value in values {
                        check::finite("values", *value)?;
                    }
                }
            }
            let reached = |p: &ParameterInfo| {
                action.reaches(select, &p.path, &p.owner, p.role, p.shape.len())
            };
            if parameters.iter().any(reached) {
                continue;
            }
            let mut selected =
                parameters.iter().filter(|p| select.selects(&p.path, &p.owner, p.role));
            if let Some(p) = selected.next() {
                let reason = action.misses(p.role).to_owned();
                let (path, shape) = (p.path.clone(), p.shape.clone());
                return Err(StabilizeError::Shape { path, shape, reason });
            }
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
        Ok(())
    }

    /// Draws what can be drawn and reports what cannot.
    pub(crate) fn fill<M: Module>(&self, model: M, report: &mut dyn FnMut(StabilizeError)) -> M {
        model.map(&mut Draw { rules: self, path: PathStack::default(), lengths: None, report })
    }

    /// The values of one parameter; `None` where it stays as it is.
    fn draw(
        &self,
        path: &str,
        owner: &str,
        role: Role,
        shape: &[usize],
    ) -> Result<Option<Vec<f64>>, String> {
        if self.only.as_ref().is_some_and(|only| !only.contains(path)) {
            return Ok(None);
        }
        let mut stream = self.seed.stream(&format!("init/{path}"));
        let count: usize = shape.iter().product();
        let mut values = match role {
            Role::Weight => Some(Action::Draw(self.weights)),
            _ => None,
        };
        let (mut factor, mut groups) = (1.0, None);
        for (select, action) in &self.rules {
            if !action.reaches(select, path, owner, role, shape.len()) {
                continue;
            }
            match action {
                Action::Scale(by) => factor *= by,
                Action::Groups(number) => groups = Some(*number),
                Action::Draw(_) | Action::Values(_) => values = Some(action.clone()),
            }
        }
        let values = match values {
            Some(Action::Draw(scheme)) => Some(scheme.draw(owner, shape, groups, &mut stream)?),
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
    /// The lengths of the units of the weight just set, and where they belong if they are learned.
    lengths: Option<(String, Vec<f64>)>,
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
        let (owner, role) = (self.path.owner(), self.path.role(D));
        let count: usize = shape.iter().product();
        // burn shows the lengths right after their weight.
        let lengths = self.lengths.take().filter(|(of, found)| *of == path && found.len() == count);
        let values = match self.rules.draw(&path, owner, role, &shape) {
            Ok(values) => values.or(lengths.map(|(_, found)| found)),
            Err(reason) => {
                (self.report)(StabilizeError::Shape { path, shape: shape.to_vec(), reason });
                return param;
            }
        };
        let Some(values) = values else { return param };
        if let (Role::Weight, Some(axis)) = (role, unit_axis(owner, D)) {
            self.lengths = Some((lengths_of(&path), unit_lengths(&values, &shape, axis)));
        }
        let trainable = param.is_require_grad();
        param.map(|old| {
            let (device, dtype) = (old.device(), old.dtype());
            // Flat at first: burn takes no data without an axis.
            let flat = Tensor::<1>::from_data(TensorData::new(values, [count]), (&device, dtype));
            flat.reshape(shape).set_require_grad(trainable)
        })
    }
}

/// The Euclidean norm of each unit of a weight with these values.
fn unit_lengths(values: &[f64], shape: &[usize], axis: usize) -> Vec<f64> {
    let (units, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    let mut squares = vec![0.0; units];
    for (index, value) in values.iter().enumerate() {
        squares[index / inner % units] += value * value;
    }
    squares.into_iter().map(f64::sqrt).collect()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::{initialize, normalize_weights};
    use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose1dConfig};
    use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;

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
    fn learned_lengths_are_those_of_the_weight_that_is_set() {
        for device in devices() {
            let device = device.autodiff();
            let model = (
                LinearConfig::new(200, 100).init(&device),
                Conv2dConfig::new([16, 32], [5, 5]).init(&device),
                ConvTranspose1dConfig::new([40, 20], 5).init(&device),
            );
            let model = normalize_weights(model, &Select::Role(Role::Weight)).expect("fits");
            let drawn = initialize(model.clone(), Scheme::KaimingNormal, Seed(1));
            let all = [
                (values(&drawn.0.weight), 200.0),
                (values(&drawn.1.weight), 400.0),
                (values(&drawn.2.weight), 200.0),
            ];
            for (weights, fan_in) in all {
                let n = weights.len() as f64;
                let gain = weights.iter().map(|w| w * w).sum::<f64>() / n * fan_in;
                // Normal: the mean square strays by sqrt(2 / n).
                assert!((gain - 2.0).abs() < 5.0 * 2.0 * (2.0 / n).sqrt(), "{fan_in}: {gain}");
            }
            let paths: Vec<_> =
                parameters(&drawn).into_iter().filter(|p| p.trainable).map(|p| p.path).collect();
            assert!(paths.contains(&"0.weight.weight_norm.lengths".to_owned()), "{paths:?}");
            // Given values are the weight itself; lengths that are named are taken as they are.
            let layer = LinearConfig::new(2, 2).with_bias(false).init(&device);
            let layer = normalize_weights(layer, &Select::path("weight")).expect("fits");
            let rules = Initialize::new(Seed(1)).values("weight", [3.0, 0.0, 4.0, 2.0]);
            let set = rules.apply(layer.clone()).expect("fits");
            let named = rules.values("weight.weight_norm.lengths", [10.0, 1.0]);
            let named = named.apply(layer).expect("fits");
            for (layer, expected) in [(set, [3.0, 0.0, 4.0, 2.0]), (named, [6.0, 0.0, 8.0, 1.0])] {
                for (value, expected) in values(&layer.weight).iter().zip(expected) {
                    assert!((value - expected).abs() < 1e-5, "{value} {expected}");
                }
            }
        }
    }

    #[test]
    fn rules_that_change_nothing_are_refused() {
        let rules = || Initialize::new(Seed(1));
        for (rules, reason) in [
            (rules().values("1.running_mean", [1.0, 2.0]), "which `recalibrate` measures"),
            (rules().at(Select::Role(Role::Buffer), Scheme::LecunNormal), "`recalibrate` measures"),
            (rules().values("2.0", [0.0; 6]), "values need the path of a parameter"),
            (rules().at(Select::layer("BatchNorm"), Scheme::LecunNormal), "names the parameter"),
            (rules().groups(Select::path("2"), 2), "it is no kernel, which alone has groups"),
        ] {
            let error = rules.apply(model()).expect_err("refused");
            assert!(matches!(error, StabilizeError::Shape { .. }), "{error}");
            assert!(error.to_string().ends_with(reason), "{error}");
        }
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
}
