//! What a model consists of: its parameters and switches, by path.

use burn::module::{Flag, Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use firebrick_backend::Role;

/// Whether `prefix` names `path` or a module that it lies in, segment by segment: `layers.1` does not cover
/// `layers.10.weight`.
#[must_use]
pub fn covers(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    /// A float parameter or a running statistic.
    Tensor { role: Role, shape: Vec<usize>, trains: bool },
    /// A switch, such as `dropout.training`.
    Switch { on: bool },
}

/// A parameter or a switch of a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Place {
    pub(crate) path: String,
    /// Type of the layer that owns it.
    pub(crate) owner: String,
    /// Type of what holds each segment of the path: `Struct:Net`, `Vec`.
    pub(crate) containers: Vec<String>,
    pub(crate) id: ParamId,
    pub(crate) item: Item,
}

impl Place {
    pub(crate) fn role(&self) -> Option<Role> {
        match &self.item {
            Item::Tensor { role, .. } => Some(*role),
            Item::Switch { .. } => None,
        }
    }

    /// Elements of a parameter; nothing for statistics and switches.
    pub(crate) fn elements(&self) -> usize {
        match &self.item {
            Item::Tensor { role, shape, .. } if *role != Role::Buffer => shape.iter().product(),
            _ => 0,
        }
    }

    /// Whether it belongs to an adapter that hangs on a weight.
    pub(crate) fn in_adapter(&self) -> bool {
        self.containers.iter().any(|container| container == ADAPTER)
    }

    pub(crate) fn trains(&self) -> bool {
        matches!(self.item, Item::Tensor { trains: true, .. })
    }
}

/// burn's name for what holds the parameters of a reparameterization.
pub(crate) const ADAPTER: &str = "Reparameterization";

/// Names and containers from the root to where a visitor stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stack {
    names: Vec<String>,
    containers: Vec<String>,
}

impl Stack {
    pub(crate) fn enter(&mut self, name: &str, container: &str) {
        self.names.push(name.to_owned());
        self.containers.push(container.to_owned());
    }

    pub(crate) fn exit(&mut self) {
        self.names.pop();
        self.containers.pop();
    }

    pub(crate) fn path(&self) -> String {
        self.names.join(".")
    }

    pub(crate) fn owner(&self) -> &str {
        let layer = |container: &&String| {
            container.starts_with("Struct:") || container.starts_with("Enum:")
        };
        let owner = self.containers.iter().rev().find(layer).map_or("", String::as_str);
        owner.split_once(':').map_or("", |(_, name)| name)
    }

    pub(crate) fn in_adapter(&self) -> bool {
        self.containers.iter().any(|container| container == ADAPTER)
    }

    pub(crate) fn role(&self, rank: usize) -> Role {
        Role::of(self.owner(), self.names.last().map_or("", String::as_str), rank)
    }
}

/// All places of `model`, in the order in which burn visits them.
pub(crate) fn places<M: Module>(model: &M) -> Vec<Place> {
    #[derive(Default)]
    struct List {
        stack: Stack,
        found: Vec<Place>,
    }
    impl List {
        fn note(&mut self, id: ParamId, item: Item) {
            self.found.push(Place {
                path: self.stack.path(),
                owner: self.stack.owner().to_owned(),
                containers: self.stack.containers.clone(),
                id,
                item,
            });
        }
    }
    impl ModuleVisitor for List {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.stack.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.stack.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let (role, trains) = (self.stack.role(D), param.is_require_grad());
            let shape = param.base().dims().to_vec();
            self.note(param.id, Item::Tensor { role, shape, trains });
        }
        fn visit_flag(&mut self, flag: &Param<Flag>) {
            self.note(flag.id, Item::Switch { on: flag.base().is_enabled() });
        }
    }
    let mut list = List::default();
    model.visit(&mut list);
    list.found
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{net, residual};
    use burn::tensor::Device;

    #[test]
    fn prefixes_are_matched_by_whole_segments() {
        assert!(covers("layers.1", "layers.1.weight") && covers("head", "head"));
        assert!(!covers("layers.1", "layers.10.weight") && !covers("head", "header.weight"));
        assert!(!covers("layers.1", "my.layers.1.weight") && !covers("", "head"));
    }

    #[test]
    fn parameters_statistics_and_switches_are_found_with_their_owners() {
        let device = Device::flex().autodiff();
        let places = places(&residual(&device, 11));
        let find = |path: &str| places.iter().find(|place| place.path == path).expect("there");
        assert_eq!(find("stem.norm.running_mean").role(), Some(Role::Buffer));
        assert_eq!(find("stem.norm.running_mean").elements(), 0);
        assert_eq!(find("stem.norm.training").item, Item::Switch { on: true });
        assert_eq!(find("blocks.10.conv.weight").owner, "Conv2d");
        assert!(find("head.weight").trains() && !find("head.weight").in_adapter());
        let net = self::places(&net(&device));
        assert!(net.iter().any(|place| place.path == "dropout.noise.training"));
    }
}
