//! What a model has: every parameter with its path, owner, kind, shape, element type and values.

use burn::module::{Module, ModuleVisitor, Param, Parameter};
use burn::tensor::kind::Basic;
use burn::tensor::{Bool, DType, Int, Tensor, TensorData};

/// Floats, integers or truth values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Float,
    Int,
    Bool,
}

impl Kind {
    /// Whether values of a file's element type may stand in a parameter of this kind.
    pub(super) fn accepts(self, dtype: DType) -> bool {
        match self {
            Self::Float => dtype.is_float(),
            Self::Int => dtype.is_int() || dtype.is_uint(),
            Self::Bool => dtype.is_bool(),
        }
    }
}

/// One parameter of a model.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// Path with the variants of enums as segments, as burn's records spell it.
    pub(super) path: String,
    /// Path without them, as other frameworks would spell it.
    pub(super) plain: String,
    /// Type of the layer that owns it: `Linear`.
    pub(super) owner: String,
    pub(super) kind: Kind,
    pub(super) shape: Vec<usize>,
    pub(super) dtype: DType,
    /// The values that it has now.
    pub(super) data: TensorData,
}

impl Slot {
    /// The last segment of its path.
    pub(super) fn leaf(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or_default()
    }

    /// A matrix of a `Linear`: `[in, out]` in burn, `[out, in]` in PyTorch.
    pub(super) fn is_matrix(&self) -> bool {
        self.owner == "Linear" && self.leaf() == "weight" && self.shape.len() == 2
    }

    /// The leaf's name in PyTorch: scale and offset of norms are called weight and bias there.
    pub(super) fn torch_leaf(&self) -> &str {
        let norm = ["BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RmsNorm"];
        match self.leaf() {
            "gamma" if norm.contains(&self.owner.as_str()) => "weight",
            "beta" if norm.contains(&self.owner.as_str()) => "bias",
            "alpha" if self.owner == "PRelu" => "weight",
            leaf => leaf,
        }
    }

    /// Number of elements.
    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Lists the parameters of a model in the order in which burn visits them; lazy ones are drawn by this.
pub(super) fn inventory<M: Module>(model: &M) -> Vec<Slot> {
    let mut list = List::default();
    model.visit(&mut list);
    list.slots
}

#[derive(Default)]
struct List {
    names: Vec<String>,
    containers: Vec<String>,
    slots: Vec<Slot>,
}

impl List {
    fn add<const D: usize, K: Basic>(&mut self, param: &Param<Tensor<D, K>>, kind: Kind)
    where
        Tensor<D, K>: Parameter,
    {
        // The form in which burn saves it, which is also the form in which it loads.
        let data = param.transform_for_save().val().into_data();
        let is_variant = |container: &String| container.starts_with("Enum:");
        let plain =
            self.names.iter().zip(&self.containers).filter(|(_, container)| !is_variant(container));
        let plain: Vec<&str> = plain.map(|(name, _)| name.as_str()).collect();
        let owner = self
            .containers
            .iter()
            .rev()
            .find(|text| text.starts_with("Struct:") || is_variant(text));
        let owner = owner.and_then(|text| text.split_once(':')).map_or("", |(_, name)| name);
        self.slots.push(Slot {
            path: self.names.join("."),
            plain: plain.join("."),
            owner: owner.to_owned(),
            kind,
            shape: data.shape().to_vec(),
            dtype: data.dtype(),
            data,
        });
    }
}

impl ModuleVisitor for List {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.names.push(name.to_owned());
        self.containers.push(container.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.names.pop();
        self.containers.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.add(param, Kind::Float);
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.add(param, Kind::Int);
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.add(param, Kind::Bool);
    }
}
