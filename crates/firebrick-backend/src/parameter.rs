//! The parameters of a burn module: where each stands, what it is for, whether it trains.
//!
//! burn's visitors receive a parameter without its path. [`PathStack`] keeps the path, and the layer that
//! owns the parameter, while a visitor walks; [`parameters`] lists a whole module.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use std::fmt;

/// What a float parameter is for, told from the layer that owns it, its name and its rank.
///
/// Weight decay and penalties apply to [`Role::Weight`] alone unless the user says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Role {
    /// A matrix or kernel that multiplies its input.
    Weight,
    /// An offset.
    Bias,
    /// Scale or offset of a normalization layer.
    Norm,
    /// A table that is looked up by index, or entries of one: positions, class tokens.
    Embedding,
    /// A running statistic: visited as a parameter, never trained.
    Buffer,
    /// A learned scalar or vector of another kind: the slope of a PReLU, a layer scale.
    Vector,
}

impl Role {
    /// The role of a parameter called `name` with `rank` axes in a layer of type `owner`
    /// (`Linear`, `BatchNorm`, ..., without burn's prefix).
    ///
    /// The name decides first, then the owner, then the rank: an unknown layer's matrix is a weight, its
    /// vector is not. A parameter that is itself called after an embedding, a position or a token is an embedding,
    /// `position_embeddings` or `cls_token` say; what the field is called that a linear layer stands in does not count.
    #[must_use]
    pub fn of(owner: &str, name: &str, rank: usize) -> Self {
        match name {
            "running_mean" | "running_var" => Self::Buffer,
            "bias" => Self::Bias,
            "gamma" | "beta" => Self::Norm,
            _ if owner.ends_with("Norm") => Self::Norm,
            _ if owner.ends_with("Embedding") => Self::Embedding,
            _ if looked_up(name) && (rank >= 2 || !multiplies(owner)) => Self::Embedding,
            _ if rank >= 2 => Self::Weight,
            _ => Self::Vector,
        }
    }
}

/// Whether a parameter's own name says that it is an entry of a table. Words count, so that `decomposition` is none.
fn looked_up(name: &str) -> bool {
    name.contains("embed")
        || name.ends_with("_token")
        || name.split('_').any(|word| word.starts_with("position"))
}

/// Whether a layer of burn's multiplies its input by its parameters.
fn multiplies(owner: &str) -> bool {
    owner == "Linear" || owner.starts_with("Conv") || owner.starts_with("DeformConv")
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Weight => "weight",
            Self::Bias => "bias",
            Self::Norm => "norm",
            Self::Embedding => "embedding",
            Self::Buffer => "buffer",
            Self::Vector => "vector",
        })
    }
}

/// The way from a module's root to where a visitor stands.
///
/// Call [`enter`](Self::enter) and [`exit`](Self::exit) from the visitor's methods of the same names.
#[derive(Debug, Clone, Default)]
pub struct PathStack {
    names: Vec<String>,
    containers: Vec<String>,
}

impl PathStack {
    /// For `ModuleVisitor::enter_module` and `ModuleMapper::enter_module`.
    pub fn enter(&mut self, name: &str, container: &str) {
        self.names.push(name.to_owned());
        self.containers.push(container.to_owned());
    }

    /// For `ModuleVisitor::exit_module` and `ModuleMapper::exit_module`.
    pub fn exit(&mut self) {
        self.names.pop();
        self.containers.pop();
    }

    /// The path with dots: `layers.0.weight`.
    #[must_use]
    pub fn path(&self) -> String {
        self.names.join(".")
    }

    /// The type of the layer that owns what is visited: `Linear`; empty outside any layer.
    #[must_use]
    pub fn owner(&self) -> &str {
        let layer = |container: &&String| {
            container.starts_with("Struct:") || container.starts_with("Enum:")
        };
        let owner = self.containers.iter().rev().find(layer).map_or("", String::as_str);
        owner.split_once(':').map_or("", |(_, name)| name)
    }

    /// The role of the parameter that is visited, which has `rank` axes.
    #[must_use]
    pub fn role(&self, rank: usize) -> Role {
        Role::of(self.owner(), self.names.last().map_or("", String::as_str), rank)
    }
}

/// One float parameter of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParameterInfo {
    /// burn's identity of it; the same twice where a parameter is shared.
    pub id: ParamId,
    /// Path from the root: `layers.0.weight`.
    pub path: String,
    /// Type of the layer that owns it: `Linear`.
    pub owner: String,
    /// What it is for.
    pub role: Role,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Whether it receives gradients.
    pub trainable: bool,
}

