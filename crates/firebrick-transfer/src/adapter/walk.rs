//! Reading and setting the parameters of a model with adapters.

use super::matrix::Layout;
use super::state::Values;
use crate::TransferError;
use crate::group::Stack;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use firebrick_backend::checkpointing::in_place_of;
use std::collections::BTreeMap;

/// What an adapter does to a weight.
#[derive(Debug)]
pub(super) enum Change {
    /// It adds this.
    Sum(Values),
    /// It multiplies by these.
    Factors { by_input: bool, layout: Layout, factors: Values },
}

/// Reads the parameters called `kept`.
pub(super) struct Read<'a> {
    pub(super) stack: Stack,
    pub(super) kept: &'a [&'a str],
    pub(super) found: BTreeMap<String, Values>,
    pub(super) error: Option<TransferError>,
}

impl<'a> Read<'a> {
    /// The parameters of `model` called `kept`, by path.
    pub(super) fn of<M: Module>(
        model: &M,
        kept: &'a [&'a str],
    ) -> Result<BTreeMap<String, Values>, TransferError> {
        let (found, error) = (BTreeMap::new(), None);
        let mut read = Self { stack: Stack::default(), kept, found, error };
        model.visit(&mut read);
        match read.error {
            Some(error) => Err(error),
            None => Ok(read.found),
        }
    }
}

impl ModuleVisitor for Read<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.stack.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.stack.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.stack.path();
        if !self.kept.contains(&path.as_str()) {
            return;
        }
        let value = param.base().inner();
        let shape = value.dims().to_vec();
        match value.try_to_vec_as() {
            Ok(values) => {
                self.found.insert(path, Values { shape, values });
            }
            Err(error) => {
                self.error.get_or_insert(error.into());
            }
        }
    }
}

/// A parameter with other values, as trainable as before.
fn set<const D: usize>(param: Param<Tensor<D>>, values: Vec<f64>) -> Param<Tensor<D>> {
    let trains = param.is_require_grad();
    param.map(|old| {
        let (shape, dtype) = (old.dims(), old.dtype());
        let device = old.clone().inner().device();
        let new = Tensor::<D>::from_data(TensorData::new(values, shape), (&device, dtype));
        in_place_of(new, &old, trains)
    })
}

pub(super) struct Fill<'a> {
    pub(super) stack: Stack,
    pub(super) tensors: &'a BTreeMap<String, Values>,
}

impl ModuleMapper for Fill<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.stack.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.stack.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.tensors.get(&self.stack.path()) {
            Some(values) => set(param, values.values.clone()),
            None => param,
        }
    }
}

pub(super) struct Undo {
    pub(super) stack: Stack,
    pub(super) changes: BTreeMap<String, Change>,
}

impl ModuleMapper for Undo {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.stack.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.stack.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let trains = param.is_require_grad();
        match self.changes.remove(&self.stack.path()) {
            None => param,
            Some(change) => param.map(|old| {
                let own = old.clone().inner();
                let (shape, device, dtype) = (own.dims(), own.device(), own.dtype());
                let new = match change {
                    Change::Sum(Values { values, .. }) => {
                        own - Tensor::from_data(TensorData::new(values, shape), (&device, dtype))
                    }
                    Change::Factors { by_input, layout, factors } => {
                        let size = factors.values.len();
                        let wide = if by_input { [size, 1] } else { [1, size] };
                        let data = TensorData::new(factors.values, wide);
                        let factors = Tensor::<2>::from_data(data, (&device, dtype));
                        layout.to_weight(layout.to_matrix(own) / factors, shape)
                    }
                };
                in_place_of(new, &old, trains)
            }),
        }
    }
}