impl ParameterInfo {
    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Lists the float parameters of `model` in the order in which burn visits them, buffers included.
///
/// A lazy parameter is drawn by this.
///
/// ```
/// use burn::nn::{BatchNormConfig, LinearConfig};
/// use firebrick_backend::{Role, parameters};
///
/// let device = burn::tensor::Device::flex().autodiff();
/// let model = (LinearConfig::new(3, 4).init(&device), BatchNormConfig::new(4).init(&device));
/// let roles: Vec<_> = parameters(&model).into_iter().map(|p| (p.path, p.role)).collect();
/// assert_eq!(roles[0], ("0.weight".into(), Role::Weight));
/// assert_eq!(roles[1], ("0.bias".into(), Role::Bias));
/// assert_eq!(roles[2], ("1.gamma".into(), Role::Norm));
/// assert_eq!(roles[4], ("1.running_mean".into(), Role::Buffer));
/// ```
#[must_use]
pub fn parameters<M: Module>(model: &M) -> Vec<ParameterInfo> {
    struct List {
        path: PathStack,
        found: Vec<ParameterInfo>,
    }
    impl ModuleVisitor for List {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found.push(ParameterInfo {
                id: param.id,
                path: self.path.path(),
                owner: self.path.owner().to_owned(),
                role: self.path.role(D),
                shape: param.val().dims().to_vec(),
                trainable: param.is_require_grad(),
            });
        }
    }
    let mut list = List { path: PathStack::default(), found: Vec::new() };
    model.visit(&mut list);
    list.found
}

/// Number of trainable elements of `model`, each shared parameter counted once, running statistics not at all.
///
/// burn's own `num_params` counts running statistics, frozen and shared parameters too. This is the number
/// that the size of a training set is compared with.
#[must_use]
pub fn trainable_elements<M: Module>(model: &M) -> usize {
    let mut seen = std::collections::HashSet::new();
    let counted = |parameter: &ParameterInfo| parameter.trainable && seen.insert(parameter.id);
    parameters(model).into_iter().filter(counted).map(|parameter| parameter.elements()).sum()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::nn::{BatchNormConfig, EmbeddingConfig, LayerNormConfig, LinearConfig, LstmConfig};
    use burn::tensor::Device;

    #[test]
    fn roles_follow_name_owner_and_rank() {
        let device = Device::flex().autodiff();
        let model = (
            EmbeddingConfig::new(7, 3).init(&device),
            vec![LayerNormConfig::new(3).init(&device)],
            LstmConfig::new(3, 2, true).init(&device),
        );
        for parameter in parameters(&model) {
            let expected = match parameter.path.rsplit('.').next() {
                Some("bias") => Role::Bias,
                Some("gamma" | "beta") => Role::Norm,
                _ if parameter.path == "0.weight" => Role::Embedding,
                _ => Role::Weight,
            };
            assert_eq!(parameter.role, expected, "{}", parameter.path);
        }
        assert_eq!(Role::of("Mystery", "alpha", 1), Role::Vector);
        assert_eq!(Role::of("Mystery", "matrix", 2), Role::Weight);
        assert_eq!(Role::of("RmsNorm", "scale", 1), Role::Norm);
    }

    #[test]
    fn tables_of_a_models_own_are_embeddings_and_a_layer_called_after_one_is_not() {
        #[derive(Module, Debug)]
        struct Vision {
            patch_embed: burn::nn::Linear,
            position: burn::nn::Linear,
            pos_embed: Param<Tensor<3>>,
            cls_token: Param<Tensor<3>>,
            dist_token: Param<Tensor<1>>,
            positions: Param<Tensor<2>>,
            decomposition: Param<Tensor<2>>,
            token_mixer: Param<Tensor<2>>,
        }
        let device = Device::flex().autodiff();
        let cube = || Param::from_data([[[1.0, 2.0]]], &device);
        let table = || Param::from_data([[1.0, 2.0]], &device);
        let model = Vision {
            patch_embed: LinearConfig::new(2, 2).init(&device),
            position: LinearConfig::new(2, 2).init(&device),
            pos_embed: cube(),
            cls_token: cube(),
            dist_token: Param::from_data([1.0], &device),
            positions: table(),
            decomposition: table(),
            token_mixer: table(),
        };
        let roles: Vec<_> = parameters(&model).into_iter().map(|p| (p.path, p.role)).collect();
        let expected = [
            ("patch_embed.weight", Role::Weight),
            ("patch_embed.bias", Role::Bias),
            ("position.weight", Role::Weight),
            ("position.bias", Role::Bias),
            ("pos_embed", Role::Embedding),
            ("cls_token", Role::Embedding),
            ("dist_token", Role::Embedding),
            ("positions", Role::Embedding),
            ("decomposition", Role::Weight),
            ("token_mixer", Role::Weight),
        ];
        assert_eq!(roles, expected.map(|(path, role)| (path.to_owned(), role)));
        assert_eq!(Role::of("Linear", "embed", 1), Role::Vector);
        assert_eq!(Role::of("LayerNorm", "embed", 2), Role::Norm);
        assert_eq!(Role::of("Mystery", "relative_position_bias_table", 2), Role::Embedding);
    }

    #[test]
    fn elements_count_neither_statistics_nor_frozen_nor_twice() {
        let device = Device::flex().autodiff();
        let linear = LinearConfig::new(3, 4).init(&device);
        let model = (linear.clone(), BatchNormConfig::new(4).init(&device), linear);
        assert_eq!(trainable_elements(&model), 3 * 4 + 4 + 2 * 4);
        assert!(parameters(&model).iter().any(|p| p.role == Role::Buffer && !p.trainable));
        assert_eq!(trainable_elements(&model.no_grad()), 0);
    }
}
